"""Requests to Gemini: how a completion is written down, and what goes back with it."""

import json
from typing import Any

import pytest

from core.errors import InvalidInput, UpstreamAuthentication, UpstreamOverloaded, UpstreamPermission
from core.model_types import ModelType
from core.model_types.llm import (
    ChatRequest,
    ContinuationPiece,
    FinishReason,
    Media,
    MediaKind,
    Message,
    ResponseFormat,
    Role,
    Text,
    Tool,
    ToolCall,
    ToolCallPiece,
    ToolChoice,
    ToolChoiceMode,
)
from core.provider import Call, ModelCard, Value
from core.secret import Secret
from core.wire.dialects.gemini import model_path
from core.wire.dialects.gemini.answer import decode_answer, stream_decoder
from core.wire.dialects.gemini.request import encode_request
from core.wire.failures import failure
from core.wire.http import Http
from tests.contracts.adapters import Adapter, streamed
from tests.fake_dialects.gemini import SIGNATURE
from tests.fake_provider import FakeProvider
from tests.wire.recordings import outcome_of

GEMINI = Adapter(provider="gemini")
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}


def user(*content: Text | Media) -> Message:
    return Message(role=Role.USER, content=content)


def encoded(*messages: Message, provider: str = "gemini", thinking: str | None = None, **more: Any) -> Any:
    request = ChatRequest(messages=messages or (user(Text("hi")),), **more)
    properties = {"thinking": thinking} if thinking else {}
    card = ModelCard(name="m", label="m", type=ModelType.LLM, properties=properties)
    return json.loads(encode_request(request, call=Call(model="m", card=card, values={}), provider=provider))


def test_turns_alternate_and_results_name_their_tool() -> None:
    made_up = "call_" + "0" * 32
    body = encoded(
        Message(role=Role.SYSTEM, content=(Text("Be brief."),)),
        user(Text("Look.")),
        Message(
            role=Role.ASSISTANT,
            tool_calls=(
                ToolCall(id=made_up, name="look", arguments='{"x": 1}'),
                ToolCall(id="abc", name="hear", arguments=""),
            ),
        ),
        Message(role=Role.TOOL, content=(Text('{"seen": true}'),), tool_call_id=made_up),
        Message(role=Role.TOOL, content=(Text("a noise"),), tool_call_id="abc"),
    )

    assert body["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    assert body["contents"] == [
        {"role": "user", "parts": [{"text": "Look."}]},
        {
            "role": "model",
            "parts": [
                {"functionCall": {"name": "look", "args": {"x": 1}}},
                {"functionCall": {"id": "abc", "name": "hear", "args": {}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "look", "response": {"seen": True}}},
                {"functionResponse": {"id": "abc", "name": "hear", "response": {"result": "a noise"}}},
            ],
        },
    ]


def test_parameters_tools_and_structure_have_their_names() -> None:
    body = encoded(
        parameters={"temperature": 0.5, "top_p": 0.9, "top_k": 5, "max_tokens": 9, "seed": 1},
        tools=(Tool(name="look", parameters={"type": "object"}),),
        tool_choice=ToolChoice(tool="look"),
        response_format=ResponseFormat(json_schema=SCHEMA),
        stop=("END",),
        provider_options={
            "tools": [{"googleSearch": {}}],
            "safetySettings": [],
            "generationConfig": {"candidateCount": 1},
        },
    )

    assert body["generationConfig"] == {
        "temperature": 0.5,
        "topP": 0.9,
        "topK": 5,
        "maxOutputTokens": 9,
        "seed": 1,
        "stopSequences": ["END"],
        "responseMimeType": "application/json",
        "responseJsonSchema": SCHEMA,
        "candidateCount": 1,
    }
    declared = {"functionDeclarations": [{"name": "look", "parametersJsonSchema": {"type": "object"}}]}
    assert body["tools"] == [declared, {"googleSearch": {}}]
    assert body["toolConfig"]["functionCallingConfig"] == {"mode": "ANY", "allowedFunctionNames": ["look"]}
    assert body["safetySettings"] == []


@pytest.mark.parametrize(
    ("way", "effort", "sent"),
    [
        ("level", "low", {"includeThoughts": True, "thinkingLevel": "low"}),
        ("budget", "low", {"includeThoughts": True, "thinkingBudget": 2048}),
        ("budget", "none", {"includeThoughts": False, "thinkingBudget": 0}),
        ("level", None, {"includeThoughts": True}),
        (None, None, None),
    ],
)
def test_an_effort_is_said_as_the_model_takes_it(way: str | None, effort: str | None, sent: Any) -> None:
    body = encoded(thinking=way, parameters={"reasoning_effort": effort} if effort else {})

    assert body.get("generationConfig", {}).get("thinkingConfig") == sent


def test_media_are_inline_or_by_address() -> None:
    body = encoded(
        user(
            Media(kind=MediaKind.AUDIO, base64="aGk=", mime_type="audio/mpeg"),
            Media(kind=MediaKind.DOCUMENT, base64="aGk="),
            Media(kind=MediaKind.VIDEO, url="https://example.com/a.mp4"),
        ),
        tools=(Tool(name="look", parameters={}),),
        tool_choice=ToolChoice(mode=ToolChoiceMode.NONE),
    )

    assert body["contents"][0]["parts"] == [
        {"inlineData": {"mimeType": "audio/mpeg", "data": "aGk="}},
        {"inlineData": {"mimeType": "application/pdf", "data": "aGk="}},
        {"fileData": {"fileUri": "https://example.com/a.mp4"}},
    ]
    assert body["toolConfig"]["functionCallingConfig"] == {"mode": "NONE"}


def test_a_result_of_a_call_that_nobody_made_is_refused() -> None:
    with pytest.raises(InvalidInput) as refused:
        encoded(user(Text("hi")), Message(role=Role.TOOL, content=(Text("1"),), tool_call_id="x"))

    assert refused.value.path == ("messages", "1", "toolCallId")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("gemini-x", "/models/gemini-x"),
        ("models/gemini-x", "/models/gemini-x"),
        ("tunedModels/mine", "/tunedModels/mine"),
        ("a/../b?c", "/models/a%2F..%2Fb%3Fc"),
    ],
)
def test_a_name_stays_within_its_place_of_the_path(name: str, path: str) -> None:
    assert model_path(name) == path


async def test_signatures_go_back_with_their_calls(provider: FakeProvider, http: Http) -> None:
    provider.answers("tools")
    made = GEMINI.build(http)
    assert made.llm is not None
    pieces = await made.llm.complete(GEMINI.call(provider), ChatRequest(messages=(user(Text("hi")),)))
    continuation = next(piece.continuation for piece in pieces if isinstance(piece, ContinuationPiece))
    calls = tuple(
        ToolCall(id=piece.id or "", name=piece.name or "", arguments=piece.arguments)
        for piece in pieces
        if isinstance(piece, ToolCallPiece)
    )
    answer = Message(role=Role.ASSISTANT, content=(Text("I will look."),), tool_calls=calls, continuation=continuation)

    at_home, elsewhere = encoded(answer), encoded(answer, provider="another")

    assert [part.get("thoughtSignature") for part in at_home["contents"][0]["parts"]] == [None, SIGNATURE, None]
    assert [part.get("thoughtSignature") for part in elsewhere["contents"][0]["parts"]] == [None, None, None]


def test_a_blocked_prompt_is_a_finish() -> None:
    pieces = decode_answer(b'{"promptFeedback": {"blockReason": "SAFETY"}}', provider="gemini")

    assert outcome_of(pieces).finish_reason is FinishReason.CONTENT_FILTER


def test_an_image_in_one_large_event_does_not_end_the_answer() -> None:
    shown = {"inlineData": {"mimeType": "image/png", "data": "A" * 5 * 1024 * 1024}}
    parts = [{"text": "Here "}], [shown], [{"text": "it is."}]
    events: list[dict[str, Any]] = [{"candidates": [{"content": {"parts": one}}]} for one in parts]
    events.append({"candidates": [{"finishReason": "STOP"}]})
    decoder = stream_decoder("gemini")

    pieces = decoder.feed(b"".join(b"data: " + json.dumps(one).encode() + b"\r\n\r\n" for one in events))
    pieces += decoder.end()

    assert decoder.failure is None
    assert outcome_of(pieces).text == "Here it is."


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_an_error_that_is_no_event_is_told(size: int) -> None:
    decoder = stream_decoder("gemini")
    error = b'{\r\n  "error": {"code": 503, "message": "Overloaded.", "status": "UNAVAILABLE"}\r\n}'
    body = b'data: {"candidates": [{"content": {"parts": [{"text": "He"}]}}]}\r\n\r\n' + error

    pieces = [piece for at in range(0, len(body), size) for piece in decoder.feed(body[at : at + size])]
    pieces += decoder.end()

    assert outcome_of(pieces).text == "He"
    assert isinstance(decoder.failure, UpstreamOverloaded)


@pytest.mark.parametrize("ending", ["/v1beta", "/v1beta/openai", "/v1beta/models"])
async def test_a_base_url_with_the_version_is_refused_with_the_right_one(
    ending: str, provider: FakeProvider, http: Http
) -> None:
    with pytest.raises(InvalidInput, match=f"enter {provider.root}."):
        await GEMINI.build(http).validate(GEMINI.call_at(provider.root + ending).values, None, None)

    assert provider.requests == []


async def test_a_service_account_is_no_key(provider: FakeProvider, http: Http) -> None:
    values: dict[str, Value] = {"base_url": provider.root, "api_key": Secret('{"type": "service_account"}')}

    with pytest.raises(UpstreamAuthentication, match="service account"):
        await GEMINI.build(http).validate(values, None, None)


async def test_the_key_travels_in_a_header_and_the_version_in_the_path(provider: FakeProvider, http: Http) -> None:
    adapter = Adapter(provider="gemini", values={"api_version": "v1"})

    await streamed(adapter.build(http), adapter.call(provider, key="AIzaKey"))

    assert provider.calls[0].path == "/v1/models/m:streamGenerateContent?alt=sse"
    assert provider.calls[0].headers["x-goog-api-key"] == "AIzaKey"


def test_a_region_that_is_not_served_is_no_fault_of_the_request() -> None:
    body = b'{"error": {"code": 400, "message": "User location is not supported.", "status": "FAILED_PRECONDITION"}}'

    assert isinstance(failure(400, {}, body), UpstreamPermission)

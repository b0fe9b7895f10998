"""Requests for responses of OpenAI: how a completion is written down, and what goes back with it."""

import json
from typing import Any

import pytest

from core.errors import CapabilityUnsupported, InvalidInput, ModelyardError, UpstreamRateLimited, UpstreamUnavailable
from core.model_types import ModelFeature, ModelType
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
    ToolChoice,
    ToolChoiceMode,
)
from core.provider import ModelCard
from core.wire.dialects.openai_responses.answer import decode_answer, stream_decoder
from core.wire.dialects.openai_responses.request import encode_request
from core.wire.http import Http
from tests.contracts.adapters import Adapter, streamed
from tests.fake_dialects.openai_responses import ENCRYPTED
from tests.fake_provider import FakeProvider
from tests.wire.recordings import outcome_of

RESPONSES = Adapter(provider="openai", base_path="/v1", values={"api": "responses"})
REASONING = frozenset({ModelFeature.REASONING})
CLOSED = {"type": "object", "properties": {"a": {}}, "required": ["a"], "additionalProperties": False}


def user(*content: Text | Media) -> Message:
    return Message(role=Role.USER, content=content)


def encoded(
    *messages: Message,
    provider: str = "openai",
    features: frozenset[ModelFeature] = REASONING,
    stream: bool = False,
    **more: Any,
) -> Any:
    request = ChatRequest(messages=messages or (user(Text("hi")),), **more)
    card = ModelCard(name="m", label="m", type=ModelType.LLM, features=features)
    return json.loads(encode_request(request, model="m", card=card, provider=provider, stream=stream))


def test_messages_are_items() -> None:
    body = encoded(
        Message(role=Role.SYSTEM, content=(Text("Be brief."),)),
        user(
            Text("Look."),
            Media(kind=MediaKind.IMAGE, base64="aGk="),
            Media(kind=MediaKind.DOCUMENT, url="https://example.com/a.pdf"),
        ),
        Message(
            role=Role.ASSISTANT, content=(Text("I do."),), tool_calls=(ToolCall(id="a", name="look", arguments="{}"),)
        ),
        Message(role=Role.TOOL, content=(Text("seen"),), tool_call_id="a"),
    )

    assert body["input"] == [
        {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "Be brief."}]},
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Look."},
                {"type": "input_image", "image_url": "data:image/png;base64,aGk="},
                {"type": "input_file", "file_url": "https://example.com/a.pdf"},
            ],
        },
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I do."}]},
        {"type": "function_call", "call_id": "a", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "a", "output": "seen"},
    ]
    assert body["store"] is False


def test_parameters_and_tools_have_their_names() -> None:
    body = encoded(
        parameters={"max_tokens": 9, "reasoning_effort": "low", "reasoning_summary": "auto"},
        tools=(Tool(name="look", parameters=CLOSED), Tool(name="hear", parameters={"type": "object"})),
        tool_choice=ToolChoice(mode=ToolChoiceMode.REQUIRED),
        response_format=ResponseFormat(json_schema=CLOSED),
        end_user="u1",
        provider_options={"tools": [{"type": "web_search"}], "text": {"verbosity": "low"}},
        stream=True,
    )

    assert body["max_output_tokens"] == 9
    assert body["reasoning"] == {"effort": "low", "summary": "auto"}
    assert body["include"] == ["reasoning.encrypted_content"]
    assert [tool.get("strict") for tool in body["tools"]] == [True, False, None]
    assert body["tool_choice"] == "required"
    form = {"type": "json_schema", "name": "answer", "schema": CLOSED, "strict": True}
    assert body["text"] == {"format": form, "verbosity": "low"}
    assert body["safety_identifier"] == "u1"
    assert body["stream_options"] == {"include_obfuscation": False}


def test_a_model_that_does_not_reason_is_not_asked_for_it() -> None:
    assert "include" not in encoded(features=frozenset())


@pytest.mark.parametrize(
    ("given", "error", "path"),
    [
        ({"stop": ("END",)}, CapabilityUnsupported, ("stop",)),
        ({"provider_options": {"input": "x"}}, InvalidInput, ("providerOptions", "input")),
    ],
)
def test_what_has_no_form_is_refused_where_it_stands(
    given: dict[str, Any], error: type[ModelyardError], path: tuple[str, ...]
) -> None:
    with pytest.raises(error) as refused:
        encoded(**given)

    assert refused.value.path == path


async def test_encrypted_reasoning_goes_back_before_what_followed_it(provider: FakeProvider, http: Http) -> None:
    provider.answers("reasoning")
    made = RESPONSES.build(http)
    assert made.llm is not None
    request = ChatRequest(messages=(user(Text("hi")),))
    pieces = [piece async for batch in made.llm.stream(RESPONSES.call(provider), request) for piece in batch]
    continuation = next(piece.continuation for piece in pieces if isinstance(piece, ContinuationPiece))
    answer = Message(role=Role.ASSISTANT, content=(Text(outcome_of(pieces).text),), continuation=continuation)

    at_home, elsewhere = encoded(answer), encoded(answer, provider="another")

    assert [item["type"] for item in at_home["input"]] == ["reasoning", "message"]
    assert at_home["input"][0]["encrypted_content"] == ENCRYPTED
    assert [item["type"] for item in elsewhere["input"]] == ["message"]


def test_reasoning_that_is_not_encrypted_is_stored_nowhere_and_does_not_go_back() -> None:
    item = {"type": "reasoning", "id": "rs_1", "summary": []}
    text = {"type": "message", "content": [{"type": "output_text", "text": "Hi."}]}

    pieces = decode_answer(json.dumps({"status": "completed", "output": [item, text]}).encode(), provider="openai")

    assert not any(isinstance(piece, ContinuationPiece) for piece in pieces)


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ({"type": "error", "code": "rate_limit_exceeded", "message": "Slow down."}, UpstreamRateLimited),
        ({"type": "error", "error": {"code": "server_error", "message": "Oh."}}, UpstreamUnavailable),
        (
            {
                "type": "response.failed",
                "response": {"status": "failed", "error": {"code": "server_error", "message": "Oh."}},
            },
            UpstreamUnavailable,
        ),
        ({"type": "response.failed", "response": {"status": "failed"}}, UpstreamUnavailable),
    ],
)
def test_a_failure_in_the_stream_has_its_meaning(event: dict[str, Any], kind: type[ModelyardError]) -> None:
    decoder = stream_decoder("openai")

    decoder.feed(b"data: " + json.dumps(event).encode() + b"\n\n")

    assert type(decoder.failure) is kind


def test_a_refusal_is_text_and_events_that_nobody_knows_are_nothing() -> None:
    events = [
        {"type": "response.something.new", "delta": {"text": "x"}, "item": 3},
        {"type": "response.output_item.added", "output_index": 0, "item": {"type": "message"}},
        {"type": "response.refusal.delta", "delta": "I will not."},
        {"type": "response.output_item.done", "output_index": 0, "item": {"type": "message"}},
        {"type": "response.completed", "response": {"status": "completed", "usage": None}},
    ]
    decoder = stream_decoder("openai")

    pieces = [piece for event in events for piece in decoder.feed(b"data: " + json.dumps(event).encode() + b"\n\n")]

    assert decoder.failure is None
    assert outcome_of(pieces).text == "I will not."
    assert outcome_of(pieces).finish_reason is FinishReason.STOP


async def test_the_models_card_chooses_the_api(provider: FakeProvider, http: Http) -> None:
    chat = Adapter(provider="openai", base_path="/v1")

    await streamed(RESPONSES.build(http), RESPONSES.call(provider))
    await streamed(chat.build(http), chat.call(provider))

    assert [sent.path for sent in provider.calls] == ["/v1/responses", "/v1/chat/completions"]

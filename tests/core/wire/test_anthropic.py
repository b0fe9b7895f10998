"""Requests to Anthropic: how a completion is written down, and what goes back with it."""

import json
from typing import Any

import pytest

from core.errors import CapabilityUnsupported, InvalidInput, UpstreamAuthentication
from core.model_types import ModelType
from core.model_types.llm import (
    ChatRequest,
    ContinuationPiece,
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
from core.provider import Call, ModelCard
from core.secret import Secret
from core.wire.dialects.anthropic.answer import decode_answer, stream_decoder
from core.wire.dialects.anthropic.request import encode_request
from core.wire.http import Http
from tests.contracts.adapters import Adapter, streamed
from tests.fake_dialects.anthropic import SIGNATURE
from tests.fake_provider import FakeProvider

ANTHROPIC = Adapter(provider="anthropic")
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def user(*content: Text | Media) -> Message:
    return Message(role=Role.USER, content=content)


def encoded(
    *messages: Message, provider: str = "anthropic", thinking: str = "adaptive", limit: int | None = None, **more: Any
) -> Any:
    request = ChatRequest(messages=messages or (user(Text("hi")),), **more)
    card = ModelCard(
        name="m", label="m", type=ModelType.LLM, max_output_tokens=limit, properties={"thinking": thinking}
    )
    call = Call(model="m", card=card, values={})
    return json.loads(encode_request(request, call=call, provider=provider, stream=False))


def test_system_messages_stand_apart_and_results_of_tools_are_the_users() -> None:
    calls = (ToolCall(id="a", name="look", arguments='{"x": 1}'), ToolCall(id="b", name="look", arguments=""))

    body = encoded(
        Message(role=Role.SYSTEM, content=(Text("Be brief."),)),
        user(Text("Look.")),
        Message(role=Role.ASSISTANT, tool_calls=calls),
        Message(role=Role.TOOL, content=(Text("1"),), tool_call_id="a"),
        Message(role=Role.TOOL, content=(Text("2"),), tool_call_id="b"),
        user(Text("And?")),
    )

    assert body["system"] == [{"type": "text", "text": "Be brief."}]
    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Look."}]},
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "a", "name": "look", "input": {"x": 1}},
                {"type": "tool_use", "id": "b", "name": "look", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "1"}]},
                {"type": "tool_result", "tool_use_id": "b", "content": [{"type": "text", "text": "2"}]},
                {"type": "text", "text": "And?"},
            ],
        },
    ]


def test_blank_texts_which_it_refuses_are_left_out() -> None:
    body = encoded(
        Message(role=Role.SYSTEM, content=(Text(""),)),
        user(Text("Look."), Text(" \n")),
        Message(
            role=Role.ASSISTANT,
            content=(Text("\n\n"),),
            tool_calls=(ToolCall(id="a", name="look", arguments="{}"),),
        ),
        Message(role=Role.TOOL, content=(Text(""),), tool_call_id="a"),
    )

    assert "system" not in body
    assert [message["content"] for message in body["messages"]] == [
        [{"type": "text", "text": "Look."}],
        [{"type": "tool_use", "id": "a", "name": "look", "input": {}}],
        [{"type": "tool_result", "tool_use_id": "a"}],
    ]


@pytest.mark.parametrize(
    ("limit", "asked", "sent"), [(None, {}, 4096), (64_000, {}, 64_000), (64_000, {"max_tokens": 5}, 5)]
)
def test_the_limit_of_output_is_always_said(limit: int | None, asked: dict[str, int], sent: int) -> None:
    assert encoded(limit=limit, parameters=asked)["max_tokens"] == sent


@pytest.mark.parametrize(
    ("way", "effort", "max_tokens", "thinking"),
    [
        ("adaptive", "none", 4096, {"type": "disabled"}),
        ("adaptive", "max", 4096, {"type": "adaptive", "display": "summarized"}),
        ("budget", "none", 4096, {"type": "disabled"}),
        ("budget", "low", 4096, {"type": "enabled", "budget_tokens": 2048}),
        ("budget", "high", 4096, {"type": "enabled", "budget_tokens": 4095}),
        ("budget", "high", 500, {"type": "disabled"}),
    ],
)
def test_an_effort_is_said_as_the_model_takes_it(
    way: str, effort: str, max_tokens: int, thinking: dict[str, Any]
) -> None:
    body = encoded(thinking=way, parameters={"reasoning_effort": effort, "max_tokens": max_tokens})

    assert body["thinking"] == thinking
    assert body.get("output_config") == ({"effort": effort} if thinking["type"] == "adaptive" else None)


def test_media_tools_and_structure_have_their_forms() -> None:
    tool = Tool(name="look", description="Looks.", parameters={"properties": {}})
    body = encoded(
        user(
            Media(kind=MediaKind.IMAGE, base64="aGk=", mime_type="image/jpeg"),
            Media(kind=MediaKind.IMAGE, url="https://example.com/a.png"),
            Media(kind=MediaKind.DOCUMENT, base64="aGk=", filename="a.pdf"),
            Media(kind=MediaKind.DOCUMENT, base64="aGk=", mime_type="text/plain"),
        ),
        tools=(tool,),
        tool_choice=ToolChoice(mode=ToolChoiceMode.REQUIRED),
        response_format=ResponseFormat(json_schema=SCHEMA),
        stop=("END",),
        end_user="u1",
        provider_options={"tools": [{"type": "web_search_20260209", "name": "web_search"}], "service_tier": "auto"},
    )

    assert [block["source"] for block in body["messages"][0]["content"]] == [
        {"type": "base64", "media_type": "image/jpeg", "data": "aGk="},
        {"type": "url", "url": "https://example.com/a.png"},
        {"type": "base64", "media_type": "application/pdf", "data": "aGk="},
        {"type": "text", "media_type": "text/plain", "data": "hi"},
    ]
    own = {"name": "look", "description": "Looks.", "input_schema": {"type": "object", "properties": {}}}
    assert body["tools"] == [own, {"type": "web_search_20260209", "name": "web_search"}]
    assert body["tool_choice"] == {"type": "any"}
    assert body["output_config"] == {"format": {"type": "json_schema", "schema": SCHEMA}}
    assert body["stop_sequences"] == ["END"]
    assert body["metadata"] == {"user_id": "u1"}
    assert body["service_tier"] == "auto"


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"provider_options": {"messages": []}}, ("providerOptions", "messages")),
        (
            {"messages": (Message(role=Role.ASSISTANT, tool_calls=(ToolCall(id="a", name="f", arguments="[1]"),)),)},
            ("messages", "0", "toolCalls", "0", "arguments"),
        ),
        (
            {"messages": (user(Media(kind=MediaKind.AUDIO, base64="aGk=")),)},
            ("messages", "0", "content", "audio"),
        ),
        (
            {"messages": (user(Media(kind=MediaKind.DOCUMENT, base64="/w==", mime_type="text/plain")),)},
            ("messages", "0", "content", "document"),
        ),
        (
            {"messages": (Message(role=Role.ASSISTANT, content=(Text("a"),), continuation="garbage"),)},
            ("messages", "0", "continuation"),
        ),
    ],
)
def test_what_has_no_form_is_refused_where_it_stands(given: dict[str, Any], path: tuple[str, ...]) -> None:
    messages = given.pop("messages", ())

    with pytest.raises(InvalidInput) as refused:
        encoded(*messages, **given)

    assert refused.value.path == path


def test_an_object_without_a_schema_is_unsupported() -> None:
    with pytest.raises(CapabilityUnsupported):
        encoded(response_format=ResponseFormat())


async def test_thoughts_go_back_signed_and_in_their_place(provider: FakeProvider, http: Http) -> None:
    provider.answers("tools", reasoning="Let me see.")
    made = ANTHROPIC.build(http)
    assert made.llm is not None
    pieces = [piece async for batch in made.llm.stream(ANTHROPIC.call(provider), ChatRequest(messages=(user(),))) for piece in batch]  # fmt: skip
    continuation = next(piece.continuation for piece in pieces if isinstance(piece, ContinuationPiece))
    calls = tuple(
        ToolCall(id=piece.id or "", name=piece.name or "", arguments="{}")
        for piece in pieces
        if isinstance(piece, ToolCallPiece) and piece.id
    )
    answer = Message(role=Role.ASSISTANT, content=(Text("I will look."),), tool_calls=calls, continuation=continuation)

    at_home, elsewhere = encoded(answer), encoded(answer, provider="another")

    thought = {"type": "thinking", "thinking": "Let me see.", "signature": SIGNATURE}
    assert at_home["messages"][0]["content"][0] == thought
    assert [block["type"] for block in at_home["messages"][0]["content"]] == [
        "thinking",
        "text",
        "tool_use",
        "tool_use",
    ]
    assert [block["type"] for block in elsewhere["messages"][0]["content"]] == ["text", "tool_use", "tool_use"]


def test_what_the_provider_ran_itself_goes_back_too() -> None:
    search = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "x"}}
    found = {"type": "web_search_tool_result", "tool_use_id": "s1", "content": [{"type": "web_search_result"}]}
    text = {"type": "text", "text": "Found."}
    body = {"content": [search, found, text], "stop_reason": "end_turn", "usage": {"input_tokens": 1}}

    pieces = decode_answer(json.dumps(body).encode(), provider="anthropic")

    continuation = next(piece.continuation for piece in pieces if isinstance(piece, ContinuationPiece))
    answer = Message(role=Role.ASSISTANT, content=(Text("Found."),), continuation=continuation)
    assert encoded(answer)["messages"][0]["content"] == [search, found, text]
    assert not any(isinstance(piece, ToolCallPiece) for piece in pieces)


def test_a_later_count_replaces_an_earlier_one_field_by_field() -> None:
    decoder = stream_decoder("anthropic")
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 3, "cache_read_input_tokens": 10}}}
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}}
    stop = {"type": "message_stop"}

    pieces = decoder.feed(b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in (start, end, stop)))

    assert decoder.complete
    usage = next(piece.usage for piece in pieces if hasattr(piece, "usage"))
    assert (usage.input_tokens, usage.cached_input_tokens, usage.output_tokens) == (13, 10, 9)


def test_what_is_kept_in_the_cache_for_an_hour_is_told_apart() -> None:
    written = {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 5}
    counts = {"input_tokens": 3, "cache_creation_input_tokens": 7, "cache_creation": written, "output_tokens": 1}
    body = {"content": [{"type": "text", "text": "a"}], "stop_reason": "end_turn", "usage": counts}

    pieces = decode_answer(json.dumps(body).encode(), provider="anthropic")

    usage = next(piece.usage for piece in pieces if hasattr(piece, "usage"))
    assert (usage.input_tokens, usage.cache_write_tokens, usage.hour_cache_write_tokens) == (10, 7, 5)


@pytest.mark.parametrize(
    ("key", "header", "value"),
    [("sk-ant-api-1", "x-api-key", "sk-ant-api-1"), ("sk-ant-oat01-1", "authorization", "Bearer sk-ant-oat01-1")],
)
async def test_a_key_travels_in_the_header_of_its_kind(
    key: str, header: str, value: str, provider: FakeProvider, http: Http
) -> None:
    await streamed(ANTHROPIC.build(http), ANTHROPIC.call(provider, key=key))

    sent = provider.calls[0].headers
    assert sent[header] == value
    assert sent["anthropic-version"] == "2023-06-01"
    assert len({"x-api-key", "authorization"} & set(sent)) == 1


async def test_beta_features_are_named_in_a_header(provider: FakeProvider, http: Http) -> None:
    adapter = Adapter(provider="anthropic", values={"beta": "a,b"})

    await streamed(adapter.build(http), adapter.call(provider))

    assert provider.calls[0].headers["anthropic-beta"] == "a,b"


@pytest.mark.parametrize("ending", ["/v1", "/v1/messages"])
async def test_a_base_url_that_doubles_the_path_is_refused_with_the_right_one(
    ending: str, provider: FakeProvider, http: Http
) -> None:
    call = ANTHROPIC.call_at(provider.root + ending)

    with pytest.raises(InvalidInput) as refused:
        await ANTHROPIC.build(http).validate(call.values, None, None)

    assert refused.value.path == ("base_url",)
    assert f"enter {provider.root}." in refused.value.message
    assert provider.requests == []


async def test_a_key_of_somebody_else_is_named_as_one(provider: FakeProvider, http: Http) -> None:
    provider.answers("unauthorized")

    with pytest.raises(UpstreamAuthentication, match="begin with sk-ant-"):
        await ANTHROPIC.build(http).validate({"base_url": provider.root, "api_key": Secret("AKIA" * 5)}, None, None)

"""Requests to Ollama: how a completion is written down, and what a server without the model is told."""

import json
from typing import Any

import pytest

from core.errors import CapabilityUnsupported, InvalidInput, UpstreamModelNotFound, UpstreamUnavailable
from core.model_types import ModelKey, ModelType
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
    ToolChoice,
    ToolChoiceMode,
)
from core.wire.dialects.ollama.answer import decode_answer, stream_decoder
from core.wire.dialects.ollama.request import encode_request
from core.wire.http import Http
from tests.contracts.adapters import Adapter, streamed
from tests.fake_provider import FakeProvider, Scenario
from tests.wire.recordings import outcome_of

OLLAMA = Adapter(provider="ollama")
SCHEMA = {"type": "object"}


def encoded(
    *messages: Message,
    model: str = "m",
    context: int | None = None,
    keep_alive: str | None = None,
    provider: str = "ollama",
    **more: Any,
) -> Any:
    given = messages or (Message(role=Role.USER, content=(Text("hi"),)),)
    request = ChatRequest(messages=given, **more)
    return json.loads(
        encode_request(request, model=model, context=context, keep_alive=keep_alive, provider=provider, stream=True)
    )


def test_messages_have_images_calls_and_the_names_of_tools() -> None:
    call = ToolCall(id="a", name="look", arguments='{"x": 1}')

    body = encoded(
        Message(role=Role.USER, content=(Text("Look."), Media(kind=MediaKind.IMAGE, base64="aGk="))),
        Message(role=Role.ASSISTANT, tool_calls=(call,)),
        Message(role=Role.TOOL, content=(Text("seen"),), tool_call_id="a"),
    )

    assert body["messages"] == [
        {"role": "user", "content": "Look.", "images": ["aGk="]},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "look", "arguments": {"x": 1}}}]},
        {"role": "tool", "content": "seen", "tool_name": "look"},
    ]


def test_the_context_is_said_with_every_request() -> None:
    body = encoded(
        context=8192,
        keep_alive="10m",
        parameters={"max_tokens": 9, "temperature": 0.5},
        stop=("END",),
        response_format=ResponseFormat(json_schema=SCHEMA),
        provider_options={"options": {"mirostat": 1}},
    )

    assert body["options"] == {"num_ctx": 8192, "num_predict": 9, "temperature": 0.5, "stop": ["END"], "mirostat": 1}
    assert body["keep_alive"] == "10m"
    assert body["format"] == SCHEMA
    assert encoded(keep_alive="-1")["keep_alive"] == -1
    assert encoded(response_format=ResponseFormat())["format"] == "json"


@pytest.mark.parametrize(
    ("model", "effort", "sent"), [("m", "none", False), ("m", "low", True), ("gpt-oss:20b", "low", "low")]
)
def test_an_effort_is_said_as_the_model_takes_it(model: str, effort: str, sent: bool | str) -> None:
    assert encoded(model=model, parameters={"reasoning_effort": effort})["think"] == sent


def test_no_tools_are_offered_where_none_may_be_called() -> None:
    tool = Tool(name="look", parameters=SCHEMA)

    assert "tools" in encoded(tools=(tool,))
    assert "tools" not in encoded(tools=(tool,), tool_choice=ToolChoice(mode=ToolChoiceMode.NONE))


@pytest.mark.parametrize("choice", [ToolChoice(mode=ToolChoiceMode.REQUIRED), ToolChoice(tool="look")])
def test_a_tool_that_must_be_called_is_refused_as_nothing_would_make_the_model(choice: ToolChoice) -> None:
    with pytest.raises(CapabilityUnsupported) as refused:
        encoded(tools=(Tool(name="look", parameters=SCHEMA),), tool_choice=choice)

    assert refused.value.path == ("toolChoice",)


def test_a_call_without_arguments_is_one_with_none_of_them() -> None:
    line = {"message": {"tool_calls": [{"function": {"name": "look", "arguments": None}}]}, "done": True}

    (call,) = outcome_of(decode_answer(json.dumps(line).encode(), provider="ollama")).tool_calls

    assert call["arguments"] == "{}"


@pytest.mark.parametrize(
    "media", [Media(kind=MediaKind.IMAGE, url="https://example.com/a.png"), Media(kind=MediaKind.AUDIO, base64="aGk=")]
)
def test_media_that_it_does_not_take_are_refused(media: Media) -> None:
    with pytest.raises(InvalidInput) as refused:
        encoded(Message(role=Role.USER, content=(media,)))

    assert refused.value.path == ("messages", "0", "content", media.kind.lower())


def test_thoughts_go_back() -> None:
    line = {"message": {"content": "Well.", "thinking": "Hm."}, "done": True}
    pieces = decode_answer(json.dumps(line).encode(), provider="ollama")
    continuation = next(piece.continuation for piece in pieces if isinstance(piece, ContinuationPiece))
    answer = Message(role=Role.ASSISTANT, content=(Text("Well."),), continuation=continuation)

    assert encoded(answer)["messages"] == [{"role": "assistant", "content": "Well.", "thinking": "Hm."}]
    assert encoded(answer, provider="another")["messages"] == [{"role": "assistant", "content": "Well."}]


def test_an_error_between_lines_ends_the_stream() -> None:
    decoder = stream_decoder("ollama")

    pieces = decoder.feed(b'{"message": {"content": "He"}, "done": false}\n{"error": "llama runner has stopped"}\n')

    assert outcome_of(pieces).text == "He"
    assert isinstance(decoder.failure, UpstreamUnavailable)


async def test_a_server_without_the_model_names_the_command_that_mends_it(provider: FakeProvider, http: Http) -> None:
    provider.answers_at("/api/show", Scenario(status=404, body=b'{"error": "model not found"}'))
    key = ModelKey(provider="ollama", name="llama3.2", type=ModelType.LLM)

    with pytest.raises(UpstreamModelNotFound, match="ollama pull llama3"):
        await OLLAMA.build(http).validate(OLLAMA.call(provider).values, key, None)


@pytest.mark.parametrize(("host", "is_told"), [("127.0.0.1", False), ("192.0.2.1", True)])
async def test_a_server_that_nobody_reaches_from_outside_is_told_how_it_is(
    host: str, is_told: bool, http: Http
) -> None:
    with pytest.raises(UpstreamUnavailable) as raised:
        await OLLAMA.build(http).validate(OLLAMA.call_at(f"http://{host}:1").values, None, None)

    assert ("OLLAMA_HOST" in raised.value.message) is is_told


async def test_a_server_may_need_no_key_and_know_the_model_by_another_name(provider: FakeProvider, http: Http) -> None:
    adapter = Adapter(provider="ollama", values={"upstream_model": "llama3.2:latest"})

    await streamed(adapter.build(http), adapter.call(provider, key=""))

    assert "authorization" not in provider.calls[0].headers
    assert provider.calls[0].model == "llama3.2:latest"


@pytest.mark.parametrize("ending", ["/v1", "/api", "/api/chat"])
async def test_a_base_url_with_the_path_is_refused_with_the_right_one(
    ending: str, provider: FakeProvider, http: Http
) -> None:
    with pytest.raises(InvalidInput, match=f"enter {provider.root}."):
        await OLLAMA.build(http).validate(OLLAMA.call_at(provider.root + ending).values, None, None)

    assert provider.requests == []

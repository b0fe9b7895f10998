"""Requests to Cohere: how a completion is written down, and what goes back with it."""

import json
from typing import Any

import pytest

from core.errors import CapabilityUnsupported, InvalidInput, ModelyardError, UpstreamAuthentication, UpstreamTimeout
from core.model_types import Usage
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
    UsagePiece,
)
from core.wire.dialects.cohere.answer import decode_answer
from core.wire.dialects.cohere.request import encode_request
from core.wire.http import Http
from tests.contracts.adapters import Adapter, completed, streamed
from tests.fake_provider import FakeProvider, Scenario

COHERE = Adapter(provider="cohere", base_path="/cohere")
LOOK = Tool(name="look", description="Looks.", parameters={"type": "object"})
HEAR = Tool(name="hear", parameters={"type": "object"})


def encoded(*messages: Message, provider: str = "cohere", **more: Any) -> Any:
    given = messages or (Message(role=Role.USER, content=(Text("hi"),)),)
    request = ChatRequest(messages=given, **more)
    return json.loads(encode_request(request, model="m", provider=provider, stream=False))


def test_messages_have_their_roles_and_content() -> None:
    call = ToolCall(id="a", name="look", arguments="{}")
    image = Media(kind=MediaKind.IMAGE, base64="aGk=", mime_type="image/jpeg")

    body = encoded(
        Message(role=Role.SYSTEM, content=(Text("Be brief."),)),
        Message(role=Role.USER, content=(Text("Look."), image)),
        Message(role=Role.ASSISTANT, tool_calls=(call,)),
        Message(role=Role.TOOL, content=(Text("seen"),), tool_call_id="a"),
    )

    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look."},
                {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,aGk="}},
            ],
        },
        {
            "role": "assistant",
            "tool_calls": [{"id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "a", "content": "seen"},
    ]
    assert body["stream"] is False


def test_parameters_have_their_names() -> None:
    body = encoded(
        parameters={"top_p": 0.9, "top_k": 5, "max_tokens": 9, "reasoning_effort": "low"},
        response_format=ResponseFormat(json_schema={"type": "object"}),
        stop=("END",),
        provider_options={"safety_mode": "STRICT"},
    )

    assert (body["p"], body["k"], body["max_tokens"]) == (0.9, 5, 9)
    assert body["thinking"] == {"type": "enabled", "token_budget": 2048}
    assert body["response_format"] == {"type": "json_object", "json_schema": {"type": "object"}}
    assert body["stop_sequences"] == ["END"]
    assert body["safety_mode"] == "STRICT"


@pytest.mark.parametrize(
    ("choice", "tools", "sent"),
    [
        (ToolChoice(mode=ToolChoiceMode.AUTO), (LOOK,), None),
        (ToolChoice(mode=ToolChoiceMode.NONE), (LOOK,), "NONE"),
        (ToolChoice(mode=ToolChoiceMode.REQUIRED), (LOOK, HEAR), "REQUIRED"),
        (ToolChoice(tool="look"), (LOOK,), "REQUIRED"),
    ],
)
def test_a_choice_is_said_as_far_as_it_can_be(choice: ToolChoice, tools: tuple[Tool, ...], sent: str | None) -> None:
    assert encoded(tools=tools, tool_choice=choice).get("tool_choice") == sent


@pytest.mark.parametrize(
    ("given", "error", "path"),
    [
        (
            {"tools": (LOOK, HEAR), "tool_choice": ToolChoice(tool="look")},
            CapabilityUnsupported,
            ("toolChoice", "tool"),
        ),
        ({"provider_options": {"stream": True}}, InvalidInput, ("providerOptions", "stream")),
    ],
)
def test_what_has_no_form_is_refused_where_it_stands(
    given: dict[str, Any], error: type[ModelyardError], path: tuple[str, ...]
) -> None:
    with pytest.raises(error) as refused:
        encoded(**given)

    assert refused.value.path == path


def test_thoughts_and_the_plan_go_back() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    content = [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Well."}]
    message = {"content": content, "tool_plan": "I will look.", "tool_calls": [call]}
    pieces = decode_answer(json.dumps({"message": message, "finish_reason": "TOOL_CALL"}).encode(), provider="cohere")
    continuation = next(piece.continuation for piece in pieces if isinstance(piece, ContinuationPiece))
    answer = Message(
        role=Role.ASSISTANT,
        content=(Text("Well."),),
        tool_calls=(ToolCall(id="a", name="look", arguments="{}"),),
        continuation=continuation,
    )

    at_home, elsewhere = encoded(answer), encoded(answer, provider="another")

    sent = {"role": "assistant", "tool_plan": "I will look.", "content": content, "tool_calls": [call]}
    assert at_home["messages"] == [sent]
    assert elsewhere["messages"] == [{"role": "assistant", "content": content[1:], "tool_calls": [call]}]


async def test_what_is_charged_is_told_beside_what_was_read(provider: FakeProvider, http: Http) -> None:
    adapter = COHERE.build(http)

    for ask in (streamed, completed):
        outcome, _ = await ask(adapter, COHERE.call(provider))

        assert outcome.usage == Usage(
            input_tokens=11,
            output_tokens=5,
            cached_input_tokens=4,
            billed_input_tokens=2,
            billed_output_tokens=5,
        )


@pytest.mark.parametrize(
    ("sent", "usage"),
    [
        ({"tokens": {"input_tokens": 3, "output_tokens": 1}}, Usage(input_tokens=3, output_tokens=1)),
        (
            {"billed_units": {"input_tokens": 3, "output_tokens": 1}},
            Usage(input_tokens=3, output_tokens=1, billed_input_tokens=3, billed_output_tokens=1),
        ),
        ({"cached_tokens": 1}, None),
    ],
)
def test_one_of_the_two_counts_may_be_missing(sent: dict[str, Any], usage: Usage | None) -> None:
    body = {"message": {"content": [{"type": "text", "text": "hi"}]}, "finish_reason": "COMPLETE", "usage": sent}

    pieces = decode_answer(json.dumps(body).encode(), provider="cohere")

    assert [piece.usage for piece in pieces if isinstance(piece, UsagePiece)] == ([usage] if usage else [])


def test_an_answer_that_took_too_long_is_one() -> None:
    with pytest.raises(UpstreamTimeout):
        decode_answer(b'{"message": {"content": []}, "finish_reason": "TIMEOUT"}', provider="cohere")


async def test_a_key_that_is_not_valid_is_refused(provider: FakeProvider, http: Http) -> None:
    provider.answers_at("/cohere/v1/check-api-key", Scenario(body=b'{"valid": false}'))

    with pytest.raises(UpstreamAuthentication):
        await COHERE.build(http).validate(COHERE.call(provider).values, None, None)


async def test_a_base_url_with_the_version_is_refused_with_the_right_one(provider: FakeProvider, http: Http) -> None:
    with pytest.raises(InvalidInput, match=f"enter {provider.root}/cohere."):
        await COHERE.build(http).validate(COHERE.call_at(f"{provider.root}/cohere/v2/chat").values, None, None)

    assert provider.requests == []

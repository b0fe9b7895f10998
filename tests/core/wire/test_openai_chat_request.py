"""What is sent to a server that speaks OpenAI chat completions."""

import json
from typing import Any

import pytest

from core.errors import InvalidInput
from core.model_types.llm import (
    ChatRequest,
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
from core.wire.dialects.openai_chat.endpoint import Quirks
from core.wire.dialects.openai_chat.request import encode_request, is_strict

HI = Message(role=Role.USER, content=(Text("hi"),))
TOOL = Tool(name="get_weather", description="Tells the weather.", parameters={"type": "object", "properties": {}})
OPEN = {"type": "object", "properties": {"a": {"type": "string"}}}
CLOSED = {**OPEN, "required": ["a"], "additionalProperties": False}


def encode(
    *messages: Message, quirks: Quirks | None = None, stream: bool = False, options: bool = False, **fields: Any
) -> Any:
    request = ChatRequest(messages=messages or (HI,), **fields)
    return json.loads(
        encode_request(request, model="m", quirks=quirks or Quirks(), stream=stream, stream_options=options)
    )


def test_the_least_request_holds_the_model_and_the_messages_alone() -> None:
    assert encode() == {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def test_a_conversation_with_tools_keeps_its_order_and_ids() -> None:
    call = ToolCall(id="c1", name="get_weather", arguments='{"city":"Paris"}')

    body = encode(
        Message(role=Role.SYSTEM, content=(Text("Be brief."), Text("Be kind."))),
        HI,
        Message(role=Role.ASSISTANT, tool_calls=(call,)),
        Message(role=Role.TOOL, content=(Text("sunny"),), tool_call_id="c1"),
    )

    function = {"name": "get_weather", "arguments": '{"city":"Paris"}'}
    assert body["messages"] == [
        {"role": "system", "content": "Be brief.\n\nBe kind."},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": function}]},
        {"role": "tool", "content": "sunny", "tool_call_id": "c1"},
    ]


def test_media_become_parts() -> None:
    body = encode(
        Message(
            role=Role.USER,
            content=(
                Text("look"),
                Media(kind=MediaKind.IMAGE, url="https://x.example/a.png"),
                Media(kind=MediaKind.IMAGE, base64="AAAA", mime_type="image/jpeg"),
                Media(kind=MediaKind.AUDIO, base64="BBBB", mime_type="audio/mpeg"),
                Media(kind=MediaKind.DOCUMENT, base64="CCCC", filename="a.pdf"),
                Media(kind=MediaKind.VIDEO, url="https://x.example/a.mp4"),
            ),
        )
    )

    assert body["messages"][0]["content"] == [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,AAAA"}},
        {"type": "input_audio", "input_audio": {"data": "BBBB", "format": "mp3"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,CCCC"}},
        {"type": "video_url", "video_url": {"url": "https://x.example/a.mp4"}},
    ]


@pytest.mark.parametrize(
    "part",
    [
        Media(kind=MediaKind.AUDIO, url="https://x.example/a.wav"),
        Media(kind=MediaKind.AUDIO, base64="AAAA", mime_type="audio/ogg"),
        Media(kind=MediaKind.DOCUMENT, url="https://x.example/a.pdf"),
    ],
)
def test_media_without_a_form_in_this_dialect_are_refused(part: Media) -> None:
    with pytest.raises(InvalidInput) as refused:
        encode(Message(role=Role.USER, content=(part,)))

    assert refused.value.path[0] == "messages"


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (ToolChoice(mode=ToolChoiceMode.AUTO), "auto"),
        (ToolChoice(mode=ToolChoiceMode.NONE), "none"),
        (ToolChoice(mode=ToolChoiceMode.REQUIRED), "required"),
        (ToolChoice(tool="get_weather"), {"type": "function", "function": {"name": "get_weather"}}),
    ],
)
def test_tools_and_the_choice_among_them_are_sent(choice: ToolChoice, sent: object) -> None:
    body = encode(tools=(TOOL,), tool_choice=choice)

    function = {"name": "get_weather", "description": "Tells the weather.", "parameters": TOOL.parameters}
    assert body["tools"] == [{"type": "function", "function": function}]
    assert body["tool_choice"] == sent


def test_a_choice_without_tools_is_not_sent() -> None:
    assert "tool_choice" not in encode(tool_choice=ToolChoice(mode=ToolChoiceMode.AUTO))


def test_parameters_are_sent_zero_and_false_included() -> None:
    body = encode(parameters={"temperature": 0, "logprobs": False, "max_tokens": 5}, stop=("a", "b"), end_user="u")

    assert body["temperature"] == 0
    assert body["logprobs"] is False
    assert body["max_tokens"] == 5
    assert body["stop"] == ["a", "b"]
    assert body["user"] == "u"


def test_the_limit_of_output_and_the_end_user_have_the_servers_names() -> None:
    quirks = Quirks(max_tokens_parameter="max_completion_tokens", end_user_parameter="safety_identifier")

    body = encode(parameters={"max_tokens": 5}, end_user="u", quirks=quirks)

    assert body["max_completion_tokens"] == 5
    assert body["safety_identifier"] == "u"
    assert "max_tokens" not in body
    assert "user" not in body


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({"response_format": ResponseFormat()}, {"type": "json_object"}),
        ({"parameters": {"response_format": "json_object"}}, {"type": "json_object"}),
        ({"parameters": {"response_format": "text"}}, {"type": "text"}),
        (
            {"response_format": ResponseFormat(json_schema=CLOSED)},
            {"type": "json_schema", "json_schema": {"name": "answer", "schema": CLOSED, "strict": True}},
        ),
        (
            {"parameters": {"response_format": "json_schema", "json_schema": json.dumps(OPEN)}},
            {"type": "json_schema", "json_schema": {"name": "answer", "schema": OPEN, "strict": False}},
        ),
        (
            {"parameters": {"response_format": "text"}, "response_format": ResponseFormat()},
            {"type": "json_object"},
        ),
    ],
)
def test_structured_output_is_asked_for(fields: dict[str, Any], sent: object) -> None:
    body = encode(**fields)

    assert body["response_format"] == sent
    assert "json_schema" not in body


@pytest.mark.parametrize("schema", ["{", "[]", "1", 5])
def test_a_schema_that_is_none_is_refused(schema: object) -> None:
    with pytest.raises(InvalidInput) as refused:
        encode(parameters={"json_schema": schema})

    assert refused.value.path == ("parameters", "json_schema")


def test_a_schema_is_named_by_its_title() -> None:
    body = encode(response_format=ResponseFormat(json_schema={"title": "Städte & Länder", "type": "object"}))

    assert body["response_format"]["json_schema"]["name"] == "St_dte___L_nder"


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (CLOSED, True),
        (OPEN, False),
        ({"type": "string"}, True),
        ({"type": "array", "items": CLOSED}, True),
        ({"type": "array", "items": OPEN}, False),
        ({"anyOf": [CLOSED, OPEN]}, False),
        ({"$defs": {"a": OPEN}, **CLOSED}, False),
        ({"type": "object", "additionalProperties": False}, True),
        ({"type": "object"}, False),
        ({"const": OPEN}, True),
    ],
)
def test_only_a_closed_schema_is_held_to_the_letter(schema: object, *, strict: bool) -> None:
    assert is_strict(schema) is strict


def test_a_stream_asks_for_usage_and_against_padding_where_the_server_knows_both() -> None:
    assert encode(stream=True, options=True)["stream_options"] == {"include_usage": True}
    assert encode(stream=True, options=True, quirks=Quirks(obfuscation=True))["stream_options"] == {
        "include_usage": True,
        "include_obfuscation": False,
    }
    assert "stream_options" not in encode(stream=True)
    assert "stream_options" not in encode(options=True)
    assert encode(stream=True)["stream"] is True


def test_provider_options_pass_through_and_win() -> None:
    body = encode(parameters={"temperature": 0.5}, provider_options={"temperature": 0.1, "seed": 7, "top_k": None})

    assert body["temperature"] == 0.1
    assert body["seed"] == 7
    assert body["top_k"] is None


def test_provider_options_cannot_keep_usage_from_being_asked_for() -> None:
    options = {"stream_options": {"include_usage": False, "other": 1}}

    body = encode(stream=True, options=True, provider_options=options)

    assert body["stream_options"] == {"include_usage": True, "other": 1}


@pytest.mark.parametrize("name", ["model", "messages", "stream"])
def test_provider_options_cannot_change_what_is_asked_of_whom(name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        encode(provider_options={name: "other"})

    assert refused.value.path == ("providerOptions", name)

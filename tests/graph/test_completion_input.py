"""From a CompletionInput to what core is asked."""

import base64
from typing import Any

import pytest

from core.continuation import Layout
from core.errors import InvalidInput
from core.model_types import llm
from core.model_types.llm import MediaKind, Role, ToolChoiceMode
from graph.completion_input import (
    MAX_MEDIA_BYTES,
    CompletionInput,
    ContentPartInput,
    MediaInput,
    MessageInput,
    ResponseFormatInput,
    ToolCallInput,
    ToolChoiceInput,
    ToolInput,
)
from graph.values import ModelReferenceInput, TagInput

HELLO = MessageInput(role=Role.USER, text="hello")
TOOL = ToolInput(name="look_up", parameters={"type": "object"})
KEPT = Layout()
KEPT.block({"signature": "abc"})
SIGNED = KEPT.sealed("anthropic")
PIXEL = base64.b64encode(b"pixel").decode()


def asked(**changed: Any) -> CompletionInput:
    return CompletionInput(**{"messages": [HELLO], **changed})


def chat(**changed: Any) -> llm.ChatRequest:
    return asked(**changed).request().chat


def test_text_alone_is_one_part() -> None:
    assert chat().messages == (llm.Message(role=Role.USER, content=(llm.Text(text="hello"),)),)


def test_parts_keep_their_order_and_kind() -> None:
    parts = [
        ContentPartInput(text="look"),
        ContentPartInput(image=MediaInput(base64=PIXEL, mime_type="image/png")),
        ContentPartInput(document=MediaInput(url="https://example.org/a.pdf", filename="a.pdf")),
    ]

    (message,) = chat(messages=[MessageInput(role=Role.USER, content=parts)]).messages

    assert message.content == (
        llm.Text(text="look"),
        llm.Media(kind=MediaKind.IMAGE, base64=PIXEL, mime_type="image/png"),
        llm.Media(kind=MediaKind.DOCUMENT, url="https://example.org/a.pdf", filename="a.pdf"),
    )


def test_a_conversation_with_tools_keeps_what_belongs_together() -> None:
    call = ToolCallInput(id="1", name="look_up", arguments='{"a":')
    messages = [
        HELLO,
        MessageInput(role=Role.ASSISTANT, tool_calls=[call], continuation=SIGNED),
        MessageInput(role=Role.TOOL, text="found", tool_call_id="1"),
    ]

    request = chat(messages=messages, tools=[TOOL], tool_choice=ToolChoiceInput(tool="look_up"))

    assert request.messages[1].tool_calls == (llm.ToolCall(id="1", name="look_up", arguments='{"a":'),)
    assert request.messages[1].continuation == SIGNED
    assert request.messages[2].tool_call_id == "1"
    assert request.tools == (llm.Tool(name="look_up", parameters={"type": "object"}),)
    assert request.tool_choice == llm.ToolChoice(tool="look_up")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (ResponseFormatInput(json_object=True), llm.ResponseFormat()),
        (ResponseFormatInput(json_object=False), None),
        (ResponseFormatInput(json_schema={"type": "object"}), llm.ResponseFormat(json_schema={"type": "object"})),
    ],
)
def test_structured_output_is_any_object_or_one_of_a_schema(given: ResponseFormatInput, expected: object) -> None:
    assert chat(response_format=given).response_format == expected


def test_everything_else_goes_through() -> None:
    request = asked(
        model=ModelReferenceInput(provider="openai", name="a"),
        fallbacks=[ModelReferenceInput(provider="openai", name="b")],
        parameters={"temperature": 0},
        provider_options={"seed": 1},
        stop=["END"],
        end_user="somebody",
        tags=[TagInput(name="team", value="blue")],
    ).request()

    assert request.model is not None
    assert (request.model.name, [one.name for one in request.fallbacks]) == ("a", ["b"])
    assert request.chat.parameters == {"temperature": 0}
    assert request.chat.provider_options == {"seed": 1}
    assert (request.chat.stop, request.chat.end_user, request.end_user) == (("END",), "somebody", "somebody")
    assert request.tags == {"team": "blue"}


def media(**given: Any) -> dict[str, Any]:
    return {"messages": [MessageInput(role=Role.USER, content=[ContentPartInput(image=MediaInput(**given))])]}


def said(**given: Any) -> dict[str, Any]:
    return {"messages": [MessageInput(**{"role": Role.USER, **given})]}


IMAGE = ("messages", "0", "content", "0", "image")
CALL = ToolCallInput(id="1", name="look_up", arguments="{}")


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"messages": []}, ("messages",)),
        ({"messages": [HELLO] * 1001}, ("messages",)),
        (said(), ("messages", "0")),
        (said(content=[]), ("messages", "0")),
        (said(text="a", content=[ContentPartInput(text="b")]), ("messages", "0")),
        (said(text="a", tool_call_id="1"), ("messages", "0", "toolCallId")),
        (said(role=Role.TOOL, text="a"), ("messages", "0", "toolCallId")),
        (said(text="a", tool_calls=[CALL]), ("messages", "0", "toolCalls")),
        (said(text="a", continuation=SIGNED), ("messages", "0", "continuation")),
        (said(role=Role.ASSISTANT, text="a", continuation="signed"), ("messages", "0", "continuation")),
        (said(role=Role.ASSISTANT, tool_calls=[ToolCallInput(id="1", name="no good", arguments="")]),
         ("messages", "0", "toolCalls", "0", "name")),
        (media(), IMAGE),
        (media(url="https://example.org", base64=PIXEL), IMAGE),
        (media(url="file:///etc/passwd"), (*IMAGE, "url")),
        (media(url="data:image/png;base64,xx"), (*IMAGE, "url")),
        (media(url="https://"), (*IMAGE, "url")),
        (media(url="https://[bad"), (*IMAGE, "url")),
        (media(url="https://example.org:99999/a"), (*IMAGE, "url")),
        (media(url="https://example.org/a b"), (*IMAGE, "url")),
        (media(base64=PIXEL), (*IMAGE, "mimeType")),
        (media(base64=PIXEL, mime_type="a\r\nb"), (*IMAGE, "mimeType")),
        (media(base64="%%%", mime_type="image/png"), (*IMAGE, "base64")),
        (media(base64="", mime_type="image/png"), (*IMAGE, "base64")),
        (media(base64="A" * (MAX_MEDIA_BYTES * 2), mime_type="image/png"), (*IMAGE, "base64")),
        (media(url="https://example.org", filename=""), (*IMAGE, "filename")),
        ({"tools": [ToolInput(name="no good", parameters={})]}, ("tools", "0", "name")),
        ({"tools": [ToolInput(name="x" * 65, parameters={})]}, ("tools", "0", "name")),
        ({"tools": [ToolInput(name="a", parameters=[])]}, ("tools", "0", "parameters")),
        ({"tools": [TOOL, TOOL]}, ("tools",)),
        ({"tools": [TOOL] * 129}, ("tools",)),
        ({"tool_choice": ToolChoiceInput(mode=ToolChoiceMode.REQUIRED)}, ("toolChoice",)),
        ({"tools": [TOOL], "tool_choice": ToolChoiceInput(tool="other")}, ("toolChoice", "tool")),
        ({"response_format": ResponseFormatInput(json_schema=[])}, ("responseFormat", "jsonSchema")),
        ({"stop": ["a"] * 17}, ("stop",)),
        ({"stop": [""]}, ("stop",)),
        ({"parameters": [1]}, ("parameters",)),
        ({"provider_options": "x"}, ("providerOptions",)),
        ({"end_user": ""}, ("endUser",)),
        ({"end_user": "x" * 257}, ("endUser",)),
        ({"tags": [TagInput(name="a", value="b")] * 2}, ("tags", "1")),
        ({"tags": [TagInput(name="", value="b")]}, ("tags", "0")),
        ({"tags": [TagInput(name="a", value="b" * 257)]}, ("tags", "0")),
        ({"tags": [TagInput(name=str(number), value="") for number in range(65)]}, ("tags",)),
        ({"fallbacks": [ModelReferenceInput(provider="a", name="b")] * 9}, ("fallbacks",)),
    ],
)  # fmt: skip
def test_what_breaks_a_rule_is_refused_with_its_place(given: dict[str, Any], path: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput) as refused:
        asked(**given).request()

    assert refused.value.path == path

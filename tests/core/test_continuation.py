"""Continuations: what an answer came with goes back in its place, to its own provider alone."""

import pytest

from core.continuation import MAX_LENGTH, Layout, Part, arranged, check_continuation
from core.errors import InvalidInput
from core.model_types.llm import Message, Role, Text, ToolCall

CALL = ToolCall(id="c1", name="look", arguments="{}")
THOUGHT = {"type": "thinking", "signature": "s"}


def sealed() -> str:
    layout = Layout()
    layout.block(THOUGHT)
    layout.text(3)
    layout.text(2)
    layout.call({"signature": "of the call"})
    continuation = layout.sealed("anthropic")
    assert continuation is not None
    return continuation


def message(text: str = "Hello", continuation: str | None = None) -> Message:
    return Message(
        role=Role.ASSISTANT, content=(Text(text),), tool_calls=(CALL,), continuation=continuation or sealed()
    )


def test_parts_come_back_in_their_places_with_what_is_the_providers_own() -> None:
    assert arranged(message(), "anthropic") == [
        Part(extra=THOUGHT),
        Part(content=Text("Hello")),
        Part(call=CALL, extra={"signature": "of the call"}),
    ]


def test_text_that_was_changed_follows_the_providers_own_blocks() -> None:
    assert arranged(message("Hello, edited"), "anthropic") == [
        Part(extra=THOUGHT),
        Part(content=Text("Hello, edited")),
        Part(call=CALL),
    ]


def test_another_provider_gets_none_of_it() -> None:
    assert arranged(message(), "gemini") == [Part(content=Text("Hello")), Part(call=CALL)]


def test_text_and_calls_alone_need_no_continuation() -> None:
    layout = Layout()
    layout.text(5)
    layout.call()

    assert layout.sealed("anthropic") is None


def test_an_answer_that_needs_too_much_has_none() -> None:
    layout = Layout()
    layout.block({"data": "x" * MAX_LENGTH})

    assert layout.sealed("anthropic") is None


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: "garbage",
        lambda text: text[:-4],
        lambda text: text[:20] + ("A" if text[20] != "A" else "B") + text[21:],
        lambda text: text + "é",
        lambda text: "c1.",
        lambda text: "c2." + text[3:],
        lambda text: "c1." + "A" * MAX_LENGTH,
    ],
)
def test_what_is_no_continuation_is_refused(change) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidInput) as refused:
        check_continuation(change(sealed()), ("messages", "0", "continuation"))

    assert refused.value.path == ("messages", "0", "continuation")

"""What the requests of several dialects share: turns that alternate, arguments as objects, names of tools."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import msgspec

from core.errors import CapabilityUnsupported, InvalidInput
from core.model_types.llm import Media, Message, ResponseFormat, Role, ToolCall

Path = tuple[str, ...]


def system_text(messages: Sequence[Message]) -> list[str]:
    """Return what all SYSTEM messages say, in their order: these dialects have one place for it.

    Raises:
        InvalidInput: one of them shows something.
    """
    said = [(number, message) for number, message in enumerate(messages) if message.role is Role.SYSTEM]
    return [text for number, message in said for text in texts_alone(message, number)]


def turns(messages: Sequence[Message]) -> Iterator[tuple[bool, list[tuple[int, Message]]]]:
    """Yield the turns of the two sides, each message with its number; True: it is the assistant's.

    Results of tools belong to the user's turn; SYSTEM messages to none.
    """
    said = [(number, message) for number, message in enumerate(messages) if message.role is not Role.SYSTEM]
    for is_assistant, turn in groupby(said, lambda one: one[1].role is Role.ASSISTANT):
        yield is_assistant, list(turn)


def arguments_of(call: ToolCall, path: Path) -> dict[str, Any]:
    """Return a tool call's arguments as the object that they are the JSON of; none written is an empty one.

    Raises:
        InvalidInput: they are no JSON object.
    """
    try:
        arguments = msgspec.json.decode(call.arguments.encode()) if call.arguments.strip() else {}
    except (msgspec.DecodeError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise InvalidInput(
            f"This provider takes the arguments of a tool call as a JSON object; those of {call.name!r} are none.",
            path=(*path, "arguments"),
        )
    return arguments


def names_of_calls(messages: Sequence[Message]) -> Mapping[str, str]:
    """Return the names of the tools by the ids of their calls, for dialects whose results name them."""
    return {call.id: call.name for message in messages for call in message.tool_calls}


def called_name(message: Message, names: Mapping[str, str], number: int) -> str:
    """Return the tool whose result a TOOL message holds.

    Raises:
        InvalidInput: no message before it asked for that call.
    """
    name = names.get(message.tool_call_id or "")
    if name is None:
        raise InvalidInput(
            f"No ASSISTANT message among these has the tool call {message.tool_call_id!r}, and this provider must be "
            "told which tool a result is of.",
            path=("messages", str(number), "toolCallId"),
        )
    return name


def texts_alone(message: Message, number: int) -> list[str]:
    """Return the texts of a message that can hold nothing else here.

    Raises:
        InvalidInput: it has media.
    """
    for part in message.content:
        if isinstance(part, Media):
            raise not_taken(part, number, f"text alone in a {message.role} message")
    return [part.text for part in message.content if not isinstance(part, Media)]


def text_of_parts(message: Message) -> str:
    """Return what a message says in text."""
    return "\n\n".join(part.text for part in message.content if not isinstance(part, Media))


def json_schema_of(wanted: ResponseFormat, provider: str) -> dict[str, Any]:
    """Return the schema of a structured answer.

    Raises:
        CapabilityUnsupported: there is none, and this provider needs one.
    """
    if wanted.json_schema is None:
        raise CapabilityUnsupported(
            f"{provider} gives JSON of a schema only: give `jsonSchema` in place of `jsonObject`.",
            path=("responseFormat", "jsonObject"),
        )
    return wanted.json_schema


def not_taken(part: Media, number: int, what: str) -> InvalidInput:
    """Return the error for media that a provider does not take in this form."""
    return InvalidInput(
        f"This provider takes {what}.", path=("messages", str(number), "content", part.kind.value.lower())
    )

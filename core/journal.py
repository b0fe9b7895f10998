"""What a completion has said, kept small: a line of JSON for each event, numbered by its place."""

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from core.model_types.llm import (
    AssistantMessage,
    CompletionEvent,
    CompletionRerouted,
    CompletionStarted,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolCallDelta,
)

PIECE_BYTES = 64 * 1024
"""How much is read at once, a single longer event aside."""

_MARK_EVERY = 64
_Line = str | list[Any] | CompletionStarted | CompletionRerouted
_encode_lines = msgspec.json.Encoder().encode_lines
_decode_lines = msgspec.json.Decoder(_Line).decode_lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What the model wrote."""

    text: str
    reasoning: str | None
    tool_calls: tuple[ToolCall, ...]

    def message(self, continuation: str | None) -> AssistantMessage:
        """Return it as the whole answer."""
        return AssistantMessage(
            text=self.text, reasoning=self.reasoning, tool_calls=self.tool_calls, continuation=continuation
        )

    @property
    def produced(self) -> str:
        """Return everything in one text, for counting."""
        calls = (call.name + call.arguments for call in self.tool_calls)
        return "".join((self.text, self.reasoning or "", *calls))


class Journal:
    """The events of a completion from number 0, all but the last one, joined to one text.

    Deltas are joined without losing where one ends: a delta costs its text and three bytes, so that whoever comes back
    is given exactly what follows the number that they name.
    """

    __slots__ = ("_lines", "_numbers", "_offsets", "count")

    def __init__(self) -> None:
        self.count = 0
        self._lines = bytearray()
        self._numbers = array("Q", [0])
        self._offsets = array("Q", [0])

    @property
    def size(self) -> int:
        """Return the bytes that it takes."""
        return len(self._lines)

    def append(self, events: Sequence[CompletionEvent]) -> None:
        """Add events that carry the next numbers."""
        self.extend(_encode_lines([_line(event) for event in events]), len(events))

    def extend(self, lines: bytes, count: int) -> None:
        """Add lines as `piece` of another journal gave them."""
        if self.count - self._numbers[-1] >= _MARK_EVERY:
            self._numbers.append(self.count)
            self._offsets.append(len(self._lines))
        self._lines += lines
        self.count += count

    def offset(self, number: int) -> int:
        """Return where the event of that number begins."""
        mark = bisect_right(self._numbers, number) - 1
        offset = self._offsets[mark]
        for _ in range(number - self._numbers[mark]):
            offset = self._lines.index(b"\n", offset) + 1
        return offset

    def piece(self, offset: int) -> bytes:
        """Return whole lines from where one begins: about `PIECE_BYTES`, at least one if there is one."""
        end = offset + PIECE_BYTES
        if end < len(self._lines):
            end = max(self._lines.rfind(b"\n", offset, end), 0) or self._lines.index(b"\n", end)
            end += 1
        return bytes(self._lines[offset:end])

    def read(self, number: int, invocation_id: str) -> list[CompletionEvent]:
        """Return events from that number on: a piece of them, none only where there is none."""
        lines = _decode_lines(self.piece(self.offset(number)))
        return [_event(line, invocation_id, number + place) for place, line in enumerate(lines)]

    def written(self) -> Written:
        """Return what the model wrote until now."""
        return written(self._lines)


def written(lines: bytes | bytearray) -> Written:
    """Return what the model wrote in these lines of a journal."""
    text: list[str] = []
    reasoning: list[str] = []
    calls: dict[int, tuple[str, str, list[str]]] = {}
    for line in _decode_lines(lines):
        if isinstance(line, str):
            text.append(line)
        elif isinstance(line, list):
            if len(line) == 1:
                reasoning.append(line[0])
                continue
            index, call_id, name, arguments = line
            known_id, known_name, parts = calls.get(index, ("", "", []))
            parts.append(arguments)
            calls[index] = (call_id or known_id, name or known_name, parts)
    return Written(
        text="".join(text),
        reasoning="".join(reasoning) if reasoning else None,
        tool_calls=tuple(
            ToolCall(id=id_, name=name, arguments="".join(parts)) for _, (id_, name, parts) in sorted(calls.items())
        ),
    )


def _line(event: CompletionEvent) -> object:
    kind = type(event)
    if kind is TextDelta:
        return event.text  # type: ignore[union-attr]
    if kind is ReasoningDelta:
        return (event.text,)  # type: ignore[union-attr]
    if isinstance(event, ToolCallDelta):
        return (event.index, event.id, event.name, event.arguments)
    return event


def _event(line: _Line, invocation_id: str, sequence: int) -> CompletionEvent:
    if isinstance(line, str):
        return TextDelta(invocation_id=invocation_id, sequence=sequence, text=line)
    if isinstance(line, list):
        if len(line) == 1:
            return ReasoningDelta(invocation_id=invocation_id, sequence=sequence, text=line[0])
        index, call_id, name, arguments = line
        return ToolCallDelta(
            invocation_id=invocation_id, sequence=sequence, index=index, id=call_id, name=name, arguments=arguments
        )
    return line

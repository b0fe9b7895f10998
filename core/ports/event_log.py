"""The events of completions, kept for all processes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from core.model_types.llm import CompletionFailed, CompletionFinished


@dataclass(frozen=True, slots=True, kw_only=True)
class LogHead:
    """Whose events a log holds; `owner` is the process that runs the completion."""

    invocation_id: UUID
    workspace_id: UUID
    principal: UUID
    token_id: UUID
    owner: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class LogWrite:
    """Lines of a journal, `first` being the number of the first of `count`, and the end if it comes with them."""

    head: LogHead
    first: int
    lines: bytes
    count: int
    end: CompletionFinished | CompletionFailed | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogState:
    """What a log holds after a write: the events before its end, and whether that is there.

    `is_taken`: another process has ended it, and takes nothing more from this one.
    """

    count: int
    ended: bool
    is_taken: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """A part of a log, `first` being the number of its first event; `end` without what the model wrote."""

    first: int
    lines: bytes
    count: int
    end: CompletionFinished | CompletionFailed | None
    is_taken: bool

    def lines_from(self, number: int) -> bytes:
        """Return its lines without those of events below that number, which an entry before may hold already."""
        known = max(number - self.first, 0)
        parts = self.lines.split(b"\n", known)
        return parts[known] if known < len(parts) else b""


class Takeover(StrEnum):
    """What came of ending the completion of a process that seems dead."""

    TAKEN = "TAKEN"
    ENDED = "ENDED"
    ALIVE = "ALIVE"
    LOST = "LOST"


class EventLog(Protocol):
    """The events of completions, kept for all processes until 10 minutes after the end.

    All of it raises ServerUnavailable while Redis is away.
    """

    async def append(self, writes: Sequence[LogWrite]) -> Sequence[LogState]:
        """Write each if it follows what is there and nothing has ended it, all in one round trip.

        What was written before is not written twice. A state with another count than the write asks for says from where
        to write again.
        """
        ...

    async def head(self, invocation_id: UUID) -> LogHead | None:
        """Return whose log it is; None where there is none any more, or not yet."""
        ...

    async def read(self, counts: Mapping[UUID, int], wait_s: float) -> Mapping[UUID, Sequence[LogEntry]]:
        """Return what each log holds beyond that many events, waiting a while where that is nothing.

        The first entry may begin before, the last one may not be the last that there is.
        """
        ...

    async def take_over(self, head: LogHead, end: CompletionFailed) -> Takeover:
        """End a completion if nobody has, unless its owner lives; the owner writes nothing afterwards."""
        ...

    async def renew(self, process_id: UUID) -> str:
        """Say that a process lives, for a few seconds; return what names this run of the server."""
        ...

    async def leave(self, process_id: UUID) -> None:
        """Say that a process has ended."""
        ...

    async def alive(self, process_ids: Sequence[UUID]) -> frozenset[UUID]:
        """Return those that have said so lately."""
        ...

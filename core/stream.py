"""The numbered events of one completion, held by its owner, and those who read them."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from uuid import UUID

from core.model_types.llm import (
    CompletionEvent,
    CompletionFailed,
    CompletionFinished,
    CompletionInterrupted,
    InterruptReason,
)


class Reader:
    """One who follows a completion: where they are, and whether they were sent away."""

    __slots__ = ("interrupted", "position", "stream", "token_id", "waiter")

    def __init__(self, stream: "EventStream", token_id: UUID, after: int) -> None:
        self.stream = stream
        self.token_id = token_id
        self.position = after + 1
        self.waiter: asyncio.Future[None] | None = None
        self.interrupted: InterruptReason | None = None

    async def batches(self) -> AsyncGenerator[Sequence[CompletionEvent], None]:
        """Yield what has come since the last time, until the terminal event or an interruption."""
        stream, events = self.stream, self.stream.events
        try:
            while True:
                if self.interrupted is not None:
                    yield (self._interruption(self.interrupted),)
                    return
                batch = events[self.position :]
                if batch:
                    self.position += len(batch)
                    yield batch
                elif stream.ended:
                    return
                else:
                    self.waiter = asyncio.get_running_loop().create_future()
                    await self.waiter
        finally:
            self.close()

    def interrupt(self, reason: InterruptReason) -> None:
        """Send this reader away with a last event; the completion goes on."""
        self.interrupted = reason
        self.wake()

    def wake(self) -> None:
        """Let the reader look for what is new."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def close(self) -> None:
        """Leave. Called twice, the second does nothing."""
        self.stream.leave(self)

    def _interruption(self, reason: InterruptReason) -> CompletionInterrupted:
        last = self.position - 1
        return CompletionInterrupted(
            invocation_id=str(self.stream.invocation_id),
            sequence=last,
            reason=reason,
            resume_after=last if last >= 0 else None,
        )


class EventStream:
    """A completion's events from number 0, appended by its owner alone, read by any number of readers.

    `on_abandoned` is called when the last reader has left before the end, `on_joined` when one comes.
    """

    def __init__(self, invocation_id: UUID, workspace_id: UUID, principal: UUID, token_id: UUID) -> None:
        self.invocation_id = invocation_id
        self.workspace_id = workspace_id
        self.principal = principal
        self.token_id = token_id
        self.events: list[CompletionEvent] = []
        self.ended = False
        self.readers: set[Reader] = set()
        self.on_joined: Callable[[], None] | None = None
        self.on_abandoned: Callable[[], None] | None = None
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def next_sequence(self) -> int:
        """Return the number that the next event takes."""
        return len(self.events)

    def append(self, events: Sequence[CompletionEvent]) -> None:
        """Add events that carry the next numbers, and wake the readers once."""
        self.events.extend(events)
        for reader in self.readers:
            reader.wake()

    def end(self, event: CompletionFinished | CompletionFailed) -> None:
        """Add the terminal event. A completion has one: a second is refused."""
        if self.ended:
            raise RuntimeError("the completion has ended already")
        self.ended = True
        self.append((event,))
        self._end.set_result(None)

    def join(self, token_id: UUID, after: int = -1) -> Reader:
        """Return a reader of what comes after the event of that number."""
        reader = Reader(self, token_id, after)
        self.readers.add(reader)
        if self.on_joined is not None:
            self.on_joined()
        return reader

    def leave(self, reader: Reader) -> None:
        """Forget a reader; the last one to go abandons a completion that still runs."""
        if reader not in self.readers:
            return
        self.readers.discard(reader)
        if not self.readers and not self.ended and self.on_abandoned is not None:
            self.on_abandoned()

    async def finished(self) -> CompletionFinished | CompletionFailed:
        """Wait for the terminal event and return it."""
        await asyncio.shield(self._end)
        last = self.events[-1]
        assert isinstance(last, CompletionFinished | CompletionFailed)
        return last

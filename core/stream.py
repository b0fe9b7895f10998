"""The numbered events of one completion, as one process holds them, and those who read them there."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from uuid import UUID

import msgspec

from core.journal import Journal, Written
from core.model_types.llm import (
    CompletionEvent,
    CompletionFailed,
    CompletionFinished,
    CompletionInterrupted,
    InterruptReason,
)

End = CompletionFinished | CompletionFailed

LAG_EVENTS = 4096
LAG_BYTES = 512 * 1024
"""How far behind a reader may be that had caught up once."""

KEPT_EVENTS = 64
"""How many events are kept as they are for readers who are a little late; others read the journal."""

UNWRITTEN_EVENTS = 512
"""How many events wait at most until they are written into the journal."""

RETRY_AFTER_S = 1.0


Feed = Callable[[Sequence[CompletionEvent]], bool]
"""Is given events at once, and tells whether it took them."""


class Reader:
    """One who follows a completion: where they are, and whether they were sent away.

    While they wait for news, `feed` is given them first, in the turn of whoever appends; what it does not take, and the
    end, comes by `batches`.
    """

    __slots__ = ("feed", "interrupted", "is_live", "position", "stream", "token_id", "waiter")

    def __init__(self, stream: "EventStream", token_id: UUID, after: int) -> None:
        self.stream = stream
        self.token_id = token_id
        self.position = after + 1
        self.is_live = stream.is_current and self.position >= stream.next_sequence
        self.feed: Feed | None = None
        self.waiter: asyncio.Future[None] | None = None
        self.interrupted: InterruptReason | None = None

    async def batches(self) -> AsyncGenerator[Sequence[CompletionEvent], None]:
        """Yield what has come since the last time, until the terminal event or an interruption.

        A reader who had caught up and then fell too far behind is sent away; one who still reads what was before they
        came may take their time.
        """
        stream, was_told_the_end = self.stream, False
        try:
            while True:
                if self.interrupted is None and self.lags():
                    self.interrupted = InterruptReason.LAGGED
                if self.interrupted is not None:
                    yield (self._interruption(self.interrupted),)
                    return
                batch = stream.read(self.position)
                if batch:
                    self.position += len(batch)
                    was_told_the_end = batch[-1] is stream.last
                    yield batch
                elif stream.last is not None:
                    if stream.was_taken_over and not was_told_the_end:
                        yield (msgspec.structs.replace(stream.last, sequence=self.position),)
                    return
                else:
                    self.is_live = stream.is_current
                    self.waiter = asyncio.get_running_loop().create_future()
                    await self.waiter
        finally:
            self.close()

    def interrupt(self, reason: InterruptReason) -> None:
        """Send this reader away with a last event; the completion goes on."""
        if self.interrupted is None:
            self.interrupted = reason
        self.wake()

    def lags(self) -> bool:
        """Tell whether the reader had caught up and has fallen too far behind since."""
        return self.is_live and self.stream.is_far_behind(self.position)

    def wake(self) -> None:
        """Let the reader look for what is new."""
        waiter = self.waiter
        if waiter is None or waiter.done():
            return
        if self.feed is not None and self.interrupted is None and self.stream.last is None:
            batch = self.stream.read(self.position)
            if batch and self.feed(batch):
                self.position += len(batch)
                return
        waiter.set_result(None)

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
            retry_after=RETRY_AFTER_S if reason is InterruptReason.SHUTDOWN else None,
        )


class EventStream:
    """A completion's events from number 0, read by any number of readers.

    Whoever runs the completion appends; in another process whoever follows its log does. The newest events are held as
    they are, which feeds readers who keep up; all but the terminal one also go into the journal, by `write_down`.
    `is_current` is false while what was before is still being read from the log.

    `on_abandoned` is called when the last reader has left before the end, `on_joined` when one comes, `on_news` with
    the first event after each `write_down`. Of one that `is_held_back` readers are given what `show` has named.
    """

    def __init__(self, invocation_id: UUID, workspace_id: UUID, principal: UUID, token_id: UUID) -> None:
        self.invocation_id = invocation_id
        self.workspace_id = workspace_id
        self.principal = principal
        self.token_id = token_id
        self.journal = Journal()
        self.last: End | None = None
        self.readers: set[Reader] = set()
        self.on_joined: Callable[[], None] | None = None
        self.on_abandoned: Callable[[], None] | None = None
        self.on_news: Callable[[], None] | None = None
        self.is_held_back = False
        self._shown = 0
        self._is_news = False
        self.was_taken_over = False
        self.is_current = True
        self._id = str(invocation_id)
        self._window: list[CompletionEvent] = []
        self._window_start = 0
        self._end: asyncio.Future[End] = asyncio.get_running_loop().create_future()

    @property
    def ended(self) -> bool:
        """Tell whether the terminal event is there."""
        return self.last is not None

    @property
    def next_sequence(self) -> int:
        """Return the number that the next event takes."""
        return self._window_start + len(self._window) + self.ended

    def append(self, events: Sequence[CompletionEvent]) -> None:
        """Add events that carry the next numbers, and wake the readers once."""
        self._window.extend(events)
        if len(self._window) > UNWRITTEN_EVENTS:
            self.write_down()
        if not self.is_held_back:
            self._shown = self.next_sequence
            self._wake()
        if not self._is_news and self.on_news is not None:
            self._is_news = True
            self.on_news()

    def show(self, count: int) -> None:
        """Let readers have the first `count` events, or as many as there are."""
        if count > self._shown:
            self._shown = min(count, self.next_sequence)
            self._wake()

    def take_in(self, lines: bytes, count: int) -> None:
        """Add what another process wrote into its journal next."""
        self.journal.extend(lines, count)
        self._window_start += count
        self._shown = self._window_start
        self._let_go_behind(min([reader.position for reader in self.readers], default=self.journal.count))
        self._wake()

    def end(self, event: End, *, taken_over: bool = False) -> None:
        """Add the terminal event. A completion has one: a second is refused.

        One that comes from who took over is numbered past what its reader had, who may have been given more than was
        ever logged.
        """
        if self.ended:
            raise RuntimeError("the completion has ended already")
        self.write_down()
        self.last = msgspec.structs.replace(event, sequence=self.next_sequence)
        self.was_taken_over = taken_over
        self._shown = self.next_sequence
        self._wake()
        self._end.set_result(self.last)

    def write_down(self) -> None:
        """Bring the journal up to date, and let go of events that nobody needs as they are and of readers who lag.

        One who does not read at all holds no call alive.
        """
        window, start, journal = self._window, self._window_start, self.journal
        self._is_news = False
        unwritten = window[journal.count - start :]
        if unwritten:
            journal.append(unwritten)
        slowest = min([reader.position for reader in self.readers], default=journal.count)
        self._let_go_behind(slowest)
        keep_from = min(max(slowest, journal.count - KEPT_EVENTS), journal.count)
        if keep_from > start:
            del window[: keep_from - start]
            self._window_start = keep_from

    def read(self, number: int) -> Sequence[CompletionEvent]:
        """Return what there is from that number on, or a part of it; nothing only where there is nothing."""
        place, count = number - self._window_start, max(self._shown - number, 0)
        if place < 0:
            return self.journal.read(number, self._id)[:count]
        batch = self._window[place : place + count]
        return [*batch, self.last] if self.last is not None and number <= self.last.sequence else batch

    def is_far_behind(self, number: int) -> bool:
        """Tell whether whoever reads on from that number has more before them than a reader may leave unread."""
        if self._shown - number > LAG_EVENTS:
            return True
        behind = number < self._window_start and self.journal.size > LAG_BYTES
        return behind and self.journal.size - self.journal.offset(number) > LAG_BYTES

    def written(self) -> Written:
        """Return what the model wrote until now."""
        self.write_down()
        return self.journal.written()

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

    async def finished(self) -> End:
        """Wait for the terminal event and return it."""
        return await asyncio.shield(self._end)

    def _let_go_behind(self, slowest: int) -> None:
        if self._shown - slowest <= LAG_EVENTS and self.journal.size <= LAG_BYTES:
            return
        for reader in [reader for reader in self.readers if reader.lags()]:
            reader.interrupt(InterruptReason.LAGGED)
            self.leave(reader)

    def _wake(self) -> None:
        for reader in self.readers:
            reader.wake()

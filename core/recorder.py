"""Writes the streams of this process into the event log: in groups, soon, and again where Redis has lost something."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import UUID

from core.errors import Problem, ServerUnavailable
from core.model_types import estimated_tokens
from core.model_types.llm import CompletionFailed
from core.ports.clock import Clock
from core.ports.event_log import EventLog, LogHead, LogState, LogWrite
from core.stream import End, EventStream

log = logging.getLogger(__name__)

GATHER_S = 0.03
"""How long events are gathered before they are written."""

GATHER_END_S = 0.003
"""How long events are gathered for which a reader waits: ends, and what is paid for."""

GROUP = 128
"""How many completions are written in one round trip."""

AGAIN_S = 0.25
END_WAIT_S = 1.0
"""How long the last event waits for the log's word that it is the only one."""

LINGER_S = 3.0
"""How long a written end is kept, in case Redis comes back without it: it may lose a second, or two under load."""

UNWRITTEN_BYTES = 64 * 1024 * 1024
TRACK_BYTES = 4 * 1024
"""How much of what has ended waits for Redis, and what a stream takes besides its text."""

NEITHER_S = 10.0
"""How long readers wait for what is paid for while neither Redis nor the database is there."""

KEPT_S = 600.0
"""How long after their end events can be read."""

TAKEN_OVER = "The server process that ran this call has died, or did not answer for so long that it was taken for dead."


def taken_over(invocation_id: UUID, sequence: int) -> CompletionFailed:
    """Return the end of a completion whose owner is gone."""
    problem = Problem.of(ServerUnavailable(TAKEN_OVER))
    return CompletionFailed(invocation_id=str(invocation_id), sequence=sequence, error=problem)


Noted = Callable[[Mapping[UUID, int]], Awaitable[None]]
"""Writes into the records of running calls how many tokens they have produced."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Track:
    """How far a stream is written. `end` is its last event once the owner has it, `offset` the place of `count`."""

    stream: EventStream
    head: LogHead
    count: int = 0
    offset: int = 0
    end: End | None = None
    is_waiting: bool = False
    ended_at: float | None = None
    is_written: bool = False
    is_taken: bool = False
    settled: asyncio.Event = field(default_factory=asyncio.Event)


class Recorder:
    """The writer of a process. `run` writes; what Redis does not take now waits in memory until it does."""

    def __init__(self, event_log: EventLog, process_id: UUID, clock: Clock, noted: Noted) -> None:
        self._log = event_log
        self._noted = noted
        self._process_id = process_id
        self._clock = clock
        self._tracks: dict[UUID, _Track] = {}
        self._waiting: list[_Track] = []
        self._news = asyncio.Event()
        self._urgent = asyncio.Event()
        self._server: str | None = None
        self.is_away = False
        self._away_since = 0.0
        self.on_taken: Callable[[UUID], None] | None = None

    def track(self, stream: EventStream, *, is_paid: bool = False) -> None:
        """Write this stream's events from now on.

        Of one that `is_paid` for by what it says, readers are given what is in the log alone, so that whoever settles
        it after the death of this process knows all that was delivered. While Redis is away, the records of the calls
        take note of how much that is.
        """
        head = LogHead(
            invocation_id=stream.invocation_id,
            workspace_id=stream.workspace_id,
            principal=stream.principal,
            token_id=stream.token_id,
            owner=self._process_id,
        )
        track = _Track(stream=stream, head=head)
        self._tracks[stream.invocation_id] = track
        stream.on_news = lambda: self._wait(track)
        stream.is_held_back = is_paid
        self._wait(track)

    def find(self, invocation_id: UUID) -> EventStream | None:
        """Return a stream of this process: one that runs, or whose end is not safely in the log yet."""
        track = self._tracks.get(invocation_id)
        return track.stream if track is not None else None

    async def end(self, stream: EventStream, event: End) -> End:
        """Write the terminal event and return the one that the completion has: another's, if that came first.

        While Redis is away the event is taken as it is, and written later.
        """
        track = self._tracks.get(stream.invocation_id)
        if track is None:
            return taken_over(stream.invocation_id, event.sequence)
        track.end = event
        self._wait(track)
        self._urgent.set()
        if not self.is_away:
            with suppress(TimeoutError):
                async with asyncio.timeout(END_WAIT_S):
                    await track.settled.wait()
        return taken_over(stream.invocation_id, event.sequence) if track.is_taken else event

    async def renew(self) -> None:
        """Say that this process lives; where Redis has been started anew, see what it still knows."""
        before = self._clock.monotonic()
        try:
            server = await self._log.renew(self._process_id)
        except ServerUnavailable as error:
            self._note_away(is_away=True, why=str(error))
            self._forget(None)
            return
        is_same = self._server in {None, server}
        if not is_same:
            log.info("Redis was started anew: what it has of %d streams is compared", len(self._tracks))
            for track in self._tracks.values():
                self._wait(track)
        self._server = server
        self._forget(before if is_same else None)
        self._note_away(is_away=False)

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._news.wait()
            if not self._urgent.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(GATHER_S):
                        await self._urgent.wait()
            await asyncio.sleep(GATHER_END_S if self._urgent.is_set() else 0)
            self._urgent.clear()
            try:
                for _ in range(0, len(self._waiting), GROUP):
                    await self._write()
                self._note_away(is_away=False)
            except ServerUnavailable as error:
                self._note_away(is_away=True, why=str(error))
                await self._note_output()
                await asyncio.sleep(AGAIN_S)
            except Exception:
                log.exception("events could not be logged")
                await asyncio.sleep(AGAIN_S)

    async def _note_output(self) -> None:
        """Let the records note what is paid for and not logged, and give it to its readers then.

        Where the database is away as well they wait for either, but not for long.
        """
        held = [(track, track.stream.next_sequence) for track in self._tracks.values() if track.stream.is_held_back]
        produced = {
            track.head.invocation_id: estimated_tokens(track.stream.written().produced)
            for track, _ in held
            if not track.stream.ended
        }
        try:
            await self._noted(produced)
        except ServerUnavailable:
            if self._clock.monotonic() - self._away_since < NEITHER_S:
                return
        for track, count in held:
            track.stream.show(count)

    def _note_away(self, *, is_away: bool, why: str = "") -> None:
        if is_away and not self.is_away:
            log.warning("events are kept in memory for now: %s", why)
            self._away_since = self._clock.monotonic()
        self.is_away = is_away

    def _wait(self, track: _Track) -> None:
        if not track.is_waiting:
            track.is_waiting = True
            self._waiting.append(track)
            self._news.set()
            if track.stream.is_held_back:
                self._urgent.set()

    async def _write(self) -> None:
        """Write a group; whatever fails, the group waits again."""
        taken, self._waiting = self._waiting[:GROUP], self._waiting[GROUP:]
        if not self._waiting:
            self._news.clear()
        for track in taken:
            track.is_waiting = False
        try:
            writes = [self._next(track) for track in taken]
            states = await self._log.append(writes)
        except BaseException:
            for track in taken:
                self._wait(track)
            raise
        self._note(taken, writes, states)

    def _next(self, track: _Track) -> LogWrite:
        journal = track.stream.journal
        track.stream.write_down()
        lines = journal.piece(track.offset)
        count = lines.count(b"\n")
        is_all = track.count + count == journal.count
        return LogWrite(head=track.head, first=track.count, lines=lines, count=count, end=track.end if is_all else None)

    def _note(self, taken: Sequence[_Track], writes: Sequence[LogWrite], states: Sequence[LogState]) -> None:
        for track, write, state in zip(taken, writes, states, strict=True):
            if state.is_taken:
                self._lost(track)
            elif state.ended:
                track.count, track.offset = write.first + write.count, track.offset + len(write.lines)
                track.is_written = True
                track.ended_at = self._clock.monotonic()
                track.settled.set()
            elif state.count == write.first + write.count:
                track.count, track.offset = state.count, track.offset + len(write.lines)
                track.stream.show(track.count)
                if track.count < track.stream.journal.count or track.end is not None:
                    self._wait(track)
            else:
                track.count = min(state.count, track.stream.journal.count)
                track.offset = track.stream.journal.offset(track.count)
                track.is_written = False
                self._wait(track)

    def _lost(self, track: _Track) -> None:
        """Somebody took this process for dead and has ended the completion."""
        invocation_id = track.stream.invocation_id
        self._tracks.pop(invocation_id, None)
        track.is_taken = True
        track.stream.on_news = None
        track.settled.set()
        log.warning("the completion %s was ended by another process", invocation_id)
        if self.on_taken is not None:
            self.on_taken(invocation_id)

    def _forget(self, same_at: float | None) -> None:
        """Let go of streams whose end is safe, and of others that ended long ago or take too much, oldest first.

        An end is safe if the Redis that took it has run on for a while: at `same_at` it still did.
        """
        now, gone, size = self._clock.monotonic(), set(), 0
        for track in reversed(self._tracks.values()):
            if not track.stream.ended:
                continue
            if track.ended_at is None:
                track.ended_at = now
            size += 0 if track.is_written else track.stream.journal.size + TRACK_BYTES
            is_safe = track.is_written and not track.is_waiting and (same_at or 0) - track.ended_at > LINGER_S
            if is_safe or now - track.ended_at > KEPT_S or size > UNWRITTEN_BYTES:
                gone.add(track.stream.invocation_id)
        for invocation_id in gone:
            del self._tracks[invocation_id]
        self._waiting = [track for track in self._waiting if track.stream.invocation_id not in gone]

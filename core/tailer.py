"""Follows the completions of other processes: one stream here for each, fed from the event log, for all its readers."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

import msgspec

from core.errors import ServerUnavailable
from core.model_types.llm import CompletionFailed
from core.ports.changes import Changes
from core.ports.event_log import EventLog, LogEntry, LogHead, Takeover
from core.recorder import taken_over
from core.stream import End, EventStream

log = logging.getLogger(__name__)

WAIT_S = 0.05
"""How long the log is asked to wait for news; who comes meanwhile waits as long."""

FEW_ENTRIES = 8
"""A log that gives fewer at once has been read up to what is said just now."""

PAUSE_S = 0.02
AGAIN_S = 0.25
LOOK_EVERY_S = 0.5
DEAD_AFTER_S = 3.0
"""How long a process must be missed, while Redis answers, until its completions are ended for it."""

TELL_EVERY_S = 1.5
UNREAD_S = 5.0
"""How long a stream that nobody reads is kept."""


class Readers(msgspec.Struct, frozen=True, kw_only=True):
    """What a process tells an owner: which of its completions it reads, and which not any more."""

    process: UUID
    reading: tuple[UUID, ...] = ()
    left: tuple[UUID, ...] = ()


def readers_channel(owner: UUID) -> str:
    """Return where an owner hears of readers in other processes."""
    return f"modelyard:readers:{owner.hex}"


encode_readers = msgspec.json.Encoder().encode
decode_readers = msgspec.json.Decoder(Readers).decode


@dataclass(slots=True, kw_only=True, eq=False)
class _Tailed:
    """A completion of another process as it is seen here. `is_over`: its log is known to have an end."""

    head: LogHead
    stream: EventStream
    since: float
    is_over: bool = False


class Tailer:
    """The tailer of a process. `run` reads, `tell` tells owners that somebody does, `look` ends what is dead."""

    def __init__(self, event_log: EventLog, changes: Changes, process_id: UUID) -> None:
        self._log = event_log
        self._changes = changes
        self._process_id = process_id
        self._followed: dict[UUID, _Tailed] = {}
        self._left: defaultdict[UUID, set[UUID]] = defaultdict(set)
        self._wanted = asyncio.Event()
        self._to_tell = asyncio.Event()
        self._missed: dict[UUID, float] = {}

    async def find(self, invocation_id: UUID, principal: UUID) -> EventStream | None:
        """Return the stream of a completion, followed from now on; None where it has no log, or is another's.

        Raises:
            ServerUnavailable: Redis is away.
        """
        found = self._followed.get(invocation_id)
        if found is None:
            head = await self._log.head(invocation_id)
            if head is None or head.principal != principal:
                return None
            found = self._followed.get(invocation_id) or self._follow(head)
        return found.stream if found.head.principal == principal else None

    def streams(self) -> list[EventStream]:
        """Return every stream that is followed now."""
        return [one.stream for one in self._followed.values()]

    async def is_alive(self, process_id: UUID) -> bool:
        """Tell whether a process has lately said that it lives."""
        return process_id in await self._log.alive([process_id])

    async def run(self) -> None:
        """Read until cancelled; while Redis is away readers wait."""
        while True:
            await self._wanted.wait()
            if not self._followed:
                self._wanted.clear()
                continue
            try:
                await asyncio.sleep(PAUSE_S if await self._read() else 0)
            except ServerUnavailable:
                await asyncio.sleep(AGAIN_S)
            except Exception:
                log.exception("the event log could not be followed")
                await asyncio.sleep(AGAIN_S)

    async def tell(self) -> None:
        """Tell owners who reads, at once when that changes and again and again, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(TELL_EVERY_S):
                    await self._to_tell.wait()
            except TimeoutError:
                pass
            self._to_tell.clear()
            try:
                await self._tell()
            except ServerUnavailable:
                await asyncio.sleep(AGAIN_S)

    async def look(self) -> None:
        """End the completions of processes that are dead, and let go of what nobody reads."""
        now = asyncio.get_running_loop().time()
        for one in list(self._followed.values()):
            if not one.stream.readers and now - one.since > UNREAD_S:
                self._leave(one)
        owners = {one.head.owner for one in self._followed.values()}
        try:
            alive = await self._log.alive(list(owners)) if owners else frozenset()
        except ServerUnavailable:
            self._missed.clear()
            return
        now = asyncio.get_running_loop().time()
        self._missed = {owner: self._missed.get(owner, now) for owner in owners - alive}
        dead = {owner for owner, since in self._missed.items() if now - since >= DEAD_AFTER_S}
        for one in [one for one in self._followed.values() if one.head.owner in dead]:
            await self._take_over(one)

    async def _read(self) -> bool:
        """Hand on what the logs have to tell; tell whether to let more of it gather before they are asked again."""
        counts = {one: followed.stream.journal.count for one, followed in self._followed.items()}
        news = await self._log.read(counts, WAIT_S)
        for invocation_id in counts:
            followed, entries = self._followed.get(invocation_id), news.get(invocation_id, ())
            if followed is not None:
                followed.stream.is_current |= len(entries) < FEW_ENTRIES
                self._take(followed, entries)
        return bool(news) and all(len(entries) < FEW_ENTRIES for entries in news.values())

    def _follow(self, head: LogHead) -> _Tailed:
        stream = EventStream(head.invocation_id, head.workspace_id, head.principal, head.token_id)
        stream.is_current = False
        followed = _Tailed(head=head, stream=stream, since=asyncio.get_running_loop().time())
        stream.on_abandoned = lambda: self._leave(followed)
        self._followed[head.invocation_id] = followed
        self._wanted.set()
        self._to_tell.set()
        return followed

    def _leave(self, followed: _Tailed) -> None:
        if self._followed.get(followed.head.invocation_id) is followed:
            del self._followed[followed.head.invocation_id]
            self._left[followed.head.owner].add(followed.head.invocation_id)
            self._to_tell.set()

    def _take(self, followed: _Tailed, entries: Iterable[LogEntry]) -> None:
        stream = followed.stream
        for entry in entries:
            known = stream.journal.count - entry.first
            if known < 0:
                return  # Redis has lost something that its owner will write again
            if known < entry.count:
                stream.take_in(entry.lines_from(stream.journal.count), entry.count - known)
            if entry.end is not None:
                self._end(followed, _whole(entry.end, stream), is_taken=entry.is_taken)
                return

    def _end(self, followed: _Tailed, end: End, *, is_taken: bool) -> None:
        self._followed.pop(followed.head.invocation_id, None)
        followed.stream.end(end, taken_over=is_taken)

    async def _take_over(self, followed: _Tailed) -> None:
        head, stream = followed.head, followed.stream
        end = taken_over(head.invocation_id, stream.next_sequence)
        try:
            came = await self._log.take_over(head, end)
        except ServerUnavailable:
            return
        log.warning("the owner of the completion %s is dead: %s", head.invocation_id, came.value)
        # What its log has is read before its end; but it may end before what was read here already, or be gone.
        is_read = followed.is_over or came is Takeover.LOST
        followed.is_over = came in {Takeover.TAKEN, Takeover.ENDED}
        if is_read and not stream.ended:
            self._end(followed, end, is_taken=True)

    async def _tell(self) -> None:
        reading: defaultdict[UUID, list[UUID]] = defaultdict(list)
        for invocation_id, one in self._followed.items():
            reading[one.head.owner].append(invocation_id)
        left, self._left = self._left, defaultdict(set)
        for owner in {*reading, *left}:
            said = Readers(process=self._process_id, reading=tuple(reading[owner]), left=tuple(left[owner]))
            await self._changes.publish(readers_channel(owner), encode_readers(said))


def _whole(end: End, stream: EventStream) -> End:
    """Return an end as it was before the log kept it, with what the model wrote."""
    if isinstance(end, CompletionFailed):
        return end
    return msgspec.structs.replace(end, message=stream.written().message(end.message.continuation))

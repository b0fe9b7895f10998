"""What a process runs is logged soon, and again where Redis was away or has lost something."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from uuid import UUID

import pytest

import core.recorder
from core.errors import ErrorCode, Problem, ServerUnavailable
from core.ids import uuid7
from core.model_types.llm import CompletionEvent, CompletionFailed, TextDelta
from core.ports.event_log import LogState, LogWrite
from core.recorder import KEPT_S, LINGER_S, NEITHER_S, Recorder
from core.stream import EventStream
from storage.event_log import RedisEventLog
from storage.redis import open_pool
from tests.conftest import MovableClock
from tests.waiting import LIMIT_S


class Switched(RedisEventLog):
    """A log whose Redis can be away, and can seem to be another one."""

    is_away = False
    is_slow = False
    server = "first"

    async def append(self, writes: Sequence[LogWrite]) -> Sequence[LogState]:
        while self.is_slow:
            await asyncio.sleep(0.01)
        if self.is_away:
            raise ServerUnavailable("Redis is away.")
        return await super().append(writes)

    async def renew(self, process_id: UUID) -> str:
        if self.is_away:
            raise ServerUnavailable("Redis is away.")
        await super().renew(process_id)
        return self.server


class Records:
    """What the records of the calls have noted, in a database that can be away."""

    def __init__(self) -> None:
        self.noted: dict[UUID, int] = {}
        self.is_away = False

    async def note(self, produced: Mapping[UUID, int]) -> None:
        if self.is_away:
            raise ServerUnavailable("The database is away.")
        self.noted |= produced


@pytest.fixture
def records() -> Records:
    return Records()


@pytest.fixture
async def event_log(redis_url: str) -> AsyncIterator[Switched]:
    pool = open_pool(redis_url)
    yield Switched(pool)
    await pool.aclose()


@pytest.fixture
async def recorder(
    event_log: Switched, records: "Records", clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Recorder]:
    monkeypatch.setattr(core.recorder, "AGAIN_S", 0.01)
    one = Recorder(event_log, uuid7(), clock, records.note)
    await one.renew()
    working = asyncio.create_task(one.run())
    yield one
    working.cancel()
    await asyncio.wait([working])


def started(recorder: Recorder, *texts: str, is_paid: bool = False) -> EventStream:
    stream = EventStream(uuid7(), uuid7(), uuid7(), uuid7())
    recorder.track(stream, is_paid=is_paid)
    say(stream, *texts)
    return stream


def say(stream: EventStream, *texts: str) -> None:
    first = stream.next_sequence
    stream.append([TextDelta(invocation_id="i", sequence=first + place, text=text) for place, text in enumerate(texts)])


def failed(stream: EventStream) -> CompletionFailed:
    problem = Problem(code=ErrorCode.CANCELLED, message="over")
    return CompletionFailed(invocation_id="i", sequence=stream.next_sequence, error=problem)


async def logged(event_log: RedisEventLog, stream: EventStream, count: int) -> str:
    """Return all that the log holds, once that is so many events."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            entries = (await event_log.read({stream.invocation_id: 0}, 0.005)).get(stream.invocation_id, ())
            if entries and entries[-1].first + entries[-1].count + (entries[-1].end is not None) >= count:
                return b"".join(entry.lines for entry in entries).decode().replace('"', "").replace("\n", "")


async def test_what_is_said_is_logged_within_moments(recorder: Recorder, event_log: Switched) -> None:
    one, two = started(recorder, "a"), started(recorder, "x", "y")

    say(one, "b", "c")

    assert await logged(event_log, one, 3) == "abc"
    assert await logged(event_log, two, 2) == "xy"


async def test_what_is_said_while_redis_is_away_is_logged_when_it_is_back(
    recorder: Recorder, event_log: Switched
) -> None:
    stream = started(recorder, "a")
    await logged(event_log, stream, 1)
    event_log.is_away = True
    say(stream, "b", "c")
    await recorder.renew()

    async with asyncio.timeout(core.recorder.END_WAIT_S / 2):  # nobody waits for who is known to be away
        end = await recorder.end(stream, failed(stream))
    stream.end(end)
    found = recorder.find(stream.invocation_id)
    event_log.is_away = False

    assert found is stream
    assert await logged(event_log, stream, 4) == "abc"


async def test_what_a_restarted_redis_has_lost_is_logged_again_even_after_the_end(
    recorder: Recorder, event_log: Switched
) -> None:
    running, over = started(recorder, "a", "b"), started(recorder, "x")
    over.end(await recorder.end(over, failed(over)))
    await logged(event_log, running, 2)
    for stream in (running, over):
        await event_log._redis.delete(key := f"modelyard:log:{stream.invocation_id.hex}", f"{key}:meta")

    event_log.server = "second"
    await recorder.renew()

    assert await logged(event_log, running, 2) == "ab"
    assert await logged(event_log, over, 2) == "x"


async def test_an_end_is_not_let_go_while_the_redis_that_took_it_is_away(
    recorder: Recorder, event_log: Switched, clock: MovableClock
) -> None:
    over = started(recorder, "x")
    over.end(await recorder.end(over, failed(over)))
    event_log.is_away = True
    clock.advance(LINGER_S + 1)
    await recorder.renew()
    await event_log._redis.delete(key := f"modelyard:log:{over.invocation_id.hex}", f"{key}:meta")

    event_log.is_away, event_log.server = False, "second"
    await recorder.renew()

    assert await logged(event_log, over, 2) == "x"


async def test_a_stream_is_let_go_when_its_end_is_safe(
    recorder: Recorder, event_log: Switched, clock: MovableClock
) -> None:
    stream = started(recorder, "a")
    stream.end(await recorder.end(stream, failed(stream)))
    await recorder.renew()
    lingers = recorder.find(stream.invocation_id)

    clock.advance(LINGER_S + 1)
    await recorder.renew()

    assert lingers is stream
    assert recorder.find(stream.invocation_id) is None


async def test_what_cannot_be_logged_is_kept_for_ten_minutes_and_within_bounds(
    recorder: Recorder, event_log: Switched, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core.recorder, "UNWRITTEN_BYTES", 3 * core.recorder.TRACK_BYTES + 100)
    event_log.is_away = True
    await recorder.renew()
    streams = [started(recorder, "a") for _ in range(5)]
    running = started(recorder, "a")
    for stream in streams:
        stream.end(await recorder.end(stream, failed(stream)))

    await recorder.renew()
    kept = [recorder.find(stream.invocation_id) is not None for stream in streams]
    clock.advance(KEPT_S + 1)
    await recorder.renew()

    assert kept == [False, False, True, True, True]
    assert not any(recorder.find(stream.invocation_id) for stream in streams)
    assert recorder.find(running.invocation_id) is running


async def test_who_was_taken_for_dead_is_told_once_and_gives_the_end_that_there_is(
    recorder: Recorder, event_log: Switched
) -> None:
    told: list[UUID] = []
    recorder.on_taken = told.append
    stream = started(recorder, "a")
    await logged(event_log, stream, 1)
    head = await event_log.head(stream.invocation_id)
    assert head is not None
    await event_log.leave(head.owner)
    await event_log.take_over(head, core.recorder.taken_over(head.invocation_id, 1))

    say(stream, "b")
    async with asyncio.timeout(LIMIT_S):
        while not told:
            await asyncio.sleep(0.005)
    end = await recorder.end(stream, failed(stream))

    assert told == [stream.invocation_id]
    assert isinstance(end, CompletionFailed)
    assert end.error.code is ErrorCode.SERVER_UNAVAILABLE


async def test_readers_are_fed_whatever_redis_does(recorder: Recorder, event_log: Switched) -> None:
    event_log.is_away = True
    stream = started(recorder, "a")
    events: list[CompletionEvent] = []
    async with aclosing(stream.join(stream.token_id).batches()) as batches:
        for text in "bcd":
            events += await anext(batches)
            say(stream, text)
        events += await anext(batches)

    assert [event.text for event in events if isinstance(event, TextDelta)] == ["a", "b", "c", "d"]


async def test_what_is_paid_for_is_read_once_it_is_logged(recorder: Recorder, event_log: Switched) -> None:
    stream = started(recorder, is_paid=True)
    free = started(recorder)
    event_log.is_slow = True
    await asyncio.sleep(0.05)  # the writer waits in the log now
    for one in (stream, free):
        say(one, "a", "b")

    before = [len(one.read(0)) for one in (stream, free)]
    reader = stream.join(stream.token_id)
    async with aclosing(reader.batches()) as batches, asyncio.timeout(LIMIT_S):
        waiting = asyncio.create_task(anext(batches))
        await asyncio.sleep(0.02)
        was_told = waiting.done()
        event_log.is_slow = False
        given = [*await waiting]
        in_log = await logged(event_log, stream, len(given))

    assert before == [0, 2]
    assert not was_told
    assert in_log.startswith("".join(event.text for event in given if isinstance(event, TextDelta)))


async def test_what_is_paid_for_is_noted_in_the_records_while_redis_is_away(
    recorder: Recorder, event_log: Switched, records: Records, clock: MovableClock
) -> None:
    stream = started(recorder, "four", is_paid=True)
    await logged(event_log, stream, 1)
    event_log.is_away = records.is_away = True
    say(stream, "and four")
    await asyncio.sleep(0.05)

    with_neither = len(stream.read(0))
    records.is_away = False
    await readable(stream, 2)
    noted = dict(records.noted)
    records.is_away = True
    say(stream, "more")
    clock.advance(NEITHER_S + 1)
    await readable(stream, 3)  # nobody waits for ever

    assert with_neither == 1
    assert noted == {stream.invocation_id: 3}


async def readable(stream: EventStream, count: int) -> None:
    async with asyncio.timeout(LIMIT_S):
        while len(stream.read(0)) < count:
            await asyncio.sleep(0.01)

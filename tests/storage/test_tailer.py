"""A process follows what others run: from the log, to an end that comes even if the owner is dead."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from redis.asyncio import Redis

import core.tailer
from core.ids import uuid7
from core.model_types.llm import CompletionEvent, CompletionFailed, TextDelta
from core.ports.event_log import LogHead, LogWrite
from core.stream import LAG_EVENTS, Reader
from core.tailer import Readers, Tailer, decode_readers, readers_channel
from storage.changes import RedisChanges
from storage.event_log import RedisEventLog
from storage.redis import absolute, open_pool
from tests.waiting import LIMIT_S


class Here:
    """A process that follows."""

    def __init__(self, event_log: RedisEventLog, changes: RedisChanges) -> None:
        self.process_id = uuid7()
        self.log, self.changes = event_log, changes
        self.tailer = Tailer(event_log, changes, self.process_id)


@pytest.fixture
async def here(redis_url: str) -> AsyncIterator[Here]:
    pool = open_pool(redis_url)
    event_log, changes = RedisEventLog(pool), RedisChanges(pool)
    one = Here(event_log, changes)
    working = [asyncio.create_task(one.tailer.run()), asyncio.create_task(one.tailer.tell())]
    yield one
    for task in working:
        task.cancel()
    await asyncio.wait(working)
    await changes.close()
    await pool.aclose()


def head() -> LogHead:
    return LogHead(invocation_id=uuid7(), workspace_id=uuid7(), principal=uuid7(), token_id=uuid7(), owner=uuid7())


def write(of: LogHead, first: int, *texts: str) -> LogWrite:
    return LogWrite(head=of, first=first, lines=b"".join(b'"%s"\n' % text.encode() for text in texts), count=len(texts))


async def rest(reader: Reader) -> list[CompletionEvent]:
    async with aclosing(reader.batches()) as batches:
        return [event async for batch in batches for event in batch]


async def test_an_owner_that_is_dead_is_ended_for_and_one_that_lives_is_not(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core.tailer, "DEAD_AFTER_S", 0.0)
    of = head()
    await here.log.renew(of.owner)
    await here.log.append([write(of, 0, "a", "b")])
    stream = await here.tailer.find(of.invocation_id, of.principal)
    assert stream is not None
    reader = stream.join(of.token_id)

    await here.tailer.look()
    await asyncio.sleep(0.1)
    lives = stream.ended
    await here.log.leave(of.owner)
    await here.tailer.look()
    events = await rest(reader)

    assert lives is False
    assert [event.sequence for event in events] == [0, 1, 2]
    assert isinstance(events[-1], CompletionFailed)


async def test_the_end_of_a_log_that_is_cut_short_reaches_who_had_more(
    here: Here, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core.tailer, "DEAD_AFTER_S", 0.0)
    of = head()
    await here.log.append([write(of, 0, "a", "b", "c")])
    stream = await here.tailer.find(of.invocation_id, of.principal)
    assert stream is not None
    reader = stream.join(of.token_id)
    async with aclosing(reader.batches()) as batches:
        assert len(await anext(batches)) == 3
        async with Redis.from_url(absolute(redis_url)) as redis:
            await redis.delete(key := f"modelyard:log:{of.invocation_id.hex}", f"{key}:meta")
        await here.log.append([write(of, 0, "a")])

        for _ in range(2):
            await here.tailer.look()
        (end,) = await anext(batches)

    assert isinstance(end, CompletionFailed)
    assert end.sequence == 3


async def test_a_log_that_is_gone_ends_with_its_owner(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core.tailer, "DEAD_AFTER_S", 0.0)
    of = head()
    await here.log.append([write(of, 0, "a")])
    stream = await here.tailer.find(of.invocation_id, of.principal)
    assert stream is not None
    reader = stream.join(of.token_id)
    await here.log._redis.delete(key := f"modelyard:log:{of.invocation_id.hex}", f"{key}:meta")

    await here.tailer.look()

    assert isinstance((await rest(reader))[-1], CompletionFailed)


async def test_owners_are_told_who_reads_and_who_has_left(here: Here) -> None:
    of = head()
    await here.log.append([write(of, 0, "a")])
    async with here.changes.listen(readers_channel(of.owner)) as messages, asyncio.timeout(LIMIT_S):
        stream = await here.tailer.find(of.invocation_id, of.principal)
        assert stream is not None
        reader = stream.join(of.token_id)
        came = decode_readers(await anext(messages))
        reader.close()
        left = decode_readers(await anext(messages))

    assert came == Readers(process=here.process_id, reading=(of.invocation_id,))
    assert left == Readers(process=here.process_id, left=(of.invocation_id,))
    assert here.tailer.streams() == []


async def test_what_nobody_reads_is_let_go(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    of = head()
    await here.log.append([write(of, 0, "a")])
    assert await here.tailer.find(of.invocation_id, of.principal) is not None
    monkeypatch.setattr(core.tailer, "UNREAD_S", -1.0)

    await here.tailer.look()

    assert here.tailer.streams() == []


async def test_what_has_no_log_is_not_followed(here: Here) -> None:
    assert await here.tailer.find(uuid7(), uuid7()) is None
    assert here.tailer.streams() == []


async def test_a_long_log_is_read_from_its_beginning_at_the_readers_pace(here: Here) -> None:
    of, group = head(), 256
    await here.log.renew(of.owner)
    for first in range(0, 3 * LAG_EVENTS, group):
        await here.log.append([write(of, first, *["word"] * group)])
    stream = await here.tailer.find(of.invocation_id, of.principal)
    assert stream is not None
    found = 0
    async with aclosing(stream.join(of.token_id).batches()) as batches, asyncio.timeout(LIMIT_S):
        while found < 3 * LAG_EVENTS:
            batch = await anext(batches)
            assert all(isinstance(event, TextDelta) for event in batch), batch[-1]
            found += len(batch)
            await asyncio.sleep(0.005)

    assert found == 3 * LAG_EVENTS


async def test_what_is_anothers_is_not_followed(here: Here) -> None:
    of = head()
    await here.log.append([write(of, 0, "a")])

    before = await here.tailer.find(of.invocation_id, uuid7())
    own = await here.tailer.find(of.invocation_id, of.principal)
    after = await here.tailer.find(of.invocation_id, uuid7())

    assert (before, after) == (None, None)
    assert here.tailer.streams() == [own]


async def test_what_stands_in_the_log_twice_is_read_once(here: Here) -> None:
    of = head()
    await here.log.append([write(of, 0, "a", "b")])
    await here.log.append([write(of, 0, "a", "b", "c")])
    await here.log.append([write(of, 1, "b", "c", "d")])

    stream = await here.tailer.find(of.invocation_id, of.principal)
    assert stream is not None
    texts: list[str] = []
    async with aclosing(stream.join(of.token_id).batches()) as batches, asyncio.timeout(LIMIT_S):
        while len(texts) < 4:
            texts += [event.text for event in await anext(batches) if isinstance(event, TextDelta)]

    assert texts == ["a", "b", "c", "d"]
    entries = (await here.log.read({of.invocation_id: 0}, 0.001))[of.invocation_id]
    assert [entry.lines_from(2) for entry in entries] == [b"", b'"c"\n', b'"c"\n"d"\n']

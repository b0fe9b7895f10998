"""The log of a completion takes each event once, ends once, and listens to one owner."""

from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID

import pytest

from core.errors import ServerUnavailable
from core.ids import uuid7
from core.model_types import Usage
from core.model_types.llm import AssistantMessage, CompletionFinished, FinishReason
from core.ports.event_log import EventLog, LogEntry, LogHead, LogWrite, Takeover
from core.recorder import taken_over
from storage.event_log import RedisEventLog
from storage.redis import open_pool


@pytest.fixture
async def event_log(redis_url: str) -> AsyncIterator[RedisEventLog]:
    pool = open_pool(redis_url)
    yield RedisEventLog(pool)
    await pool.aclose()


def head() -> LogHead:
    return LogHead(invocation_id=uuid7(), workspace_id=uuid7(), principal=uuid7(), token_id=uuid7(), owner=uuid7())


def write(of: LogHead, first: int, *texts: str) -> LogWrite:
    return LogWrite(head=of, first=first, lines=b"".join(b'"%s"\n' % text.encode() for text in texts), count=len(texts))


def ended(of: LogHead, first: int, *texts: str) -> LogWrite:
    message = AssistantMessage(text="abc", continuation="signed")
    finished = CompletionFinished(
        invocation_id=str(of.invocation_id),
        sequence=first + len(texts),
        finish_reason=FinishReason.STOP,
        message=message,
        usage=Usage(output_tokens=3),
    )
    return replace(write(of, first, *texts), end=finished)


async def counts(event_log: EventLog, *writes: LogWrite) -> list[tuple[int, bool, bool]]:
    return [(state.count, state.ended, state.is_taken) for state in await event_log.append(writes)]


async def entries(event_log: EventLog, invocation_id: UUID, after: int = 0) -> list[LogEntry]:
    return list((await event_log.read({invocation_id: after}, 0.001)).get(invocation_id, ()))


async def test_many_logs_are_written_at_once_and_read_from_any_count(event_log: RedisEventLog) -> None:
    one, two = head(), head()

    assert await counts(event_log, write(one, 0, "a", "b"), write(two, 0, "x")) == [
        (2, False, False),
        (1, False, False),
    ]
    assert await counts(event_log, write(one, 2, "c")) == [(3, False, False)]

    assert [(entry.first, entry.lines) for entry in await entries(event_log, one.invocation_id)] == [
        (0, b'"a"\n"b"\n'),
        (2, b'"c"\n'),
    ]
    assert [entry.first for entry in await entries(event_log, one.invocation_id, 1)] == [0, 2]
    assert [entry.first for entry in await entries(event_log, one.invocation_id, 2)] == [2]
    assert await entries(event_log, two.invocation_id, 1) == []
    assert await event_log.head(one.invocation_id) == one
    assert await event_log.head(uuid7()) is None


async def test_what_was_written_before_is_not_written_twice(event_log: RedisEventLog) -> None:
    one = head()
    await event_log.append([write(one, 0, "a", "b")])

    again = await counts(event_log, write(one, 0, "a", "b"))
    longer = await counts(event_log, write(one, 0, "a", "b", "c"))

    assert (again, longer) == ([(2, False, False)], [(3, False, False)])
    assert [(entry.first, entry.count) for entry in await entries(event_log, one.invocation_id)] == [(0, 2), (0, 3)]


async def test_a_write_after_something_lost_says_from_where_to_write_again(event_log: RedisEventLog) -> None:
    one = head()

    assert await counts(event_log, write(one, 5, "f")) == [(0, False, False)]
    await event_log.append([write(one, 0, "a")])
    assert await counts(event_log, write(one, 5, "f")) == [(1, False, False)]
    assert [entry.first for entry in await entries(event_log, one.invocation_id)] == [0]


async def test_it_ends_once(event_log: RedisEventLog) -> None:
    one = head()
    await event_log.append([write(one, 0, "a")])

    assert await counts(event_log, ended(one, 1, "b")) == [(3, True, False)]
    assert await counts(event_log, ended(one, 1, "b")) == [(3, True, False)]
    assert await counts(event_log, write(one, 3, "c")) == [(3, True, False)]
    assert await event_log.take_over(one, taken_over(one.invocation_id, 2)) is Takeover.ENDED

    first, last = await entries(event_log, one.invocation_id)
    assert (first.end, last.first, last.count, last.is_taken) == (None, 1, 1, False)
    assert isinstance(last.end, CompletionFinished)
    assert last.end.message == AssistantMessage(continuation="signed")
    assert last.end.usage == Usage(output_tokens=3)


async def test_who_takes_over_ends_it_and_the_owner_writes_no_more(event_log: RedisEventLog) -> None:
    one = head()
    await event_log.renew(one.owner)
    await event_log.append([write(one, 0, "a")])

    assert await event_log.take_over(one, taken_over(one.invocation_id, 1)) is Takeover.ALIVE
    await event_log.leave(one.owner)
    assert await event_log.take_over(one, taken_over(one.invocation_id, 1)) is Takeover.TAKEN
    assert await event_log.take_over(one, taken_over(one.invocation_id, 1)) is Takeover.ENDED

    assert await counts(event_log, write(one, 1, "b")) == [(0, True, True)]
    assert await counts(event_log, ended(one, 1)) == [(0, True, True)]
    _, last = await entries(event_log, one.invocation_id)
    assert (last.first, last.count, last.is_taken) == (1, 0, True)
    assert last.end is not None


async def test_what_is_lost_cannot_be_taken_over(event_log: RedisEventLog) -> None:
    one = head()

    assert await event_log.take_over(one, taken_over(one.invocation_id, 0)) is Takeover.LOST
    assert await entries(event_log, one.invocation_id) == []


async def test_a_process_is_alive_from_when_it_says_so_until_it_leaves(event_log: RedisEventLog) -> None:
    here, gone = uuid7(), uuid7()
    server = await event_log.renew(here)
    await event_log.renew(gone)

    await event_log.leave(gone)

    assert await event_log.alive([here, gone, uuid7()]) == {here}
    assert await event_log.renew(here) == server


async def test_a_redis_that_is_away_is_told_as_such() -> None:
    pool = open_pool("unix:///nowhere/valkey.sock")
    away = RedisEventLog(pool)

    with pytest.raises(ServerUnavailable):
        await away.append([write(head(), 0, "a")])
    with pytest.raises(ServerUnavailable):
        await away.read({uuid7(): 0}, 0.001)
    await pool.aclose()

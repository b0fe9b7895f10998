"""A completion's events reach every reader in order, whenever they join, and leaving is noticed once."""

import asyncio
import sys
from contextlib import aclosing
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ErrorCode, Problem
from core.model_types.llm import CompletionEvent, CompletionFailed, CompletionInterrupted, InterruptReason, TextDelta
from core.stream import KEPT_EVENTS, LAG_EVENTS, EventStream, Reader

TOKEN = uuid4()


def stream() -> EventStream:
    return EventStream(uuid4(), uuid4(), uuid4(), TOKEN)


def delta(number: int) -> TextDelta:
    return TextDelta(invocation_id="i", sequence=number, text=str(number))


def end(number: int) -> CompletionFailed:
    return CompletionFailed(invocation_id="i", sequence=number, error=Problem(code=ErrorCode.CANCELLED, message="over"))


async def read(reader: Reader) -> list[CompletionEvent]:
    async with aclosing(reader.batches()) as batches:
        return [event async for batch in batches for event in batch]


@given(
    batches=st.lists(st.integers(min_value=0, max_value=5), max_size=8),
    joins=st.integers(0, 8),
    after=st.integers(-1, 6),
)
def test_a_reader_gets_all_that_follows_in_order(batches: list[int], joins: int, after: int) -> None:
    async def play() -> tuple[list[CompletionEvent], int]:
        one = stream()
        reading: asyncio.Task[list[CompletionEvent]] | None = None
        for number, size in enumerate(batches):
            if number == joins:
                reading = asyncio.create_task(read(one.join(TOKEN, after)))
            one.append([delta(one.next_sequence + place) for place in range(size)])
            await asyncio.sleep(0)
        reading = reading or asyncio.create_task(read(one.join(TOKEN, after)))
        one.end(end(one.next_sequence))
        return await reading, one.next_sequence

    events, total = asyncio.run(play())

    assert [event.sequence for event in events] == list(range(after + 1, total))


async def test_a_second_end_is_refused() -> None:
    one = stream()
    one.end(end(0))

    with pytest.raises(RuntimeError):
        one.end(end(1))
    assert one.next_sequence == 1


async def test_the_last_reader_to_leave_abandons_a_running_completion() -> None:
    one, left = stream(), []
    one.on_abandoned = lambda: left.append("abandoned")
    first, second = one.join(TOKEN), one.join(TOKEN)

    first.close()
    assert left == []
    second.close()
    second.close()

    assert left == ["abandoned"]


async def test_leaving_after_the_end_abandons_nothing() -> None:
    one, left = stream(), []
    one.on_abandoned = lambda: left.append("abandoned")
    reader = one.join(TOKEN)
    one.end(end(0))

    await read(reader)

    assert left == []


async def test_a_reader_who_is_sent_away_learns_where_to_go_on() -> None:
    one = stream()
    reader = one.join(TOKEN)
    one.append([delta(0), delta(1)])
    async with aclosing(reader.batches()) as batches:
        assert len(await anext(batches)) == 2
        reader.interrupt(InterruptReason.UNAUTHORIZED)
        (last,) = await anext(batches)

        assert isinstance(last, CompletionInterrupted)
        assert (last.sequence, last.resume_after, last.reason) == (1, 1, InterruptReason.UNAUTHORIZED)
        with pytest.raises(StopAsyncIteration):
            await anext(batches)
    assert not one.readers


async def test_a_reader_who_had_caught_up_and_fell_far_behind_is_sent_away() -> None:
    one = stream()
    slow, quick = one.join(TOKEN), one.join(TOKEN)
    async with aclosing(slow.batches()) as batches, aclosing(quick.batches()) as quickly:
        waiting = asyncio.create_task(anext(batches))
        await asyncio.sleep(0)
        one.append([delta(0)])
        assert await waiting == [delta(0)]
        for number in range(1, LAG_EVENTS + 2):
            one.append([delta(number)])
            assert [event.sequence for event in await anext(quickly)][-1] == number
            one.write_down()

        (last,) = await anext(batches)

    assert isinstance(last, CompletionInterrupted)
    assert (last.reason, last.sequence, last.resume_after) == (InterruptReason.LAGGED, 0, 0)


async def test_who_comes_back_reads_what_was_before_at_their_own_pace() -> None:
    one = stream()
    for number in range(3 * LAG_EVENTS):
        one.append([delta(number)])
    one.end(end(one.next_sequence))

    events = await read(one.join(TOKEN, 1))

    assert [event.sequence for event in events] == list(range(2, 3 * LAG_EVENTS + 1))


async def test_events_that_nobody_waits_for_are_kept_as_text_alone() -> None:
    one = stream()
    reader = one.join(TOKEN)

    for number in range(10_000):
        one.append([delta(number)])
        one.write_down()

    assert sys.getsizeof(one._window) < 100 * KEPT_EVENTS
    assert len(one._window) <= KEPT_EVENTS
    assert one.journal.size < 10 * 10_000
    reader.close()


async def test_the_end_by_another_is_numbered_past_what_each_reader_had() -> None:
    one = stream()
    one.append([delta(0), delta(1)])
    one.end(end(0), taken_over=True)

    assert [event.sequence for event in await read(one.join(TOKEN))] == [0, 1, 2]
    assert [event.sequence for event in await read(one.join(TOKEN, 1))] == [2]
    assert [event.sequence for event in await read(one.join(TOKEN, 9))] == [10]


async def test_who_has_the_end_is_given_nothing_more() -> None:
    one = stream()
    one.append([delta(0)])
    one.end(end(1))

    assert await read(one.join(TOKEN, 1)) == []

"""Calls and tokens a minute: counted exactly by all processes, and by each alone while Redis is away."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from core.ids import uuid7
from core.ports.rates import Limited, Rate, RateOf, Rates, Taken
from storage.commands import Commands
from storage.pool_state import RedisPoolState
from storage.rates import RedisRates
from storage.rates_memory import MemoryRates, SharedRates
from storage.redis import open_pool
from tests.conftest import MovableClock
from tests.storage.test_pool_state import Away, a_pool, places


def rate(requests: int | None = None, tokens: int | None = None, of: RateOf = RateOf.TOKEN) -> Rate:
    return Rate(of=of, id=uuid7(), requests=requests, tokens=tokens)


@pytest.fixture(params=["redis", "memory"])
async def rates(request: pytest.FixtureRequest, redis_url: str, clock: MovableClock) -> AsyncIterator[Rates]:
    """Return what counts: once in Redis, once in the process."""
    if request.param == "memory":
        yield MemoryRates(clock)
        return
    pool = open_pool(redis_url)
    yield RedisRates(Commands(pool), clock)
    await pool.aclose()


async def take(rates: Rates, *under: Rate, tokens: int = 0) -> Taken:
    taken = await rates.take(under, tokens)
    assert isinstance(taken, Taken), taken
    return taken


async def wait(rates: Rates, *under: Rate, tokens: int = 0) -> float:
    """Return when a call that is refused may be made."""
    limited = await rates.take(under, tokens)
    assert isinstance(limited, Limited), limited
    return limited.retry_after


async def test_no_minute_has_more_calls_than_allowed(rates: Rates, clock: MovableClock) -> None:
    one = rate(requests=5)
    for _ in range(3):
        await take(rates, one)
    clock.advance(seconds=30)
    for _ in range(2):
        await take(rates, one)

    assert await wait(rates, one) == pytest.approx(30)
    clock.advance(seconds=29.5)
    assert await wait(rates, one) == pytest.approx(0.5)
    clock.advance(seconds=0.5)
    for _ in range(3):
        await take(rates, one)
    assert await wait(rates, one) == pytest.approx(30)


async def test_the_time_that_is_told_is_the_time_when_there_is_room(rates: Rates, clock: MovableClock) -> None:
    one = rate(requests=3, tokens=100)
    for tokens, pause in ((50, 7.25), (30, 0.5), (10, 3)):
        await take(rates, one, tokens=tokens)
        clock.advance(seconds=pause)

    for _ in range(5):
        later = await wait(rates, one, tokens=60)
        clock.advance(seconds=later - 0.01)
        assert await wait(rates, one, tokens=60) == pytest.approx(0.01, abs=1e-4)
        clock.advance(seconds=0.011)
        await take(rates, one, tokens=60)


async def test_tokens_are_foreseen_and_corrected(rates: Rates, clock: MovableClock) -> None:
    one = rate(tokens=1000)
    first = await take(rates, one, tokens=800)
    assert await wait(rates, one, tokens=300) == pytest.approx(60)

    await rates.correct(first, 100)
    second = await take(rates, one, tokens=300)
    await rates.correct(second, 900)

    assert await wait(rates, one, tokens=1) == pytest.approx(60)
    clock.advance(seconds=60)
    await take(rates, one, tokens=1000)
    await rates.correct(first, 5000)
    assert await wait(rates, one, tokens=1) == pytest.approx(60)


async def test_a_call_that_foresees_more_than_a_minute_has_waits_for_a_quiet_one(
    rates: Rates, clock: MovableClock
) -> None:
    one = rate(tokens=100)
    await take(rates, one, tokens=1)

    assert await wait(rates, one, tokens=5000) == pytest.approx(60)
    clock.advance(seconds=60)
    await take(rates, one, tokens=5000)
    assert await wait(rates, one, tokens=1) == pytest.approx(60)


async def test_a_call_counts_for_all_its_rates_or_for_none(rates: Rates, clock: MovableClock) -> None:
    token, other = rate(requests=10, tokens=50), rate(requests=10)
    place = rate(requests=3, tokens=1000, of=RateOf.WORKSPACE)
    for _ in range(3):
        await take(rates, other, place)

    refused = [await rates.take((token, place), 10) for _ in range(4)]

    assert all(isinstance(one, Limited) and one.rate is place and one.requests for one in refused)
    for _ in range(5):
        await take(rates, token, tokens=10)
    clock.advance(seconds=1)
    assert await wait(rates, token, tokens=10) == pytest.approx(59)


async def test_redis_counts_as_the_process_does_and_no_minute_has_more_than_allowed(
    redis_url: str, clock: MovableClock
) -> None:
    pool, chance = open_pool(redis_url), random.Random(7)
    both: list[Rates] = [RedisRates(Commands(pool), clock), MemoryRates(clock)]
    under = (rate(requests=12, tokens=900), rate(requests=20, of=RateOf.WORKSPACE))
    made: list[tuple[float, int]] = []
    open_calls: list[list[Taken]] = []

    for _ in range(400):
        clock.advance(seconds=chance.choice((0, 0.013, 0.4, 1, 3.7, 11)))
        tokens, now = chance.randrange(200), clock.now().timestamp()
        found = [await one.take(under, tokens) for one in both]
        if all(isinstance(one, Taken) for one in found):
            made.append((now, tokens))
            open_calls.append([one for one in found if isinstance(one, Taken)])
        else:
            shared, alone = (one for one in found if isinstance(one, Limited))
            assert (shared.rate, shared.requests) == (alone.rate, alone.requests)
            assert shared.retry_after == pytest.approx(alone.retry_after, abs=1e-3)
        if open_calls and chance.random() < 0.3:
            number = chance.randrange(len(open_calls))
            used = chance.randrange(made[-len(open_calls) + number][1] + 1)
            for one, taken in zip(both, open_calls[number], strict=True):
                await one.correct(taken, used)
            made[-len(open_calls) + number] = (made[-len(open_calls) + number][0], used)
            del open_calls[: number + 1]

    for at, _ in made:
        minute = [tokens for when, tokens in made if at <= when < at + 60 - 1e-3]
        assert len(minute) <= 12
    assert len(made) > 100
    await pool.aclose()


async def test_what_is_given_back_was_never_there(rates: Rates, redis_url: str) -> None:
    one = rate(requests=2, tokens=10)
    taken = [await take(rates, one, tokens=4) for _ in range(2)]

    for each in taken:
        await rates.give_back(each)

    if isinstance(rates, RedisRates):
        pool = open_pool(redis_url)
        assert await Redis(connection_pool=pool).exists(f"modelyard:rate:{one.id.hex}") == 0
        await pool.aclose()
    for _ in range(2):
        await take(rates, one, tokens=4)
    await wait(rates, one, tokens=4)


async def test_200_parallel_calls_of_two_processes_take_exactly_what_there_is(
    redis_url: str, clock: MovableClock
) -> None:
    pools = [open_pool(redis_url) for _ in range(2)]
    states = [SharedRates(RedisRates(Commands(pool), clock), clock) for pool in pools]
    token, place = rate(requests=37), rate(tokens=10_000, of=RateOf.WORKSPACE)

    found = await asyncio.gather(*(states[number % 2].take((token, place), 3) for number in range(200)))
    others = await asyncio.gather(*(states[number % 2].take((rate(requests=9), place), 1000) for number in range(20)))

    assert sum(isinstance(one, Taken) for one in found) == 37
    assert sum(isinstance(one, Taken) for one in others) == (10_000 - 37 * 3) // 1000
    for pool in pools:
        await pool.aclose()


async def test_what_calls_have_used_is_told_with_the_next_one_or_soon(redis_url: str, clock: MovableClock) -> None:
    pool = open_pool(redis_url)
    commands = Counted(pool)
    mine, other = SharedRates(RedisRates(commands, clock), clock), SharedRates(RedisRates(Commands(pool), clock), clock)
    one = rate(tokens=1000)
    first = await take(mine, one, tokens=900)
    commands.trips = 0

    await mine.correct(first, 100)
    before = await other.take((one,), 300)
    await mine.correct(await take(mine, one, tokens=900), 200)
    trips = commands.trips
    await mine.look()
    after = await other.take((one,), 700)

    assert isinstance(before, Limited)
    assert isinstance(after, Taken)
    assert (trips, commands.trips) == (1, 2)
    await pool.aclose()


class Counted(Commands):
    """Commands whose round trips are counted."""

    trips = 0

    async def _send(self, commands: Sequence[Any]) -> list[Any]:
        self.trips += 1
        return await super()._send(commands)


async def test_counting_a_call_and_picking_a_member_share_a_round_trip(redis_url: str, clock: MovableClock) -> None:
    pool, members = open_pool(redis_url), a_pool(1, 1)
    commands = Counted(pool)
    rates, state = RedisRates(commands, clock), RedisPoolState(commands, uuid7(), clock)

    taken, picked = await asyncio.gather(
        rates.take((rate(requests=1), rate(requests=1)), 5), state.pick(uuid7(), members, places(members), (0.5, 0.5))
    )

    assert isinstance(taken, Taken)
    assert picked.lease is not None
    assert commands.trips == 1
    await pool.aclose()


async def test_without_redis_the_process_counts_alone_until_it_is_back(redis_url: str, clock: MovableClock) -> None:
    pool = open_pool(redis_url)
    redis = Away(RedisRates(Commands(pool), clock))  # type: ignore[arg-type]
    rates = SharedRates(redis, clock)  # type: ignore[arg-type]
    one = rate(requests=2, tokens=100)
    known = await take(rates, one, tokens=10)
    redis.is_away = True

    alone = await take(rates, one, tokens=90)
    again = await rates.take((one,), 90)
    await rates.correct(known, 5)
    await rates.correct(alone, 20)
    second = await take(rates, one, tokens=50)
    await rates.look()
    full = await rates.take((one,), 1)
    redis.is_away = False
    await rates.look()
    back = await take(rates, one, tokens=1)

    assert (known.is_local, alone.is_local, second.is_local, back.is_local) == (False, True, True, False)
    assert isinstance(again, Limited)
    assert isinstance(full, Limited)
    assert (again.requests, full.requests) == (False, True)
    await pool.aclose()


async def test_a_redis_that_cannot_be_reached_is_one_that_is_away(tmp_path: Path, clock: MovableClock) -> None:
    pool = open_pool(f"unix://{tmp_path}/nobody.sock")
    rates = SharedRates(RedisRates(Commands(pool), clock), clock)

    taken = await take(rates, rate(requests=1))

    assert taken.is_local
    await pool.aclose()

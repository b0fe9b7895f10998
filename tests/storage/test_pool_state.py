"""What processes know of pools, in Redis and in memory alike: one choice at a time, rests, trials, calls under way."""

import asyncio
import random
import sys
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from redis.asyncio import Redis

from core import errors
from core.cooldown import VALIDATE_AGAIN_S
from core.entities import Pool, PoolMember, PoolStrategy
from core.ids import uuid7
from core.ports.pool_state import Due, Lease, MemberCounts, Picked, Place, PoolState
from core.strategies import ENOUGH
from storage.commands import Commands
from storage.event_log import ALIVE_KEY
from storage.pool_memory import MemoryPoolState, SharedPoolState
from storage.pool_state import RedisPoolState
from storage.redis import open_pool
from tests import make
from tests.conftest import MovableClock

WORKSPACE = uuid7()
ROOT = Path(__file__).resolve().parents[2]


def a_pool(*weights: int, strategy: PoolStrategy = PoolStrategy.ROUND_ROBIN) -> Pool:
    members = tuple(
        PoolMember(id=uuid7(), credential_id=uuid7(), name=f"m{number}", weight=weight)
        for number, weight in enumerate(weights)
    )
    return Pool(id=uuid7(), key=make.key(), enabled=True, strategy=strategy, members=members)


def places(pool: Pool) -> list[Place]:
    return [
        Place(member_id=one.id, credential_id=one.credential_id or UUID(int=0), number=number, weight=one.weight)
        for number, one in enumerate(pool.members)
    ]


@pytest.fixture(params=["redis", "memory"])
async def state(request: pytest.FixtureRequest, redis_url: str, clock: MovableClock) -> AsyncIterator[PoolState]:
    if request.param == "memory":
        yield MemoryPoolState(clock)
        return
    pool = open_pool(redis_url)
    yield RedisPoolState(Commands(pool), uuid7(), clock)
    await pool.aclose()


@asynccontextmanager
async def picker(redis_url: str, pool: Pool) -> AsyncIterator[Callable[[int], Awaitable[Counter[int]]]]:
    """Start a process that picks of a pool; it is told how often, all at once, and tells how often it got each place."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.storage.picker", redis_url, stdin=PIPE, stdout=PIPE, cwd=ROOT
    )
    assert process.stdin is not None
    assert process.stdout is not None
    sending, answers = process.stdin, process.stdout
    sending.write(msgspec.json.encode(pool) + b"\n")

    async def picks(count: int) -> Counter[int]:
        sending.write(b"%d\n" % count)
        return Counter(msgspec.json.decode(await answers.readline(), type=list[int]))

    try:
        await answers.readline()
        yield picks
    finally:
        process.kill()
        await process.wait()


async def pick(state: PoolState, pool: Pool, among: list[Place] | None = None) -> Lease:
    picked = await state.pick(WORKSPACE, pool, among or places(pool), (0.3, 0.6))
    assert picked.lease is not None
    return picked.lease


async def number(state: PoolState, pool: Pool) -> int:
    return (await pick(state, pool)).place.number


async def test_a_limited_member_rests_as_long_as_the_provider_wishes(state: PoolState, clock: MovableClock) -> None:
    pool = a_pool(1, 1)
    limited = await pick(state, pool)

    cooldown = await state.failed(limited, errors.UpstreamRateLimited("slow down", retry_after=2))
    await state.done(limited, served=False)

    assert cooldown is not None
    assert [await number(state, pool) for _ in range(3)] == [1, 1, 1]
    clock.advance(2)
    assert await number(state, pool) == 0
    now = (await state.now(WORKSPACE, [pool]))[pool.id]
    assert now.rests == {limited.place.credential_id: (cooldown,)}


async def test_one_call_at_a_time_goes_to_a_member_on_trial_until_one_is_served(
    state: PoolState, clock: MovableClock
) -> None:
    pool = a_pool(1, 1)
    failing = await pick(state, pool)
    await state.failed(failing, errors.UpstreamUnavailable("gone"))
    await state.done(failing, served=False)
    clock.advance(11)

    assert await number(state, pool) == 1
    trial = await pick(state, pool)
    assert trial.place.number == 0
    assert [await number(state, pool) for _ in range(3)] == [1, 1, 1]
    assert await state.spoke(trial, 0.2) is True
    await state.done(trial, served=True)

    assert sorted([await number(state, pool) for _ in range(4)]) == [0, 0, 1, 1]
    assert await state.spoke(trial, 0.2) is False
    again = await state.failed(trial, errors.UpstreamUnavailable("gone"))
    assert again is not None
    assert again.times == 1


@pytest.mark.parametrize("failure", [errors.UpstreamUnavailable, errors.UpstreamQuotaExhausted])
async def test_a_member_that_dies_in_the_middle_of_its_trials_rests_longer_each_time(
    state: PoolState, clock: MovableClock, failure: type[errors.ModelyardError]
) -> None:
    pool, rests = a_pool(1), []
    shortest = failure("gone").rests
    assert shortest is not None
    assert shortest.seconds is not None
    for times in (1, 2, 4):
        lease = await pick(state, pool)
        assert await state.spoke(lease, 0.2) is lease.is_trial
        assert await state.spoke(lease, 0.2) is False
        assert (await state.now(WORKSPACE, [pool]))[pool.id].rests == {}
        beside = await pick(state, pool)
        assert not beside.is_trial
        await state.done(beside, served=None)
        cooldown = await state.failed(lease, failure("gone"))
        await state.done(lease, served=False)
        assert cooldown is not None
        assert cooldown.until is not None
        rests.append((cooldown.until - clock.now().timestamp(), shortest.seconds * times))
        clock.advance(cooldown.until - clock.now().timestamp() + 1)
    served = await pick(state, pool)
    await state.spoke(served, 0.2)
    await state.done(served, served=True)
    again = await state.failed(await pick(state, pool), failure("gone"))

    assert [seconds for seconds, _ in rests] == pytest.approx([seconds for _, seconds in rests], abs=0.01)
    assert again is not None
    assert again.times == 1


async def test_a_credential_on_trial_for_all_models_is_tried_by_one_pool_at_a_time(
    state: PoolState, clock: MovableClock
) -> None:
    first, second = a_pool(1), a_pool(1)
    second = replace(second, members=(replace(second.members[0], credential_id=first.members[0].credential_id),))
    lease = await pick(state, first)
    await state.failed(lease, errors.UpstreamQuotaExhausted("empty"))
    await state.done(lease, served=False)
    clock.advance(601)

    trial = await pick(state, first)
    meanwhile = await state.pick(WORKSPACE, second, places(second), (0, 0))
    await state.done(trial, served=None)
    again = await pick(state, second)

    assert trial.is_trial
    assert (meanwhile.lease, meanwhile.retry_after) == (None, 1)
    assert again.is_trial
    assert (await state.pick(WORKSPACE, first, places(first), (0, 0))).lease is None
    assert await state.spoke(again, 0.1) is True
    await state.done(again, served=True)
    assert not (await pick(state, first)).is_trial


async def test_ending_a_rest_ends_both_and_the_next_one_is_longer_all_the_same(state: PoolState) -> None:
    pool, gone = a_pool(1), errors.UpstreamUnavailable("gone")
    credential_id = places(pool)[0].credential_id
    first, second = await pick(state, pool), await pick(state, pool)
    await state.failed(first, gone)
    await state.failed(second, errors.UpstreamQuotaExhausted("empty"))

    assert await state.end_rests(WORKSPACE, pool.id, credential_id) is True
    assert await state.end_rests(WORKSPACE, pool.id, credential_id) is False

    trial = await pick(state, pool)
    again = await state.failed(trial, gone)
    assert trial.is_trial
    assert again is not None
    assert again.times == 2


async def test_members_on_trial_are_tried_each_by_a_call_of_its_own(state: PoolState, clock: MovableClock) -> None:
    pool = a_pool(1, 1, 1)
    for lease in [await pick(state, pool) for _ in range(3)]:
        await state.failed(lease, errors.UpstreamUnavailable("gone"))
        await state.done(lease, served=False)
    clock.advance(11)

    tried = [await pick(state, pool) for _ in range(3)]

    assert sorted(lease.place.number for lease in tried) == [0, 1, 2]
    assert (await state.pick(WORKSPACE, pool, places(pool), (0, 0))).retry_after == 1


async def test_whoever_was_slow_once_is_asked_again_by_and_by(state: PoolState, clock: MovableClock) -> None:
    pool = a_pool(1, 1, strategy=PoolStrategy.LOWEST_LATENCY)
    for seconds in (5.0, 0.1):
        lease = await pick(state, pool)
        await state.spoke(lease, seconds)
        await state.done(lease, served=True)

    async def turn() -> int:
        lease = await pick(state, pool)
        clock.advance(0.1)
        await state.spoke(lease, 0.1)
        await state.done(lease, served=True)
        return lease.place.number

    assert {await turn() for _ in range(20)} == {1}
    clock.advance(40)
    assert [await turn() for _ in range(2)] == [1, 0]


async def test_who_does_not_answer_the_first_call_is_asked_no_further(state: PoolState) -> None:
    pool = a_pool(1, 1, strategy=PoolStrategy.LOWEST_LATENCY)
    answering, silent = await pick(state, pool), await pick(state, pool)
    await state.spoke(answering, 0.1)

    assert [await number(state, pool) for _ in range(5)] == [answering.place.number] * 5
    await state.spoke(silent, 0.001)
    assert await number(state, pool) == silent.place.number


async def test_who_is_overtaken_is_known_to_be_slow(state: PoolState) -> None:
    pool = a_pool(1, 1, strategy=PoolStrategy.LOWEST_LATENCY)
    for seconds in (0.1, 0.5):
        lease = await pick(state, pool)
        await state.spoke(lease, seconds)
    assert await number(state, pool) == 0

    silent = await pick(state, pool, places(pool)[:1])
    await state.silent(silent, 0.05)
    assert await number(state, pool) == 0
    await state.silent(silent, 9.0)

    assert await number(state, pool) == 1


async def test_new_weights_begin_anew(state: PoolState) -> None:
    pool = a_pool(100, 1, strategy=PoolStrategy.WEIGHTED)
    for _ in range(50):
        await pick(state, pool)
    even = replace(pool, version=2, members=tuple(replace(one, weight=1) for one in pool.members))

    assert [await number(state, even) for _ in range(6)] == [0, 1, 0, 1, 0, 1]


async def test_times_of_whole_answers_are_kept_apart(state: PoolState) -> None:
    pool = replace(a_pool(1, 1, strategy=PoolStrategy.LOWEST_LATENCY), hedge_percentile=50)
    for seconds, whole in ((0.1, False), (5.0, True)):
        for _ in range(ENOUGH):
            lease = (await state.pick(WORKSPACE, pool, places(pool)[:1], (0, 0), whole=whole)).lease
            assert lease is not None
            await state.spoke(lease, seconds)
            await state.done(lease, served=True)

    picked = [
        (await state.pick(WORKSPACE, pool, places(pool)[:1], (0, 0), whole=whole)).lease for whole in (False, True)
    ]

    assert [lease and lease.late_s for lease in picked] == [0.1, 5.0]


async def test_when_all_rest_the_earliest_deadline_is_told(state: PoolState, clock: MovableClock) -> None:
    pool = a_pool(1, 1, 1)
    for wish in (30, 7, 90):
        lease = await pick(state, pool)
        await state.failed(lease, errors.UpstreamRateLimited("slow down", retry_after=wish))

    picked = await state.pick(WORKSPACE, pool, places(pool), (0, 0))

    assert picked.lease is None
    assert picked.retry_after == pytest.approx(7, abs=0.01)
    assert (await state.pick(WORKSPACE, pool, places(pool)[:1], (0, 0))).retry_after == pytest.approx(30, abs=0.01)


async def test_a_refused_key_waits_for_its_validation_in_every_pool(state: PoolState) -> None:
    first, second = a_pool(1, 1), a_pool(1, 1)
    shared = first.members[0].credential_id
    second = replace(second, members=(replace(second.members[0], credential_id=shared), second.members[1]))
    assert shared is not None
    await state.failed(await pick(state, first, places(first)[:1]), errors.UpstreamAuthentication("who?"))

    waiting = await state.pick(WORKSPACE, second, places(second)[:1], (0, 0))
    assert (waiting.lease, waiting.retry_after) == (None, None)
    assert await number(state, second) == 1
    assert await state.validated(WORKSPACE, shared, is_new=False) is True

    assert (await pick(state, second, places(second)[:1])).place.credential_id == shared
    assert await state.validated(WORKSPACE, shared, is_new=False) is False


async def test_a_valid_key_that_is_refused_again_rests_for_a_time_unless_it_is_another_one(
    state: PoolState, clock: MovableClock
) -> None:
    pool = a_pool(1)
    refused = errors.UpstreamAuthentication("who?")
    lease = await pick(state, pool)
    await state.failed(lease, refused)
    await state.validated(WORKSPACE, lease.place.credential_id, is_new=False)
    again = await state.failed(lease, refused)
    clock.advance(4)

    valid = await state.validated(WORKSPACE, lease.place.credential_id, is_new=False)
    waits = (await state.pick(WORKSPACE, pool, places(pool), (0, 0))).retry_after
    changed = await state.validated(WORKSPACE, lease.place.credential_id, is_new=True)

    assert again is not None
    assert waits == pytest.approx(6, abs=0.01)
    assert (valid, changed) == (False, True)
    assert (await pick(state, pool)).is_trial


async def test_calls_are_counted(state: PoolState) -> None:
    pool = a_pool(1, 1, strategy=PoolStrategy.LEAST_BUSY)
    leases = [await pick(state, pool) for _ in range(4)]
    assert [lease.place.number for lease in leases] == [0, 1, 0, 1]

    await state.done(leases[0], served=True)
    await state.done(leases[2], served=False)
    await state.done(leases[1], served=None)

    counts = (await state.now(WORKSPACE, [pool]))[pool.id].counts
    told = [(counts[one.id].in_flight, counts[one.id].served, counts[one.id].failed) for one in pool.members]
    assert told == [(0, 1, 1), (1, 0, 0)]
    assert await number(state, pool) == 0


async def test_redis_chooses_as_the_pure_functions_do(redis_url: str, clock: MovableClock) -> None:
    connections, chance = open_pool(redis_url), random.Random(7)
    for strategy in PoolStrategy:
        pool = a_pool(5, 3, 2, 1, strategy=strategy)
        both: list[PoolState] = [RedisPoolState(Commands(connections), uuid7(), clock), MemoryPoolState(clock)]
        open_leases: list[list[Lease]] = []
        for _ in range(120):
            drawn = chance.random()
            if drawn < 0.6 or not open_leases:
                among = chance.sample(places(pool), chance.randint(1, 4))
                among.sort(key=lambda place: place.number)
                chances = (chance.random(), chance.random())
                picked = [await state.pick(WORKSPACE, pool, among, chances) for state in both]
                assert len({one.lease.place.number if one.lease else None for one in picked}) == 1, strategy
                if picked[0].lease is not None:
                    open_leases.append([one.lease for one in picked if one.lease is not None])
                continue
            leases = open_leases.pop(chance.randrange(len(open_leases)))
            seconds, failing, in_the_middle = chance.uniform(0.01, 3), drawn > 0.93, drawn > 0.96
            for state, lease in zip(both, leases, strict=True):
                if in_the_middle:
                    await state.spoke(lease, seconds)
                if failing:
                    await state.failed(lease, errors.UpstreamUnavailable("gone"))
                else:
                    await state.spoke(lease, seconds)
                await state.done(lease, served=not failing)
            clock.advance(chance.uniform(0, 4))
    await connections.aclose()


async def test_two_processes_take_turns_exactly(redis_url: str) -> None:
    even, weighted = a_pool(1, 1, 1), a_pool(5, 3, 2, strategy=PoolStrategy.WEIGHTED)
    async with picker(redis_url, even) as one, picker(redis_url, even) as other:
        counts = sum(await asyncio.gather(one(500), other(500)), Counter())
    async with picker(redis_url, weighted) as one, picker(redis_url, weighted) as other:
        tens = [sum(await asyncio.gather(one(4), other(6)), Counter()) for _ in range(30)]

    assert counts.total() == 1000
    assert max(counts.values()) - min(counts.values()) <= 1
    assert tens == [{0: 5, 1: 3, 2: 2}] * 30


async def test_calls_of_a_dead_process_do_not_count(redis_url: str, clock: MovableClock) -> None:
    connections, dead, living = open_pool(redis_url), uuid7(), uuid7()
    pool = a_pool(1, 1, strategy=PoolStrategy.LEAST_BUSY)
    redis: Redis = Redis(connection_pool=connections)
    await redis.set(ALIVE_KEY + dead.hex, 1)
    for _ in range(5):
        await pick(RedisPoolState(Commands(connections), dead, clock), pool, places(pool)[:1])
    state = RedisPoolState(Commands(connections), living, clock)
    assert (await state.now(WORKSPACE, [pool]))[pool.id].counts[pool.members[0].id].in_flight == 5

    await redis.delete(ALIVE_KEY + dead.hex)

    assert (await state.now(WORKSPACE, [pool]))[pool.id].counts[pool.members[0].id].in_flight == 0
    assert sorted([await number(state, pool) for _ in range(2)]) == [0, 1]
    await connections.aclose()


async def test_a_trial_of_a_dead_process_keeps_nobody_from_another(redis_url: str, clock: MovableClock) -> None:
    connections, dead, pool = open_pool(redis_url), uuid7(), a_pool(1)
    redis: Redis = Redis(connection_pool=connections)
    await redis.set(ALIVE_KEY + dead.hex, 1)
    dying = RedisPoolState(Commands(connections), dead, clock)
    living = RedisPoolState(Commands(connections), uuid7(), clock)
    await dying.failed(await pick(dying, pool), errors.UpstreamQuotaExhausted("empty"))
    clock.advance(601)
    assert (await pick(dying, pool)).is_trial
    assert (await living.pick(WORKSPACE, pool, places(pool), (0, 0))).lease is None

    await redis.delete(ALIVE_KEY + dead.hex)

    assert (await pick(living, pool)).is_trial
    await connections.aclose()


async def test_the_end_of_a_rest_is_told_once(redis_url: str, clock: MovableClock) -> None:
    connections, pool = open_pool(redis_url), a_pool(1, 1)
    state = RedisPoolState(Commands(connections), uuid7(), clock)
    limited, refused = await pick(state, pool), await pick(state, pool)
    await state.failed(limited, errors.UpstreamRateLimited("slow down", retry_after=5))
    await state.failed(refused, errors.UpstreamAuthentication("who?"))
    waiting = Due(workspace_id=WORKSPACE, pool_id=pool.id, credential_id=refused.place.credential_id, waits=True)
    ended = replace(waiting, credential_id=limited.place.credential_id, waits=False)

    async def due() -> list[Due]:
        return [one for one in await state.due() if one.pool_id == pool.id]

    assert await due() == []
    clock.advance(5.1)
    assert await due() == [ended]
    assert await due() == []
    clock.advance(VALIDATE_AGAIN_S)
    assert await due() == [waiting]
    assert await due() == []
    clock.advance(VALIDATE_AGAIN_S + 1)
    assert await due() == [waiting], "whoever was told of it may have died"
    await state.validated(WORKSPACE, waiting.credential_id, is_new=False)
    clock.advance(VALIDATE_AGAIN_S + 1)
    assert await due() == [replace(waiting, waits=False)]
    await connections.aclose()


async def test_of_two_rests_of_a_credential_the_end_of_each_is_told(redis_url: str, clock: MovableClock) -> None:
    connections, pool = open_pool(redis_url), a_pool(1)
    state = RedisPoolState(Commands(connections), uuid7(), clock)
    first, second = await pick(state, pool), await pick(state, pool)
    await state.failed(first, errors.UpstreamQuotaExhausted("empty"))
    await state.failed(second, errors.UpstreamUnavailable("gone"))

    told = []
    for _ in range(12):
        clock.advance(55)
        told.append(len([one for one in await state.due() if one.pool_id == pool.id]))

    assert told == [1, *[0] * 9, 1, 0]
    await connections.aclose()


async def test_what_nobody_waits_for_is_due_no_more(redis_url: str, clock: MovableClock) -> None:
    connections, pool = open_pool(redis_url), a_pool(1)
    state = RedisPoolState(Commands(connections), uuid7(), clock)
    await state.failed(await pick(state, pool), errors.UpstreamAuthentication("who?"))
    clock.advance(VALIDATE_AGAIN_S + 1)
    (waiting,) = [one for one in await state.due() if one.pool_id == pool.id]

    await state.forget(waiting)
    clock.advance(2 * VALIDATE_AGAIN_S)

    assert [one for one in await state.due() if one.pool_id == pool.id] == []
    await connections.aclose()


async def test_a_rest_that_begins_without_redis_is_due_once_it_is_back(redis_url: str, clock: MovableClock) -> None:
    connections, pool = open_pool(redis_url), a_pool(1, 1)
    redis = Away(RedisPoolState(Commands(connections), uuid7(), clock))
    state = SharedPoolState(redis, clock)  # type: ignore[arg-type]
    redis.is_away = True
    limited, refused = await pick(state, pool), await pick(state, pool)
    await state.failed(limited, errors.UpstreamUnavailable("gone"))
    await state.failed(refused, errors.UpstreamAuthentication("who?"))

    redis.is_away = False
    await state.look()
    clock.advance(VALIDATE_AGAIN_S + 1)

    found = {(one.credential_id, one.waits) for one in await state.due() if one.pool_id == pool.id}
    assert found == {(limited.place.credential_id, False), (refused.place.credential_id, True)}
    await connections.aclose()


async def test_what_a_redis_that_was_killed_has_lost_is_counted_anew(redis_url: str, clock: MovableClock) -> None:
    connections, pool = open_pool(redis_url), a_pool(1, 1)
    shared = RedisPoolState(Commands(connections), uuid7(), clock)
    redis = Away(shared)
    state = SharedPoolState(redis, clock)  # type: ignore[arg-type]
    kept, ended = await pick(state, pool), await pick(state, pool)
    await state.done(ended, served=True)
    await shared.pick(WORKSPACE, pool, places(pool), (0, 0))  # as if the last second of what was written were lost
    redis.is_away = True
    alone = await pick(state, pool)
    redis.is_away = False

    await state.look()

    counts = (await state.now(WORKSPACE, [pool]))[pool.id].counts
    assert alone.is_local
    assert {one.id: counts[one.id].in_flight for one in pool.members} == {
        kept.place.member_id: 1,
        ended.place.member_id: 0,
    }
    await connections.aclose()


class Away:
    """A Redis that can be switched off."""

    def __init__(self, state: PoolState) -> None:
        self.state, self.is_away = state, False

    def __getattr__(self, name: str) -> object:
        if self.is_away:

            async def fails(*arguments: object, **named: object) -> None:
                raise errors.ServerUnavailable("away")

            return fails
        return getattr(self.state, name)


async def test_a_pick_that_nobody_heard_of_leaves_no_call_under_way(redis_url: str, clock: MovableClock) -> None:
    connections, pool = open_pool(redis_url), a_pool(1, 1)
    redis = RedisPoolState(Commands(connections), uuid7(), clock)
    state = SharedPoolState(redis, clock)
    kept = await pick(state, pool)
    picking = redis.pick

    async def lost(*arguments: Any, **named: Any) -> Picked:
        await picking(*arguments, **named)
        raise errors.ServerUnavailable("no answer in time")

    redis.pick = lost  # type: ignore[method-assign]
    alone = await pick(state, pool)
    redis.pick = picking  # type: ignore[method-assign]
    before = (await redis.now(WORKSPACE, [pool]))[pool.id].counts
    await state.look()

    after = (await state.now(WORKSPACE, [pool]))[pool.id].counts
    assert alone.is_local
    assert [before[one.id].in_flight for one in pool.members] == [1, 1]
    assert [after[one.id].in_flight for one in pool.members] == [1, 0]
    assert kept.place.member_id == pool.members[0].id
    await connections.aclose()


async def test_without_redis_the_process_goes_on_alone_and_rejoins(redis_url: str, clock: MovableClock) -> None:
    connections, pool = open_pool(redis_url), a_pool(1, 1)
    redis = Away(RedisPoolState(Commands(connections), uuid7(), clock))
    state = SharedPoolState(redis, clock)  # type: ignore[arg-type]
    before = await pick(state, pool)

    redis.is_away = True
    alone = [await pick(state, pool) for _ in range(4)]
    await state.failed(alone[0], errors.UpstreamUnavailable("gone"))
    assert {await number(state, pool) for _ in range(3)} == {alone[1].place.number}
    await state.done(before, served=True)
    await state.look()
    assert (await pick(state, pool)).is_local
    redis.is_away = False
    await state.look()

    assert not before.is_local
    assert {lease.is_local for lease in alone} == {True}
    shared = await pick(state, pool)
    assert (shared.is_local, shared.place.number) == (False, alone[1].place.number)
    now = (await state.now(WORKSPACE, [pool]))[pool.id]
    assert [one.cause for one in now.rests[alone[0].place.credential_id]] == [errors.UpstreamUnavailable.code]
    assert now.counts[before.place.member_id] == MemberCounts(in_flight=0, served=1)
    for lease, served in zip(alone, (False, True, True, True), strict=True):
        await state.done(lease, served=served)
    await state.look()
    counts = (await state.now(WORKSPACE, [pool]))[pool.id].counts
    assert (sum(one.served for one in counts.values()), sum(one.failed for one in counts.values())) == (4, 1)
    await connections.aclose()

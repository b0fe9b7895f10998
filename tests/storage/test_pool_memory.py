"""Whatever happens to the members of a pool, in whatever order: never nobody while one may be called, never who rests."""

import asyncio
from math import inf
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import errors
from core.cooldown import PROBE_AGAIN_S, Cooldown
from core.entities import PoolStrategy
from core.errors import ModelyardError
from core.ids import uuid7
from core.ports.pool_state import Lease
from storage.pool_memory import MemoryPoolState
from tests.conftest import MovableClock
from tests.storage.test_pool_state import a_pool, places

WORKSPACE = uuid7()
FAILURES: tuple[type[ModelyardError], ...] = (
    errors.UpstreamRateLimited,
    errors.UpstreamQuotaExhausted,
    errors.UpstreamAuthentication,
    errors.UpstreamPermission,
    errors.UpstreamUnavailable,
    errors.UpstreamOverloaded,
)

numbers = st.integers(0, 9)
happenings = st.one_of(
    *[st.just(("pick",))] * 4,
    st.tuples(st.just("serve"), numbers),
    st.tuples(st.just("leave"), numbers),
    *[st.tuples(st.just("fail"), numbers, st.sampled_from(FAILURES), st.sampled_from([None, 2.0, 30.0]))] * 2,
    st.tuples(st.just("wait"), st.sampled_from([0.5, 1.0, 11.0, 65.0, 4000.0])),
    st.tuples(st.just("validate"), st.integers(0, 1)),
    st.tuples(st.just("end"), st.integers(0, 1)),
)


class Story:
    """A pool, what happens to it, and the calls that are under way."""

    def __init__(self, strategy: PoolStrategy) -> None:
        self.clock = MovableClock()
        self.state = MemoryPoolState(self.clock)
        self.pool = a_pool(2, 1, strategy=strategy)
        self.credentials = [place.credential_id for place in places(self.pool)]
        self.leases: list[Lease] = []

    async def happens(self, what: str, *given: Any) -> None:
        """Let one step happen, and check what it does."""
        if what == "pick":
            await self._pick()
        elif what == "wait":
            self.clock.advance(*given)
        elif what == "validate":
            await self.state.validated(WORKSPACE, self.credentials[given[0]], is_new=False)
        elif what == "end":
            await self.state.end_rests(WORKSPACE, self.pool.id, self.credentials[given[0]])
        elif self.leases:
            lease = self.leases.pop(given[0] % len(self.leases))
            if what == "fail":
                await self._fail(lease, *given[1:])
            elif what == "serve":
                await self.state.spoke(lease, 0.1)
            await self.state.done(lease, served={"serve": True, "fail": False}.get(what))

    async def _pick(self) -> None:
        rests, now = await self._rests(), self.clock.now().timestamp()
        tried = {one.place.credential_id for one in self.leases if one.is_trial}
        free = [one for one, found in rests.items() if _end(found, now) <= now and not (found and one in tried)]

        picked = await self.state.pick(WORKSPACE, self.pool, places(self.pool), (0.2, 0.7))

        if picked.lease is None:
            assert free == [], "somebody may be called"
            first = min(max(_end(found, now), now + PROBE_AGAIN_S * (one in tried)) for one, found in rests.items())
            assert picked.retry_after == (pytest.approx(first - now) if first < inf else None)
            return
        chosen = picked.lease.place.credential_id
        assert chosen in free
        assert picked.lease.is_trial is bool(rests[chosen])
        assert picked.lease.others == len(free) - 1
        self.leases.append(picked.lease)

    async def _fail(self, lease: Lease, failure: type[ModelyardError], wish: float | None) -> None:
        now, credential_id = self.clock.now().timestamp(), lease.place.credential_id
        before = _end((await self._rests())[credential_id], now)
        await self.state.failed(lease, failure("no", retry_after=wish))
        after = _end((await self._rests())[credential_id], now)
        assert after > now
        assert after >= before, "a deadline never moves back"

    async def _rests(self) -> dict[UUID, tuple[Cooldown, ...]]:
        found = (await self.state.now(WORKSPACE, [self.pool]))[self.pool.id].rests
        return {one: found.get(one, ()) for one in self.credentials}


def _end(rests: tuple[Cooldown, ...], now: float) -> float:
    """Return when the last of these rests ends: now for none, never for one that waits for a validation."""
    return max((inf if one.until is None else max(one.until, now) for one in rests), default=now)


@settings(max_examples=200)
@given(st.sampled_from(PoolStrategy), st.lists(happenings, min_size=20, max_size=40))
def test_whatever_happens_a_pool_gives_who_may_be_called_or_the_true_time(
    strategy: PoolStrategy, story: list[tuple[Any, ...]]
) -> None:
    async def told() -> None:
        pool = Story(strategy)
        for one in story:
            await pool.happens(*one)

    asyncio.run(told())

"""Which attempt comes next: within a pool by its strategy and its members' health, then the plan's further models."""

import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Generic, TypeVar
from uuid import UUID

from core.app import App
from core.entities import Pool
from core.errors import ModelyardError, PoolExhausted
from core.live import tell_of_pools
from core.plan import Step
from core.ports.pool_state import Lease, Place
from core.purse import Purse

S = TypeVar("S", bound=Step)

_LAST_S = 1.0
"""How long the last attempt may take to begin at the least, however late it comes."""


@dataclass(eq=False, slots=True)
class Try(Generic[S]):
    """One attempt: what it tries, through which member, and since when, by the clock and in seconds that only grow.

    `first_s` is how long it may take to begin its answer. `gives_way` tells that another one waits to take its place.
    """

    step: S
    lease: Lease | None
    started_at: float
    began: float
    first_s: float
    gives_way: bool

    @property
    def late_s(self) -> float | None:
        """Return after how long another member is to be asked too; None for never."""
        return self.lease.late_s if self.lease is not None else None


class Tries(Generic[S]):
    """The attempts of one call, given one after the other; what becomes of each is reported to its pool.

    `current` is the newest attempt, `purse` pays for them all. Members that rest are passed over, and
    what was tried is not tried again.
    """

    def __init__(
        self,
        app: App,
        workspace_id: UUID,
        steps: Sequence[S],
        purse: Purse,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._app = app
        self.purse = purse
        self._workspace_id = workspace_id
        self._steps = steps
        self._left = list(steps)
        self._chance = chance
        self._began = app.clock.monotonic()
        self._count = 0
        self._waits: list[float | None] = []
        self._open: set[Try[S]] = set()
        self.current: Try[S] = self._try(steps[0], None)

    async def begin(self) -> None:
        """Go to the first attempt.

        Raises:
            PoolExhausted: every member of every pool rests, and nothing else is left to try.
        """
        if not await self.advance():
            known = [wait for wait in self._waits if wait is not None]
            raise exhausted(min(known, default=None))

    async def advance(self) -> bool:
        """Go to the next attempt; tell whether there is one. None follows after too many, or after too long."""
        while self._may_go_on() and self._left:
            head = self._left[0]
            if head.pool is None:
                self._take(head, None)
                return True
            if await self._pick(head.pool):
                return True
            self._left = [step for step in self._left if step.pool is not head.pool]
        return False

    async def last_word(self, error: ModelyardError) -> ModelyardError:
        """Return what a call ends with whose last attempt failed: where by then all of its pool rest, with that."""
        pool = self.current.step.pool
        if pool is None or error.rests is None:
            return error
        rests = (await self._app.pools.now(self._workspace_id, [pool]))[pool.id].rests
        now, ends = self._app.clock.now().timestamp(), []
        for step in self._steps:
            if step.pool is pool and step.credential is not None:
                resting = [one for one in rests.get(step.credential.id, ()) if one.rests(now)]
                if not resting:
                    return error
                ends.append(max(inf if one.until is None else one.until for one in resting))
        return exhausted(min(ends) - now if min(ends) < inf else None, error)

    async def beside(self) -> Try[S] | None:
        """Go to a further member of the same pool, while the current one is under way; None if there is none."""
        before = self.current
        if before.step.pool is None or not self._may_go_on() or not await self._pick(before.step.pool):
            return None
        return self.current

    def spoke(self, one: Try[S]) -> None:
        """Report that an attempt delivers."""
        if one.lease is not None:
            self._report(self._spoke(one.lease, self._app.clock.monotonic() - one.began))

    def overtaken(self, one: Try[S]) -> None:
        """Report that an attempt is called off because another one was faster."""
        if one.lease is not None:
            self._report(self._app.pools.silent(one.lease, self._app.clock.monotonic() - one.began))
        self.ended(one, served=False)

    async def failed(self, one: Try[S], error: ModelyardError) -> None:
        """Report why an attempt failed; its member rests before anybody picks again."""
        lease = self._close(one)
        if lease is None:
            return
        if await self._app.pools.failed(lease, error) is not None:
            self._report(self._told(lease))
        self._report(self._app.pools.done(lease, served=None if error.rests is None else False))

    def ended(self, one: Try[S], *, served: bool) -> None:
        """Report that an attempt is over: served, or called off."""
        lease = self._close(one)
        if lease is not None:
            self._report(self._app.pools.done(lease, served=True if served else None))

    def call_off(self) -> None:
        """Report that whatever is still under way is over."""
        for one in list(self._open):
            self.ended(one, served=False)

    def _may_go_on(self) -> bool:
        settings = self._app.settings
        if self._count >= settings.max_attempts:
            return False
        return not self._count or self._app.clock.monotonic() - self._began <= settings.failover_seconds

    async def _pick(self, pool: Pool) -> bool:
        """Let the pool choose among its members that were not tried; tell whether one was free."""
        members = {step.member.id: step for step in self._left if step.pool is pool and step.member is not None}
        if not members:
            return False
        chances = (self._chance(), self._chance())
        places = [_place(step) for step in members.values()]
        whole = any(step.whole for step in members.values())
        picked = await self._app.pools.pick(self._workspace_id, pool, places, chances, whole=whole)
        if picked.lease is None:
            self._waits.append(picked.retry_after)
            return False
        self._take(members[picked.lease.place.member_id], picked.lease)
        return True

    def _take(self, step: S, lease: Lease | None) -> None:
        self._left.remove(step)
        self._count += 1
        self.current = self._try(step, lease)
        self._open.add(self.current)

    def _try(self, step: S, lease: Lease | None) -> Try[S]:
        clock, gives_way = self._app.clock, self._may_be_followed(step, lease)
        now = clock.monotonic()
        return Try(
            step=step,
            lease=lease,
            started_at=clock.now().timestamp(),
            began=now,
            first_s=self._first_s(now, gives_way=gives_way),
            gives_way=gives_way,
        )

    def _may_be_followed(self, step: S, lease: Lease | None) -> bool:
        """Tell whether another attempt waits for the end of this one: at a member that does not rest, or elsewhere."""
        if self._count >= self._app.settings.max_attempts:
            return False
        is_one_of_many = lease is not None and lease.others > 0
        return is_one_of_many or any(one.pool is None or one.pool is not step.pool for one in self._left)

    def _first_s(self, now: float, *, gives_way: bool) -> float:
        """Return how long an attempt may take to begin: half of what is left for all, the last one all of it.

        A silent one would use it all up otherwise. The only one is bound by nothing but the time that each has.
        """
        settings = self._app.settings
        left = self._began + settings.failover_seconds - now
        if gives_way:
            return min(settings.first_byte_seconds, left / 2)
        return min(settings.first_byte_seconds, max(left, _LAST_S)) if self._count > 1 else settings.first_byte_seconds

    def _close(self, one: Try[S]) -> Lease | None:
        """Return the lease of an attempt that is under way, which it is no longer."""
        if one not in self._open:
            return None
        self._open.remove(one)
        return one.lease

    async def _spoke(self, lease: Lease, seconds: float) -> None:
        if await self._app.pools.spoke(lease, seconds):
            await self._told(lease)

    async def _told(self, lease: Lease) -> None:
        await tell_of_pools(self._app, lease.workspace_id, lease.place.credential_id)

    def _report(self, work: Coroutine[Any, Any, None]) -> None:
        self._app.running.background(work)


def exhausted(retry_after: float | None, last: ModelyardError | None = None) -> PoolExhausted:
    """Return that every member of a pool rests, the first for so many seconds; None: until it is validated.

    `last` is the failure with which the last of them came to rest, where a call has met it.
    """
    why = f" The last failure was {last.code}: {last.message}" if last is not None else ""
    return PoolExhausted(
        "Every member of the pool rests after failures: ask again later, end a rest with `endCooldown`, or add a "
        f"credential to the pool.{why}",
        retry_after=retry_after,
    )


def _place(step: Step) -> Place:
    assert step.member is not None
    assert step.pool is not None
    assert step.credential is not None
    return Place(
        member_id=step.member.id,
        credential_id=step.credential.id,
        number=step.pool.members.index(step.member),
        weight=step.member.weight,
    )

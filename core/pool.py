"""Which attempt comes next: within a pool by its strategy and its members' health, then the plan's further models."""

import logging
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar
from uuid import UUID

from core.app import App
from core.changes import Change, Noun
from core.errors import ModelyardError, PoolExhausted, ServerUnavailable
from core.live import tell
from core.plan import Step
from core.ports import Lease, Place

log = logging.getLogger(__name__)

S = TypeVar("S", bound=Step)


class Tries(Generic[S]):
    """The attempts of one call, given one after the other; what becomes of each is reported to its pool.

    `current` is the attempt under way. Members that rest are passed over, and what was tried is not tried again.
    """

    def __init__(
        self, app: App, workspace_id: UUID, steps: Sequence[S], chance: Callable[[], float] = random.random
    ) -> None:
        self._app = app
        self._workspace_id = workspace_id
        self._left = list(steps)
        self._chance = chance
        self._began = app.clock.monotonic()
        self._count = 0
        self._waits: list[float | None] = []
        self._lease: Lease | None = None
        self.current: S = steps[0]

    async def begin(self) -> None:
        """Go to the first attempt.

        Raises:
            PoolExhausted: every member of every pool rests, and nothing else is left to try.
        """
        if not await self.advance():
            known = [wait for wait in self._waits if wait is not None]
            raise PoolExhausted(
                "Every member of the pool rests after failures: ask again later, end a rest with `endCooldown`, or add "
                "a credential to the pool.",
                retry_after=min(known) if known else None,
            )

    async def advance(self) -> bool:
        """Go to the next attempt; tell whether there is one. None follows after too many, or after too long."""
        settings = self._app.settings
        if self._count >= settings.max_attempts:
            return False
        if self._count and self._app.clock.monotonic() - self._began > settings.failover_seconds:
            return False
        while self._left:
            head = self._left[0]
            if head.pool is None:
                self._take(head, None)
                return True
            members = [step for step in self._left if step.pool is head.pool]
            picked = await self._app.pools.pick(
                self._workspace_id, head.pool, [_place(step) for step in members], (self._chance(), self._chance())
            )
            if picked.lease is not None:
                chosen = picked.lease.place.member_id
                self._take(
                    next(step for step in members if step.member is not None and step.member.id == chosen), picked.lease
                )
                return True
            self._waits.append(picked.retry_after)
            self._left = [step for step in self._left if step.pool is not head.pool]
        return False

    def spoke(self, seconds: float) -> None:
        """Report that the attempt delivers, so long after it began."""
        if self._lease is not None:
            self._report(self._spoke(self._lease, seconds))

    async def failed(self, error: ModelyardError) -> None:
        """Report why the attempt failed; its member rests before anybody picks again."""
        lease, self._lease = self._lease, None
        if lease is None:
            return
        if await self._app.pools.failed(lease, error) is not None:
            self._report(self._told(lease))
        self._report(self._app.pools.done(lease, served=None if error.rests is None else False))

    def ended(self, *, served: bool) -> None:
        """Report that the attempt is over: served, or called off."""
        lease, self._lease = self._lease, None
        if lease is not None:
            self._report(self._app.pools.done(lease, served=True if served else None))

    def _take(self, step: S, lease: Lease | None) -> None:
        self._left.remove(step)
        self._count += 1
        self.current, self._lease = step, lease

    async def _spoke(self, lease: Lease, seconds: float) -> None:
        if await self._app.pools.spoke(lease, seconds):
            await self._told(lease)

    async def _told(self, lease: Lease) -> None:
        try:
            await tell(self._app, Change(workspace_id=lease.workspace_id, noun=Noun.POOL, key=str(lease.pool_id)))
        except ServerUnavailable:
            log.info("nobody is told how the pool %s stands: Redis is away", lease.pool_id)

    def _report(self, work: Coroutine[Any, Any, None]) -> None:
        self._app.running.background(work)


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

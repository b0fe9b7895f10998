"""What one process knows of pools: in its own memory while Redis is away, and told to Redis when it is back."""

import asyncio
import logging
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar
from uuid import UUID

from core.cooldown import PROBE_AGAIN_S, Cooldown, after_first_word, after_success, after_validation, on_trial, rest
from core.entities import Pool
from core.errors import ModelyardError, Scope, ServerUnavailable
from core.ports.clock import Clock
from core.ports.pool_state import Due, Lease, MemberCounts, Picked, Place, PoolNow, PoolState
from core.strategies import RECENT, Chances, Contender, Turns, choose, faded, late_after, observe
from storage.pool_state import RedisPoolState

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often it is looked whether Redis is back that was away."""

T = TypeVar("T")


class MemoryPoolState:
    """The pools as this process alone sees them, by the pure rules."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._turns: dict[UUID, Turns] = {}
        self._busy: Counter[tuple[UUID, UUID]] = Counter()
        self.served: Counter[tuple[UUID, UUID]] = Counter()
        self.failures: Counter[tuple[UUID, UUID]] = Counter()
        self._latency: dict[tuple[UUID, UUID, bool], tuple[float, float]] = {}
        self._recent: dict[tuple[UUID, bool], deque[float]] = defaultdict(lambda: deque(maxlen=RECENT))
        self._tried: set[tuple[UUID, UUID]] = set()
        self.rests: dict[tuple[UUID, UUID], Cooldown] = {}
        """Keyed, as who is tried, by the pool or, where a rest is for all models, the workspace, and the credential."""
        self.dues: dict[tuple[UUID, UUID], Due] = {}
        """What is due at the end of each rest, by the same key."""

    async def pick(
        self, workspace_id: UUID, pool: Pool, places: Sequence[Place], chances: Chances, *, whole: bool = False
    ) -> Picked:
        """Choose one that does not rest, and count a call that is under way."""
        now, contenders, waits = self._now(), [], []
        for place in places:
            found = self._rests_of(workspace_id, pool.id, place.credential_id)
            deadlines = [one.until for one in found.values() if one.rests(now)]
            if deadlines:
                if None not in deadlines:
                    waits.append(max(one for one in deadlines if one is not None))
            elif not self._tried.isdisjoint(found):
                waits.append(now + PROBE_AGAIN_S)
            else:
                contenders.append(self._contender(pool.id, place, now, whole=whole))
        if not contenders:
            return Picked(retry_after=min(waits) - now if waits else None)
        turns = self._turns.get(pool.id, Turns()).by(pool.version)
        chosen, self._turns[pool.id] = choose(pool.strategy, contenders, turns, chances)
        place, hedge = next(one for one in places if one.member_id.hex == chosen.key), pool.hedge_percentile
        self._busy[pool.id, place.member_id] += 1
        trials = self._rests_of(workspace_id, pool.id, place.credential_id)
        self._tried.update(trials)
        return Picked(
            lease=Lease(
                workspace_id=workspace_id,
                pool_id=pool.id,
                place=place,
                is_local=True,
                is_trial=bool(trials),
                late_s=late_after(self._recent[pool.id, whole], hedge) if hedge else None,
                whole=whole,
                others=len(contenders) - 1,
            )
        )

    async def spoke(self, lease: Lease, seconds: float) -> bool:
        """Take note that a member answered so soon: it is healthy. Tell whether it was not before."""
        key, now, credential_id = (
            (lease.pool_id, lease.place.member_id, lease.whole),
            self._now(),
            lease.place.credential_id,
        )
        before, at = self._latency.get(key, (None, now))
        self._latency[key] = observe(before, now - at, seconds), now
        self._recent[lease.pool_id, lease.whole].append(seconds)
        healed = False
        for place in (lease.pool_id, lease.workspace_id):
            found = self.rests.get((place, credential_id))
            if found is not None:
                self.rests[place, credential_id] = after = after_first_word(found, now)
                healed = healed or after.has_spoken is not found.has_spoken
        return healed

    async def silent(self, lease: Lease, seconds: float) -> None:
        """Take note that a member has said nothing for so long: it is no faster than that."""
        key = (lease.pool_id, lease.place.member_id, lease.whole)
        if seconds > self._latency.get(key, (0.0, 0.0))[0]:
            self._latency[key] = seconds, self._now()

    async def failed(self, lease: Lease, error: ModelyardError) -> Cooldown | None:
        """Let the member rest as the failure demands; return the rest, None where it demands none."""
        if error.rests is None:
            return None
        place = lease.workspace_id if error.rests.scope is Scope.CREDENTIAL else lease.pool_id
        key = (place, lease.place.credential_id)
        found = rest(self.rests.get(key), error, self._now())
        if found is not None:
            self.rests[key] = found
            self.dues[key] = Due(workspace_id=lease.workspace_id, pool_id=lease.pool_id, credential_id=key[1])
        return found

    def forget_rest(self, key: tuple[UUID, UUID], known: Cooldown) -> None:
        """Know no more of a rest, unless it is another one by now."""
        if self.rests.get(key) is known:
            del self.rests[key], self.dues[key]

    async def done(self, lease: Lease, *, served: bool | None) -> None:
        """Take note that a call is no longer under way; `served` None counts it as neither served nor failed."""
        key = (lease.pool_id, lease.place.member_id)
        self._busy[key] -= 1
        if lease.is_trial:
            for place in (lease.pool_id, lease.workspace_id):
                self._tried.discard((place, lease.place.credential_id))
        if served is not None:
            (self.served if served else self.failures)[key] += 1
        for place in (lease.pool_id, lease.workspace_id) if served else ():
            rest_key = (place, lease.place.credential_id)
            known = self.rests.get(rest_key)
            if known is not None and after_success(known) is None:
                self.forget_rest(rest_key, known)

    async def now(self, workspace_id: UUID, pools: Sequence[Pool]) -> Mapping[UUID, PoolNow]:
        """Return how each pool stands, by its id."""
        return {pool.id: self._standing(workspace_id, pool) for pool in pools}

    async def end_rests(self, workspace_id: UUID, pool_id: UUID, credential_id: UUID) -> bool:
        """Put a credential on trial: for all models, and for that of a pool. Tell whether it rested."""
        now = self._now()
        keys = ((workspace_id, credential_id), (pool_id, credential_id))
        ended = [self._end(key, lambda before: on_trial(before, now)) for key in keys]
        return any(ended)

    async def validated(self, workspace_id: UUID, credential_id: UUID, *, is_new: bool) -> bool:
        """Put a credential on trial that was found valid, if it waits for that or has new values; tell whether so."""
        now = self._now()
        return self._end((workspace_id, credential_id), lambda before: after_validation(before, now, is_new=is_new))

    def _end(self, key: tuple[UUID, UUID], end: Callable[[Cooldown], Cooldown]) -> bool:
        before, now = self.rests.get(key), self._now()
        if before is None:
            return False
        self.rests[key] = end(before)
        return before.rests(now) and not self.rests[key].rests(now)

    async def due(self) -> Sequence[Due]:
        """Return nothing: what is due is told by the process that knows all."""
        return ()

    async def forget(self, due: Due) -> None:
        """Do nothing, for the same reason."""

    def _standing(self, workspace_id: UUID, pool: Pool) -> PoolNow:
        rests: dict[UUID, tuple[Cooldown, ...]] = defaultdict(tuple)
        for place in (workspace_id, pool.id):
            for (of, credential_id), found in self.rests.items():
                if of == place and not found.has_spoken:
                    rests[credential_id] += (found,)
        counts = {
            member.id: MemberCounts(
                in_flight=self._busy[pool.id, member.id],
                served=self.served[pool.id, member.id],
                failed=self.failures[pool.id, member.id],
            )
            for member in pool.members
        }
        return PoolNow(counts=counts, rests=rests)

    def _contender(self, pool_id: UUID, place: Place, now: float, *, whole: bool) -> Contender:
        latency_s, seen_at = self._latency.get((pool_id, place.member_id, whole), (None, now))
        in_flight = self._busy[pool_id, place.member_id]
        if latency_s is not None and not in_flight:
            latency_s = faded(latency_s, now - seen_at)
        return Contender(
            key=place.member_id.hex,
            place=place.number,
            weight=place.weight,
            in_flight=in_flight,
            latency_s=latency_s,
        )

    def _rests_of(self, workspace_id: UUID, pool_id: UUID, credential_id: UUID) -> Mapping[tuple[UUID, UUID], Cooldown]:
        keys = ((place, credential_id) for place in (workspace_id, pool_id))
        return {key: found for key in keys if (found := self.rests.get(key)) is not None and not found.has_spoken}

    def _now(self) -> float:
        return self._clock.now().timestamp()


class SharedPoolState:
    """The pools of all processes, and while Redis is away those of this one: calls go on, and nothing waits long."""

    def __init__(self, shared: RedisPoolState, clock: Clock) -> None:
        self._shared = shared
        self._memory = MemoryPoolState(clock)
        self._clock = clock
        self._is_away = False
        self._untold: list[tuple[Lease, bool | None]] = []
        self._open: Counter[tuple[UUID, UUID]] = Counter()
        self._doubtful: set[UUID] = set()
        """Pools whose Redis may count calls under way of this process otherwise than this process does."""
        self._seen: set[UUID] = set()

    async def pick(
        self, workspace_id: UUID, pool: Pool, places: Sequence[Place], chances: Chances, *, whole: bool = False
    ) -> Picked:
        """Choose one that does not rest, and count a call that is under way."""
        was_away = self._is_away
        try:
            picked = await self._either(lambda state: state.pick(workspace_id, pool, places, chances, whole=whole))
        except asyncio.CancelledError:
            self._doubtful.add(pool.id)
            raise
        if picked.lease is not None and not picked.lease.is_local:
            self._seen.add(pool.id)
            self._open[pool.id, picked.lease.place.member_id] += 1
        elif self._is_away and not was_away:
            self._doubtful.add(pool.id)
        return picked

    async def spoke(self, lease: Lease, seconds: float) -> bool:
        """Take note that a member answered so soon: it is healthy. Tell whether it was not before."""
        return await self._either(lambda state: state.spoke(lease, seconds), is_local=lease.is_local)

    async def silent(self, lease: Lease, seconds: float) -> None:
        """Take note that a member has said nothing for so long: it is no faster than that."""
        await self._either(lambda state: state.silent(lease, seconds), is_local=lease.is_local)

    async def failed(self, lease: Lease, error: ModelyardError) -> Cooldown | None:
        """Let the member rest as the failure demands; return the rest, None where it demands none."""
        return await self._either(lambda state: state.failed(lease, error))

    async def done(self, lease: Lease, *, served: bool | None) -> None:
        """Take note that a call is no longer under way; `served` None counts it as neither served nor failed."""
        if lease.is_local:
            await self._memory.done(lease, served=served)
            return
        key = (lease.pool_id, lease.place.member_id)
        self._open[key] -= 1
        if not self._open[key]:
            del self._open[key]
        if not self._is_away:
            try:
                await self._shared.done(lease, served=served)
            except ServerUnavailable:
                self._note_away()
            else:
                return
        self._untold.append((lease, served))

    async def now(self, workspace_id: UUID, pools: Sequence[Pool]) -> Mapping[UUID, PoolNow]:
        """Return how each pool stands, by its id."""
        return await self._either(lambda state: state.now(workspace_id, pools))

    async def end_rests(self, workspace_id: UUID, pool_id: UUID, credential_id: UUID) -> bool:
        """Put a credential on trial: for all models, and for that of a pool. Tell whether it rested."""
        return await self._either(lambda state: state.end_rests(workspace_id, pool_id, credential_id))

    async def validated(self, workspace_id: UUID, credential_id: UUID, *, is_new: bool) -> bool:
        """Put a credential on trial that was found valid, if it waits for that or has new values; tell whether so."""
        return await self._either(lambda state: state.validated(workspace_id, credential_id, is_new=is_new))

    async def due(self) -> Sequence[Due]:
        """Return once every rest whose deadline has passed, and what waits long for a validation again and again."""
        return await self._either(lambda state: state.due())

    async def forget(self, due: Due) -> None:
        """Let a rest be due no more whose validation nobody waits for."""
        await self._either(lambda state: state.forget(due))

    async def close(self) -> None:
        """Wait until all that was asked of Redis is answered."""
        await self._shared.close()

    async def look(self) -> None:
        """Look whether Redis is back, where it was away; then tell it what this process alone knows."""
        try:
            if self._is_away:
                await self._tell()
            await self._tell_counts()
            while self._doubtful:
                pool_id = next(iter(self._doubtful))
                await self._shared.recount(
                    pool_id, {of[1]: count for of, count in self._open.items() if of[0] == pool_id}
                )
                self._doubtful.discard(pool_id)
        except ServerUnavailable:
            self._note_away()

    async def _tell(self) -> None:
        """Tell Redis what this process alone knows, and share it with the others again."""
        rests = self._memory.rests
        await self._shared.ping()
        while self._untold or rests:
            if self._untold:
                lease, served = self._untold[-1]
                await self._shared.done(lease, served=served)
                self._untold.remove((lease, served))
                continue
            key, found = next(iter(rests.items()))
            if found.rests(self._clock.now().timestamp()):
                await self._shared.carry(self._memory.dues[key], found)
            self._memory.forget_rest(key, found)
        self._doubtful |= self._seen  # a Redis that was started anew may have lost what it counted last
        self._is_away = False
        log.warning("Redis is back: pools are shared with the other processes again")

    async def _tell_counts(self) -> None:
        """Tell Redis of the calls that this process alone has counted, also of those that ended since it is back."""
        for pool_id, member_id in {*self._memory.served, *self._memory.failures}:
            key = (pool_id, member_id)
            served, failed = self._memory.served[key], self._memory.failures[key]
            await self._shared.add(pool_id, member_id, served=served, failed=failed)
            for counts, told in ((self._memory.served, served), (self._memory.failures, failed)):
                counts[key] -= told
                if not counts[key]:
                    del counts[key]

    async def _either(self, ask: Callable[[PoolState], Awaitable[T]], *, is_local: bool = False) -> T:
        """Ask Redis, or, while it is away, this process alone; nobody but `look` waits for a Redis that is away."""
        if not is_local and not self._is_away:
            try:
                return await ask(self._shared)
            except ServerUnavailable:
                self._note_away()
        return await ask(self._memory)

    def _note_away(self) -> None:
        if not self._is_away:
            log.warning("Redis is away: pools go on by what this process alone knows")
        self._is_away = True

"""How a pool and its members stand now, for whoever looks at it, and for the explanation of a route."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

from core.app import App
from core.cooldown import Cooldown, Phase
from core.entities import CredentialStatus, Pool
from core.pool import exhausted
from core.ports.pool_state import MemberCounts, PoolNow
from core.resolve import Candidate, Route


class MemberHealth(StrEnum):
    """Whether calls go to a member of a pool, and if not, why."""

    HEALTHY = "HEALTHY"
    COOLING_DOWN = "COOLING_DOWN"
    PROBING = "PROBING"
    DISABLED = "DISABLED"
    CREDENTIAL_MISSING = "CREDENTIAL_MISSING"
    CREDENTIAL_INVALID = "CREDENTIAL_INVALID"
    CREDENTIAL_UNREADABLE = "CREDENTIAL_UNREADABLE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How one member stands. `cooldown` is the rest that lasts longest, or what it is on trial after."""

    health: MemberHealth
    counts: MemberCounts
    cooldown: Cooldown | None = None


_STATUS = {
    CredentialStatus.INVALID: MemberHealth.CREDENTIAL_INVALID,
    CredentialStatus.UNREADABLE: MemberHealth.CREDENTIAL_UNREADABLE,
}
_PHASE = {Phase.COOLING_DOWN: MemberHealth.COOLING_DOWN, Phase.PROBING: MemberHealth.PROBING}


def standing(candidate: Candidate, pool_now: PoolNow, now: datetime) -> Standing:
    """Return how a member of a pool stands, its own faults before its credential's, those before a rest."""
    assert candidate.member is not None
    counts = pool_now.counts.get(candidate.member.id, MemberCounts())
    credential = candidate.credential
    if not candidate.member.enabled or candidate.is_double:
        return Standing(health=MemberHealth.DISABLED, counts=counts)
    if credential is None:
        return Standing(health=MemberHealth.CREDENTIAL_MISSING, counts=counts)
    if credential.status in _STATUS:
        return Standing(health=_STATUS[credential.status], counts=counts)
    longest = _longest(pool_now, credential.id)
    health = _PHASE[longest.phase(now.timestamp())] if longest is not None else MemberHealth.HEALTHY
    return Standing(health=health, counts=counts, cooldown=longest)


async def pools_now(app: App, workspace_id: UUID, pools: list[Pool]) -> Mapping[UUID, PoolNow]:
    """Return how pools of a workspace stand, by their ids."""
    return await app.pools.now(workspace_id, pools)


async def with_rests(app: App, workspace_id: UUID, route: Route, pool: Pool | None) -> Route:
    """Return a route whose resting members are out, as they are for a call; all of them out is a problem."""
    if not route.from_pool or pool is None:
        return route
    pool_now = (await pools_now(app, workspace_id, [pool]))[pool.id]
    now = app.clock.now()
    candidates = tuple(_candidate(one, pool_now, now) for one in route.candidates)
    problem = route.problem
    if problem is None and not any(one.usable for one in candidates):
        rests = [standing(one, pool_now, now).cooldown for one in route.candidates]
        waits = [rest.until - now.timestamp() for rest in rests if rest is not None and rest.until is not None]
        problem = exhausted(min(waits, default=None))
    return replace(route, candidates=candidates, problem=problem)


def _candidate(candidate: Candidate, pool_now: PoolNow, now: datetime) -> Candidate:
    found = standing(candidate, pool_now, now)
    cooldown = found.cooldown
    if found.health is not MemberHealth.COOLING_DOWN or cooldown is None:
        return replace(candidate, reason="on trial after a rest") if cooldown is not None else candidate
    until = (
        "until it is validated"
        if cooldown.until is None
        else f"until {datetime.fromtimestamp(cooldown.until, UTC).isoformat(timespec='seconds')}"
    )
    return replace(candidate, usable=False, reason=f"rests {until}, after {cooldown.cause}: {cooldown.message}")


def _longest(pool_now: PoolNow, credential_id: UUID) -> Cooldown | None:
    found = pool_now.rests.get(credential_id, ())
    return max(found, key=lambda one: float("inf") if one.until is None else one.until, default=None)

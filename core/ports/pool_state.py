"""What all processes know of pools while calls go through them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from core.cooldown import Cooldown
from core.entities import Pool
from core.errors import ModelyardError
from core.strategies import Chances


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A member of a pool with the credential that it stands for now; `number` is its place in the pool."""

    member_id: UUID
    credential_id: UUID
    number: int
    weight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A call that goes through a member of a pool. `is_local`: only this process knows of it.

    `is_trial`: the member's one call after a rest. `late_s`: when another member is to be asked too, None for never.
    `whole`: its first token comes with its last, so its time is kept apart. `others` tells how many more could have
    been chosen.
    """

    workspace_id: UUID
    pool_id: UUID
    place: Place
    is_local: bool = False
    is_trial: bool = False
    late_s: float | None = None
    whole: bool = False
    others: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Picked:
    """Who was chosen; without a `lease` all rest, and `retry_after` seconds are to go, None till one is validated."""

    lease: Lease | None = None
    retry_after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberCounts:
    """The calls of a member: under way now, served and failed since it is there."""

    in_flight: int = 0
    served: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolNow:
    """How a pool stands: counts by the member's id, and rests and trials by the credential's."""

    counts: Mapping[UUID, MemberCounts]
    rests: Mapping[UUID, tuple[Cooldown, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A rest whose deadline has passed; one that `waits` for a validation has been undecided for too long."""

    workspace_id: UUID
    pool_id: UUID
    credential_id: UUID
    waits: bool = False


class PoolState(Protocol):
    """What all processes know of pools: whose turn it is, who rests, what is under way. Each step is atomic."""

    async def pick(
        self, workspace_id: UUID, pool: Pool, places: Sequence[Place], chances: Chances, *, whole: bool = False
    ) -> Picked:
        """Choose one that does not rest, and count a call that is under way."""
        ...

    async def spoke(self, lease: Lease, seconds: float) -> bool:
        """Take note that a member answered so soon: it is healthy. Tell whether it was not before."""
        ...

    async def silent(self, lease: Lease, seconds: float) -> None:
        """Take note that a member has said nothing for so long: it is no faster than that."""
        ...

    async def failed(self, lease: Lease, error: ModelyardError) -> Cooldown | None:
        """Let the member rest as the failure demands; return the rest, None where it demands none."""
        ...

    async def done(self, lease: Lease, *, served: bool | None) -> None:
        """Take note that a call is no longer under way; `served` None counts it as neither served nor failed."""
        ...

    async def now(self, workspace_id: UUID, pools: Sequence[Pool]) -> Mapping[UUID, PoolNow]:
        """Return how each pool stands, by its id."""
        ...

    async def end_rests(self, workspace_id: UUID, pool_id: UUID, credential_id: UUID) -> bool:
        """Put a credential on trial: for all models, and for that of a pool. Tell whether it rested."""
        ...

    async def validated(self, workspace_id: UUID, credential_id: UUID, *, is_new: bool) -> bool:
        """Put a credential on trial that was found valid, if it waits for that or has new values; tell whether so."""
        ...

    async def due(self) -> Sequence[Due]:
        """Return once every rest whose deadline has passed, and what waits long for a validation again and again."""
        ...

    async def forget(self, due: Due) -> None:
        """Let a rest be due no more whose validation nobody waits for."""
        ...

"""Records of calls and what they hold, as they are written; how a call is booked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from core.entities import Invocation, QuotaUnit, WorkspaceBudget
from core.ports.once import OnceKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """What a call wants to hold of a quota: all of `wanted`, or what there is from `minimum` on.

    `input_tokens` is what its input counts for if its process dies.
    """

    quota_id: UUID
    minimum: int
    wanted: int
    input_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Spend:
    """What a call wants to hold of a budget, in attos: all of `wanted`, or what there is from `minimum` on.

    `by_setting` is the workspace's budget that is meant, opened by whoever comes first; None: a token's.
    """

    budget_id: UUID
    minimum: int
    wanted: int
    input_tokens: int
    by_setting: WorkspaceBudget | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """What a call holds of a quota, or (`unit` None) in attos of a budget.

    `left` is what more there was when it was taken, None: without end.
    """

    id: UUID
    balance_id: UUID
    unit: QuotaUnit | None
    amount: int
    left: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Holds:
    """All that a call holds: of one quota, if any, and of each of its budgets."""

    quota: Hold | None = None
    budgets: tuple[Hold, ...] = ()


class InvocationLog(Protocol):
    """Writes records of calls and books what they use, in groups where many come at once; returns when committed."""

    async def admit(
        self,
        invocation: Invocation,
        wants: Sequence[Want] = (),
        once: OnceKey | None = None,
        spends: Sequence[Spend] = (),
    ) -> Holds:
        """Insert a running invocation, with a hold of the first of `wants` that has enough left, and all of `spends`.

        All or nothing.

        Raises:
            QuotaExceeded: none has.
            BudgetExceeded: one of the budgets has not.
            AlreadyAdmitted: the key stands for another invocation already.
            OutcomeUnknown: the database went away meanwhile.
        """
        ...

    async def hold(self, invocation: Invocation, wants: Sequence[Want] = (), spends: Sequence[Spend] = ()) -> Holds:
        """Let a running invocation hold what its model, another one by now, asks: all or nothing.

        Of a budget that it holds of already it is the difference. What it held of a quota is freed, whatever comes of
        it: the attempt that it was for has failed.

        Raises:
            QuotaExceeded: no quota has enough left, or the invocation has ended.
            BudgetExceeded: one of the budgets has not.
        """
        ...

    async def grow(self, hold: Hold, invocation_id: UUID, wanted: int) -> int | None:
        """Hold up to `wanted` more; return how much more it is now, 0 where nothing is left.

        None where the hold has ended: the sweep has taken this process for dead.
        """
        ...

    async def settle(
        self,
        invocation: Invocation,
        charges: Mapping[UUID, int] | None = None,
        spent: Mapping[UUID, int] | None = None,
    ) -> bool:
        """Write the end of an invocation if it is still running, with its attempts; tell whether it was.

        `charges` and `spent` are what its holds of quotas and of budgets used, by their ids: it is booked with the end,
        once, and the rest is freed. None where it has no such holds. What the sweep has booked for it meanwhile is
        corrected.
        """
        ...

    async def note_output(self, produced: Mapping[UUID, int]) -> None:
        """Note how many tokens running calls have produced, for whoever settles them if this process dies.

        Raises:
            ServerUnavailable: the database is away.
        """
        ...

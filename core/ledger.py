"""A balance and what may happen to it, as pure functions: each gives the changes that the ledger keeps."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from core.entities import BudgetPeriod, EntryKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of a balance, as the ledger keeps it."""

    kind: EntryKind
    limit: int = 0
    used: int = 0
    reserved: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What may be used (`limit` None: without end), what is used, and what calls under way hold.

    `used` and `reserved` are of the period that began at `period`; None where it never resets.
    """

    limit: int | None
    used: int = 0
    reserved: int = 0
    period: datetime | None = None

    @property
    def room(self) -> int | None:
        """Return what is left to hold, below 0 where more was used than there was; None: without end."""
        return None if self.limit is None else self.limit - self.used - self.reserved

    def after(self, change: Change) -> "Balance":
        """Return the balance that a change leaves."""
        return replace(
            self,
            limit=None if self.limit is None else self.limit + change.limit,
            used=self.used + change.used,
            reserved=self.reserved + change.reserved,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a call holds of a balance, and the period that it was admitted in."""

    amount: int
    period: datetime | None = None


def period_start(resets_every: BudgetPeriod | None, at: datetime) -> datetime | None:
    """Return when the period that a moment belongs to began, in UTC; weeks begin on Monday. None: there are none."""
    day = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    match resets_every:
        case BudgetPeriod.DAY:
            return day
        case BudgetPeriod.WEEK:
            return day - timedelta(days=day.weekday())
        case BudgetPeriod.MONTH:
            return day.replace(day=1)
        case _:
            return None


def period_end(resets_every: BudgetPeriod | None, at: datetime) -> datetime | None:
    """Return when the next period begins."""
    start = period_start(resets_every, at)
    if start is None or resets_every is BudgetPeriod.DAY:
        return start and start + timedelta(days=1)
    if resets_every is BudgetPeriod.WEEK:
        return start + timedelta(days=7)
    return (start + timedelta(days=32)).replace(day=1)


def opened(balance: Balance, period: datetime | None) -> tuple[Balance, list[Change]]:
    """Return the balance in a period, opened anew where it was of an earlier one."""
    if balance.period is None or period is None or period <= balance.period:
        return balance, []
    reset = Change(kind=EntryKind.RESET, used=-balance.used, reserved=-balance.reserved)
    changes = [reset] if reset.used or reset.reserved else []
    return replace(balance, used=0, reserved=0, period=period), changes


def reserved(balance: Balance, minimum: int, wanted: int) -> int | None:
    """Return how much of what is wanted can be held, at least the minimum; None where that is not left.

    A `wanted` of 0 holds nothing, and nothing is held of what is used up.
    """
    if balance.room is None:
        return wanted
    granted = min(balance.room, wanted)
    return granted if granted >= minimum and balance.room > 0 else None


def settled(balance: Balance, held: Held, used: int, *, kind: EntryKind = EntryKind.SETTLE) -> list[Change]:
    """Return the changes that book what was used under a hold and free it; `kind` tells who ends it.

    A hold of an earlier period is booked there: the balance is left as it is, by a RESET that takes it back.
    """
    if kind is EntryKind.SETTLE and not used:
        kind = EntryKind.RELEASE
    changes = [Change(kind=kind, used=used, reserved=-held.amount)] if used or held.amount else []
    if changes and held.period != balance.period:
        changes.append(Change(kind=EntryKind.RESET, used=-used, reserved=held.amount))
    return changes


def settled_late(balance: Balance, held: Held, booked: int, used: int) -> list[Change]:
    """Return the changes that correct what was booked for an owner that was taken for dead."""
    if used == booked:
        return []
    changes = [Change(kind=EntryKind.LATE_SETTLE, used=used - booked)]
    if held.period != balance.period:
        changes.append(Change(kind=EntryKind.RESET, used=booked - used))
    return changes

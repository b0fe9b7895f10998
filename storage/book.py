"""The book of a group of calls: locks the balances that they touch, decides under the lock, and writes it all at once.

Quotas and budgets are two kinds of one thing: a balance, holds of it, and for quotas a ledger of the changes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Connection,
    Row,
    Table,
    bindparam,
    insert,
    or_,
    select,
    update,
)

from core.entities import BudgetPeriod, EntryKind, QuotaUnit
from core.errors import BudgetExceeded
from core.ids import id_of
from core.ledger import Balance, Change, Held, opened, period_end, period_start, reserved, settled, settled_late
from core.ports.invocation_log import Hold, Spend, Want
from core.pricing import attos
from storage.budgets import OPEN, budget_holds, budgets, opening_row
from storage.holds import EXPIRED, HELD, LATE, RELEASED, SETTLED, in_period
from storage.quotas import entry_row, quota_entries, quota_holds, quotas


class Kind:
    """A kind of balance: the tables of the balances and of what calls hold, with their statements.

    `of` is the column of a hold that names its balance; `fits` what must hold at the moment of writing, whatever was
    read, by the parameter `given`; `has_entries` tells whether a ledger keeps the changes, `serves_on` whether calls
    under way may go on holding of one that is archived.
    """

    def __init__(
        self,
        balances: Table,
        holds: Table,
        of: str,
        fits: ColumnElement[bool],
        given: str,
        *,
        has_entries: bool = False,
        serves_on: bool = False,
    ) -> None:
        number = balances.c.used.type
        ids: BindParameter[Sequence[UUID]] = bindparam("ids", expanding=True)
        self.holds = holds
        self.of = of
        self.given = given
        self.has_entries = has_entries
        self.serves_on = serves_on
        # Rows are locked in the order of their ids, so that two groups never wait for each other.
        self.lock = select(balances).where(balances.c.id.in_(ids)).order_by(balances.c.id).with_for_update()
        self.holds_of = select(holds).where(holds.c.invocation_id.in_(ids)).order_by(holds.c.id).with_for_update()
        self.update = (
            update(balances)
            .where(
                balances.c.id == bindparam("balance"),
                balances.c.used == bindparam("was_used", type_=number),
                balances.c.reserved == bindparam("was_reserved", type_=number),
                fits,
            )
            .values(
                limit=bindparam("to_limit", type_=number),
                used=bindparam("to_used", type_=number),
                reserved=bindparam("to_reserved", type_=number),
                period=bindparam("to_period"),
                updated_at=bindparam("at"),
            )
        )
        self.insert_holds = insert(holds)
        self.end_hold = (
            update(holds)
            .where(holds.c.id == bindparam("hold"), holds.c.state == bindparam("was"))
            .values(state=bindparam("to_state"), used=bindparam("to_used"), updated_at=bindparam("at"))
        )
        self.grow_hold = (
            update(holds)
            .where(holds.c.id == bindparam("hold"), holds.c.state == HELD)
            .values(amount=bindparam("to_amount"), updated_at=bindparam("at"))
        )


# What is held must fit at the moment of writing: without a hold more (`more` 0) it is only freed. Attos are text, on
# which a database cannot count: a budget's limit must be the one that was counted with.
QUOTAS = Kind(
    quotas,
    quota_holds,
    "quota_id",
    or_(
        quotas.c["limit"].is_(None),
        bindparam("more", type_=BigInteger) == 0,
        quotas.c["limit"] >= bindparam("to_used", type_=BigInteger) + bindparam("to_reserved", type_=BigInteger),
    ),
    "more",
    has_entries=True,
)
BUDGETS = Kind(
    budgets,
    budget_holds,
    "budget_id",
    budgets.c["limit"] == bindparam("was_limit", type_=budgets.c["limit"].type),
    "was_limit",
    serves_on=True,
)
_INSERT_ENTRIES = insert(quota_entries)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a balance can let a call hold, decided and not yet noted."""

    row: Row[Any]
    amount: int
    input_tokens: int


class Book:
    """What a transaction does to balances of a kind. Opened with all that it may touch; `write` ends it."""

    def __init__(self, connection: Connection, kind: Kind, ids: Sequence[UUID], now: datetime) -> None:
        self._connection = connection
        self._kind = kind
        self._now = now
        self._rows: dict[UUID, Row[Any]] = {}
        self._balances: dict[UUID, Balance] = {}
        self._over: dict[tuple[UUID, datetime], Balance] = {}
        self._more: dict[UUID, int] = {}
        self._entries: list[dict[str, Any]] = []
        self._new_holds: list[dict[str, Any]] = []
        self._ended: list[dict[str, Any]] = []
        self._grown: list[dict[str, Any]] = []
        self._lock(ids)

    def open_missing(self, spends: Sequence[Spend]) -> None:
        """Open the budgets that a setting gives workspaces and nobody has opened yet; their limit is the setting's."""
        by_setting = {one.budget_id: one.by_setting for one in spends if one.by_setting is not None}
        missing = [budget for id_, budget in sorted(by_setting.items()) if id_ not in self._rows]
        if missing:
            rows = [opening_row(budget, self._now) for budget in missing]
            self._connection.execute(OPEN.on(self._connection.dialect), rows)
            self._lock([budget.id for budget in missing])
        for id_, budget in by_setting.items():
            self._balances[id_] = replace(self._balances[id_], limit=attos(budget.ceiling.limit))

    def open_periods(self) -> None:
        """Open the current period of all that live."""
        for row in self._rows.values():
            if row.archived_at is None:
                self._open(row)

    def first(self, wants: Sequence[Want]) -> Grant | None:
        """Return what the first of these quotas that has enough left can let a call hold; None where none has."""
        found = (self.grant(want.quota_id, want.minimum, want.wanted, want.input_tokens) for want in wants)
        return next((grant for grant in found if grant is not None), None)

    def grant(self, balance_id: UUID, minimum: int, wanted: int, input_tokens: int) -> Grant | None:
        """Return what a balance can let a call hold, at least the minimum; None where that is not left."""
        row = self._rows.get(balance_id)
        if row is None or row.archived_at is not None:
            return None
        self._open(row)
        granted = reserved(self._balances[row.id], minimum, wanted)
        return Grant(row, granted, input_tokens) if granted is not None else None

    def hold(self, grant: Grant, invocation_id: UUID, owner: UUID) -> Hold:
        """Let a call hold what was granted."""
        row, hold_id = grant.row, id_of(self._now)
        self._note(row, [Change(kind=EntryKind.RESERVE, reserved=grant.amount)], hold_id, invocation_id)
        self._new_holds.append(
            {
                "id": hold_id,
                self._kind.of: row.id,
                "invocation_id": invocation_id,
                "owner": owner,
                "amount": grant.amount,
                "used": 0,
                "input_tokens": grant.input_tokens,
                "state": HELD,
                "period": self._balances[row.id].period,
                "created_at": self._now,
                "updated_at": self._now,
            }
        )
        return self._held(hold_id, row, grant.amount)

    def raise_to(self, held: Row[Any], minimum: int, wanted: int) -> int | None:
        """Return how much more a hold can be, so that it is at least the minimum; None where that is not left."""
        if held.amount >= wanted:
            return 0
        more = self._more_of(held, max(minimum - held.amount, 0), wanted - held.amount)
        return 0 if more is None and held.amount >= minimum else more

    def grow(self, held: Row[Any], wanted: int) -> int:
        """Hold up to `wanted` more; return how much it is now more, 0 where nothing is left."""
        granted = self._more_of(held, 1, wanted)
        if granted:
            self.add(held, granted)
        return granted or 0

    def add(self, held: Row[Any], granted: int) -> Hold:
        """Hold so much more, which was granted; it counts in the period of the hold."""
        row = self._rows[self._of(held)]
        reserve = Change(kind=EntryKind.RESERVE, reserved=granted)
        changes = [reserve] if granted else []
        is_over = held.period != self._balances[row.id].period
        if changes and is_over:
            changes.append(Change(kind=EntryKind.RESET, reserved=-granted))
        self._note(row, changes, held.id, held.invocation_id)
        if is_over:
            self._more[row.id] = self._more.get(row.id, 0) - granted  # of the period that is now it is nothing
            if (place := (row.id, held.period)) in self._over:
                self._over[place] = self._over[place].after(reserve)
        self._grown.append({"hold": held.id, "to_amount": held.amount + granted, "at": self._now})
        return self._held(held.id, row, held.amount + granted)

    def refusal(self, spend: Spend) -> BudgetExceeded:
        """Return why a budget does not let a call hold what it wants; `retry_after` where the next period will."""
        row, whose = self._rows.get(spend.budget_id), "workspace" if spend.by_setting is not None else "token"
        if row is None or row.archived_at is not None:
            return BudgetExceeded("This token's budget was changed at this very moment: ask again.")
        until = period_end(BudgetPeriod(row.resets_every), self._now)
        fits_later = until is not None and (self._balances[row.id].limit or 0) >= spend.minimum
        mends = "use a token with a greater one" if whose == "token" else "ask whoever runs this server"
        return BudgetExceeded(
            f"The budget of this {whose} has not enough left for this call: ask for less output, take a cheaper model, "
            f"{f'wait for {until:%Y-%m-%d %H:%M} UTC, ' if fits_later else ''}or {mends}.",
            retry_after=(until - self._now).total_seconds() if until is not None and fits_later else None,
        )

    def settle(self, held: Row[Any], used: int, *, by_sweep: bool) -> None:
        """Book what was used under a hold and free it; one that is ended already stays as it is.

        What the sweep has booked for an owner that lives is corrected once.
        """
        row, balance = self._rows[self._of(held)], self._balances[self._of(held)]
        hold = Held(amount=held.amount, period=held.period)
        if held.state == HELD:
            kind = EntryKind.EXPIRE if by_sweep and not used else EntryKind.SETTLE
            self._note(row, settled(balance, hold, used, kind=kind), held.id, held.invocation_id)
            state = EXPIRED if by_sweep else SETTLED if used else RELEASED
        elif held.state == EXPIRED and not by_sweep:
            self._note(row, settled_late(balance, hold, held.used, used), held.id, held.invocation_id)
            state = LATE
        else:
            return
        self._ended.append({"hold": held.id, "was": held.state, "to_state": state, "to_used": used, "at": self._now})

    def write(self) -> None:
        """Write what was decided."""
        changed = [self._changed(row) for row in self._rows.values() if self._is_changed(row)]
        for statement, rows in (
            (self._kind.update, changed),
            (self._kind.insert_holds, self._new_holds),
            (self._kind.grow_hold, self._grown),
            (self._kind.end_hold, self._ended),
            (_INSERT_ENTRIES, self._entries),
        ):
            if rows:
                self._connection.execute(statement, rows)

    @property
    def touched(self) -> list[tuple[UUID, UUID]]:
        """Return the workspace and id of each balance that has changed."""
        return [(row.workspace_id, row.id) for row in self._rows.values() if self._is_changed(row)]

    def _lock(self, ids: Sequence[UUID]) -> None:
        for row in self._connection.execute(self._kind.lock, {"ids": sorted(set(ids))}) if ids else ():
            self._rows[row.id] = row
            self._balances[row.id] = Balance(limit=row.limit, used=row.used, reserved=row.reserved, period=row.period)

    def _open(self, row: Row[Any]) -> None:
        """Open the current period."""
        every = BudgetPeriod(row.resets_every) if row.resets_every is not None else None
        was = self._balances[row.id]
        balance, changes = opened(was, period_start(every, self._now))
        self._balances[row.id] = was if changes else balance
        if changes:
            self._note(row, changes, None, None)
            self._balances[row.id] = balance

    def _more_of(self, held: Row[Any], minimum: int, wanted: int) -> int | None:
        """Return what more a hold can have, of the period that it counts in."""
        row = self._rows[self._of(held)]
        if row.archived_at is not None:
            return wanted if self._kind.serves_on else None
        balance = self._balances[row.id]
        if held.period != balance.period and held.period is not None:
            balance = self._over_at(balance, row.id, held.period)
        return reserved(balance, minimum, wanted)

    def _over_at(self, balance: Balance, balance_id: UUID, period: datetime) -> Balance:
        """Return a balance as it is in a period that is over, which its row says no more: by what was held then."""
        place = (balance_id, period)
        if place not in self._over:
            used, held = in_period(self._connection, self._kind.holds, self._kind.of, balance_id, period)
            self._over[place] = replace(balance, used=used, reserved=held, period=period)
        return self._over[place]

    def _of(self, held: Row[Any]) -> UUID:
        found: UUID = held._mapping[self._kind.of]
        return found

    def _held(self, hold_id: UUID, row: Row[Any], amount: int) -> Hold:
        unit = QuotaUnit(row.unit) if self._kind is QUOTAS else None
        return Hold(id=hold_id, balance_id=row.id, unit=unit, amount=amount, left=self._balances[row.id].room)

    def _note(self, row: Row[Any], changes: Sequence[Change], hold_id: UUID | None, invocation_id: UUID | None) -> None:
        for change in changes:
            balance = self._balances[row.id] = self._balances[row.id].after(change)
            if change.kind is EntryKind.RESERVE:
                self._more[row.id] = self._more.get(row.id, 0) + change.reserved
            if self._kind.has_entries:
                place: Mapping[str, Any] = {"id": row.id, "workspace_id": row.workspace_id}
                entry = entry_row(place, balance, change, self._now, hold_id=hold_id, invocation_id=invocation_id)
                self._entries.append(entry)

    def _is_changed(self, row: Row[Any]) -> bool:
        now = self._balances[row.id]
        return (now.used, now.reserved, now.period, now.limit) != (row.used, row.reserved, row.period, row.limit)

    def _changed(self, row: Row[Any]) -> dict[str, Any]:
        balance = self._balances[row.id]
        given = {"was_limit": row.limit, "more": self._more.get(row.id, 0)}
        return {
            "balance": row.id,
            self._kind.given: given[self._kind.given],
            "was_used": row.used,
            "was_reserved": row.reserved,
            "to_limit": balance.limit,
            "to_used": balance.used,
            "to_reserved": balance.reserved,
            "to_period": balance.period,
            "at": self._now,
        }

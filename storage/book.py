"""The book of a group of calls: locks the quotas that they touch, decides under the lock, and writes it all at once."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Connection, Row, bindparam, insert, or_, select, update

from core.entities import BudgetPeriod, EntryKind, QuotaUnit
from core.ids import uuid7
from core.ledger import Balance, Change, Held, opened, period_start, reserved, settled, settled_late
from core.ports import Hold, Want
from storage.quotas import EXPIRED, HELD, LATE, RELEASED, SETTLED, entry_row, quota_entries, quota_holds, quotas

# Rows are locked in the order of their ids, so that two groups never wait for each other.
_LOCK = select(quotas).where(quotas.c.id.in_(bindparam("ids", expanding=True))).order_by(quotas.c.id).with_for_update()
HOLDS = (
    select(quota_holds)
    .where(quota_holds.c.invocation_id.in_(bindparam("ids", expanding=True)))
    .order_by(quota_holds.c.id)
    .with_for_update()
)
_TO_USED, _TO_RESERVED = bindparam("to_used", type_=BigInteger), bindparam("to_reserved", type_=BigInteger)

# What is held must fit at the moment of writing, whatever was read: without a hold more (`more` 0) it is only freed.
_UPDATE = (
    update(quotas)
    .where(
        quotas.c.id == bindparam("quota"),
        quotas.c.used == bindparam("was_used"),
        quotas.c.reserved == bindparam("was_reserved"),
        or_(
            quotas.c["limit"].is_(None),
            bindparam("more", type_=BigInteger) == 0,
            quotas.c["limit"] >= _TO_USED + _TO_RESERVED,
        ),
    )
    .values(
        used=_TO_USED,
        reserved=_TO_RESERVED,
        period=bindparam("to_period"),
        updated_at=bindparam("at"),
    )
)
_INSERT_HOLDS = insert(quota_holds)
_INSERT_ENTRIES = insert(quota_entries)
_END_HOLD = (
    update(quota_holds)
    .where(quota_holds.c.id == bindparam("hold"), quota_holds.c.state == bindparam("was"))
    .values(state=bindparam("to_state"), used=bindparam("to_used"), updated_at=bindparam("at"))
)
_GROW_HOLD = (
    update(quota_holds)
    .where(quota_holds.c.id == bindparam("hold"), quota_holds.c.state == HELD)
    .values(amount=bindparam("to_amount"), updated_at=bindparam("at"))
)


class Book:
    """What a transaction does to balances. Opened with every quota that it may touch; `write` ends it."""

    def __init__(self, connection: Connection, quota_ids: Sequence[UUID], now: datetime) -> None:
        self._connection = connection
        self._now = now
        rows = connection.execute(_LOCK, {"ids": sorted(set(quota_ids))}).all() if quota_ids else []
        self._rows: dict[UUID, Row[Any]] = {row.id: row for row in rows}
        self._balances: dict[UUID, Balance] = {}
        self._more: dict[UUID, int] = {}
        self._entries: list[dict[str, Any]] = []
        self._new_holds: list[dict[str, Any]] = []
        self._ended: list[dict[str, Any]] = []
        self._grown: list[dict[str, Any]] = []
        for row in rows:
            self._balances[row.id] = Balance(limit=row.limit, used=row.used, reserved=row.reserved, period=row.period)

    def hold(self, wants: Sequence[Want], invocation_id: UUID, owner: UUID) -> Hold | None:
        """Hold of the first of these quotas that has enough left; None where none has."""
        for want in wants:
            row = self._rows.get(want.quota_id)
            if row is None or row.archived_at is not None:
                continue
            self._open(row)
            balance = self._balances[row.id]
            granted = reserved(balance, want.minimum, want.wanted)
            if granted is None:
                continue
            hold_id = uuid7()
            self._note(row, [Change(kind=EntryKind.RESERVE, reserved=granted)], hold_id, invocation_id)
            self._new_holds.append(
                {
                    "id": hold_id,
                    "quota_id": row.id,
                    "invocation_id": invocation_id,
                    "owner": owner,
                    "amount": granted,
                    "used": 0,
                    "input_tokens": want.input_tokens,
                    "state": HELD,
                    "period": balance.period,
                    "created_at": self._now,
                    "updated_at": self._now,
                }
            )
            return Hold(
                id=hold_id,
                quota_id=row.id,
                unit=QuotaUnit(row.unit),
                amount=granted,
                left=self._balances[row.id].room,
            )
        return None

    def grow(self, held: Row[Any], wanted: int) -> int:
        """Hold up to `wanted` more; return how much it is now more, 0 where nothing is left."""
        row = self._rows[held.quota_id]
        balance = self._balances[row.id]
        granted = reserved(balance, 1, wanted) if held.period == balance.period and row.archived_at is None else None
        if not granted:
            return 0
        self._note(row, [Change(kind=EntryKind.RESERVE, reserved=granted)], held.id, held.invocation_id)
        self._grown.append({"hold": held.id, "to_amount": held.amount + granted, "at": self._now})
        return granted

    def settle(self, held: Row[Any], used: int, *, by_sweep: bool) -> None:
        """Book what was used under a hold and free it; one that is ended already stays as it is.

        What the sweep has booked for an owner that lives is corrected once.
        """
        row, balance = self._rows[held.quota_id], self._balances[held.quota_id]
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
            (_UPDATE, changed),
            (_INSERT_HOLDS, self._new_holds),
            (_GROW_HOLD, self._grown),
            (_END_HOLD, self._ended),
            (_INSERT_ENTRIES, self._entries),
        ):
            if rows:
                self._connection.execute(statement, rows)

    @property
    def touched(self) -> list[tuple[UUID, UUID]]:
        """Return the workspace and id of each quota that has changed."""
        return [(row.workspace_id, row.id) for row in self._rows.values() if self._is_changed(row)]

    def _open(self, row: Row[Any]) -> None:
        """Open the current period."""
        every = BudgetPeriod(row.resets_every) if row.resets_every is not None else None
        was = self._balances[row.id]
        balance, changes = opened(was, period_start(every, self._now))
        self._balances[row.id] = was if changes else balance
        if changes:
            self._note(row, changes, None, None)
            self._balances[row.id] = balance

    def _note(self, row: Row[Any], changes: Sequence[Change], hold_id: UUID | None, invocation_id: UUID | None) -> None:
        for change in changes:
            balance = self._balances[row.id] = self._balances[row.id].after(change)
            if change.kind is EntryKind.RESERVE:
                self._more[row.id] = self._more.get(row.id, 0) + change.reserved
            self._entries.append(
                entry_row(
                    {"id": row.id, "workspace_id": row.workspace_id},
                    balance,
                    change,
                    self._now,
                    hold_id=hold_id,
                    invocation_id=invocation_id,
                )
            )

    def _is_changed(self, row: Row[Any]) -> bool:
        balance = self._balances[row.id]
        return (balance.used, balance.reserved, balance.period) != (row.used, row.reserved, row.period)

    def _changed(self, row: Row[Any]) -> dict[str, Any]:
        balance = self._balances[row.id]
        return {
            "quota": row.id,
            "was_used": row.used,
            "was_reserved": row.reserved,
            "more": self._more.get(row.id, 0),
            "to_used": balance.used,
            "to_reserved": balance.reserved,
            "to_period": balance.period,
            "at": self._now,
        }

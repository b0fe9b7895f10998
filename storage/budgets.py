"""Ceilings on cost, and what calls hold of them, as rows; money in attos."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Row,
    String,
    Table,
    Uuid,
    delete,
    insert,
    literal_column,
    select,
    update,
)

from core.entities import Budget, BudgetPeriod, Ceiling, WorkspaceBudget
from core.ids import first_id, uuid7
from core.ledger import Balance, opened, period_start
from core.pricing import amount_of, attos
from storage.base import Attos, UtcDateTime, id_column, metadata, times
from storage.connection import Connection
from storage.engine import Upsert
from storage.quotas import HELD

_LIVE = literal_column("archived_at IS NULL", Boolean)

# Of a token, or of a workspace by setting. `spent` and `reserved` are of the period. One that is replaced is archived:
# calls under way still settle what they hold of it.
budgets = Table(
    "budgets",
    metadata,
    id_column(),
    Column("token_id", Uuid, ForeignKey("api_tokens.id", ondelete="CASCADE")),
    Column("workspace_id", Uuid, ForeignKey("workspaces.id", ondelete="CASCADE")),
    Column("limit", Attos, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("resets_every", String(16), nullable=False),
    Column("used", Attos, nullable=False),
    Column("reserved", Attos, nullable=False),
    Column("period", UtcDateTime),
    Column("archived_at", UtcDateTime),
    *times(),
    CheckConstraint("(token_id IS NULL) <> (workspace_id IS NULL)", name="is_of_one"),
    CheckConstraint("reserved NOT LIKE '-%'", name="holds_nothing_negative"),
    Index("uq_budgets_live", "token_id", unique=True, sqlite_where=_LIVE, postgresql_where=_LIVE),
    Index(None, "workspace_id"),
)

# As `quota_holds`.
budget_holds = Table(
    "budget_holds",
    metadata,
    id_column(),
    Column("budget_id", Uuid, ForeignKey("budgets.id", ondelete="CASCADE"), nullable=False),
    Column("invocation_id", Uuid, nullable=False),
    Column("owner", Uuid, nullable=False),
    Column("amount", Attos, nullable=False),
    Column("used", Attos, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("period", UtcDateTime),
    *times(),
    CheckConstraint("amount NOT LIKE '-%'", name="is_not_negative"),
    Index(None, "invocation_id"),
    Index(None, "budget_id"),
)

OPEN = Upsert(budgets, key=("id",))


class SqlBudgets:
    """The budgets of one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def of_tokens(self, token_ids: Sequence[UUID]) -> Mapping[UUID, Budget]:
        """Return the live budgets of those tokens that have one, with what is spent and held now."""
        live = (budgets.c.token_id.in_(token_ids), budgets.c.archived_at.is_(None))
        rows = await self._connection.rows(select(budgets).where(*live))
        return {row.token_id: _budget(row, self._connection.now()) for row in rows}

    async def put(self, token_id: UUID, ceiling: Ceiling | None) -> None:
        """Give a token a budget, or none; another limit keeps what is spent, another currency or period begins anew.

        The caller has locked the token.
        """
        now, live = self._connection.now(), (budgets.c.token_id == token_id, budgets.c.archived_at.is_(None))
        if ceiling is not None:
            same = (budgets.c.currency == ceiling.currency, budgets.c.resets_every == ceiling.period.value)
            changed = update(budgets).where(*live, *same).values(limit=attos(ceiling.limit), updated_at=now)
            if await self._connection.run(changed):
                return
        await self._connection.run(update(budgets).where(*live).values(archived_at=now, updated_at=now))
        if ceiling is not None:
            row = _new_row(uuid7(), ceiling, now) | {"token_id": token_id, "workspace_id": None}
            await self._connection.run(insert(budgets).values(row))


def opening_row(budget: WorkspaceBudget, now: datetime) -> dict[str, Any]:
    """Return the row of a workspace's budget that nothing is spent of yet."""
    return _new_row(budget.id, budget.ceiling, now) | {"token_id": None, "workspace_id": budget.workspace_id}


async def out_of_balance(connection: Connection) -> Sequence[UUID]:
    """Return the budgets of which another amount is reserved than calls of its period hold."""
    holds, held = budget_holds.c, {}
    for row in await connection.rows(select(budgets.c.id, budgets.c.period, budgets.c.reserved)):
        held[row.id, row.period] = row.reserved
    statement = select(holds.budget_id, holds.period, holds.amount).where(holds.state == HELD)
    for row in await connection.rows(statement):
        place = (row.budget_id, row.period)
        if place in held:
            held[place] -= row.amount
    return [budget_id for (budget_id, _), left in held.items() if left]


async def prune(connection: Connection, before: datetime, *, limit: int) -> int:
    """Delete holds from before a time that are booked; return how many, at most `limit`."""
    old = select(budget_holds.c.id).where(budget_holds.c.id < first_id(before), budget_holds.c.state != HELD)
    return await connection.run(delete(budget_holds).where(budget_holds.c.id.in_(old.limit(limit))))


def _new_row(budget_id: UUID, ceiling: Ceiling, now: datetime) -> dict[str, Any]:
    return {
        "id": budget_id,
        "limit": attos(ceiling.limit),
        "currency": ceiling.currency,
        "resets_every": ceiling.period.value,
        "used": 0,
        "reserved": 0,
        "period": period_start(ceiling.period, now),
        "archived_at": None,
        "created_at": now,
        "updated_at": now,
    }


def _budget(row: Row[Any], now: datetime) -> Budget:
    """Return the budget of a row as it is at a time: in a new period nothing is spent yet."""
    period = BudgetPeriod(row.resets_every)
    stored = Balance(limit=row.limit, used=row.used, reserved=row.reserved, period=row.period)
    balance, _ = opened(stored, period_start(period, now))
    return Budget(
        id=row.id,
        ceiling=Ceiling(limit=amount_of(row.limit), currency=row.currency, period=period),
        spent=amount_of(balance.used),
        reserved=amount_of(balance.reserved),
        began=balance.period,
    )

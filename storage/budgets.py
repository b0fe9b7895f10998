"""Ceilings on cost, and what calls hold of them, as rows; money in attos."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    ForeignKey,
    Index,
    Row,
    String,
    Table,
    Uuid,
    insert,
    literal_column,
    select,
    update,
)

from core.entities import Budget, BudgetPeriod, Ceiling, WorkspaceBudget
from core.ids import id_of, uuid7
from core.ledger import Balance, opened, period_start
from core.pricing import amount_of, attos
from storage import paging
from storage.base import Attos, UtcDateTime, id_column, metadata, times
from storage.connection import Connection
from storage.engine import Upsert
from storage.holds import HELD, PARTS, holds_of, joined, sums_of, take_ended

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

budget_holds = holds_of(budgets, "budget_id", Attos, "amount NOT LIKE '-%'")

SUMMED = "SUMMED"
"""The state of what stands for holds that were deleted: a hold of no call, whose `used` is the sum of theirs."""

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


async def out_of_balance(connection: Connection, *, window: int = 200_000) -> Sequence[UUID]:
    """Return the budgets of which something else is spent or reserved than calls of its period have cost or hold."""
    columns, holds = budgets.c, budget_holds.c
    grouped: Sequence[ColumnElement[Any]] = (holds.budget_id, holds.period, holds.state == HELD)
    sums: dict[tuple[UUID, datetime | None], tuple[int, int]] = {}
    statement = select(*grouped, *sums_of(holds.used), *sums_of(holds.amount)).group_by(*grouped)
    async for part in paging.windows(connection, budget_holds, window):
        for row in await connection.rows(statement.where(part)):
            budget_id, period, still_held, *amounts = tuple(row)
            used, held = sums.get((budget_id, period), (0, 0))
            if still_held:
                held += joined(amounts[PARTS:])
            else:
                used += joined(amounts[:PARTS])
            sums[budget_id, period] = used, held
    found = await connection.rows(select(columns.id, columns.period, columns.used, columns.reserved))
    return [row.id for row in found if (row.used, row.reserved) != sums.get((row.id, row.period), (0, 0))]


async def prune_holds(connection: Connection, before: datetime, *, limit: int) -> int:
    """Delete holds from before a time that have ended; return how many, at most `limit`.

    Budgets have no ledger: the sum of what they have cost in a period that goes on is kept in their place.
    """
    taken = await take_ended(connection, budget_holds, before, limit=limit)
    ids: set[UUID] = {row.budget_id for row in taken}
    periods = {
        row.id: row.period
        for row in await connection.rows(select(budgets.c.id, budgets.c.period).where(budgets.c.id.in_(ids)))
    }
    used: dict[UUID, int] = {}
    for row in taken:
        if row.used and row.period == periods[row.budget_id]:
            used[row.budget_id] = used.get(row.budget_id, 0) + row.used
    if used:
        rows = [_sum_row(budget_id, periods[budget_id], amount, before) for budget_id, amount in used.items()]
        await connection.run(insert(budget_holds), rows)
    return len(taken)


def _sum_row(budget_id: UUID, period: datetime | None, used: int, before: datetime) -> dict[str, Any]:
    """Return what stands for deleted holds. It is taken by the next pruning, and not by this one."""
    return {
        "id": id_of(before),
        "budget_id": budget_id,
        "invocation_id": UUID(int=0),
        "owner": UUID(int=0),
        "amount": 0,
        "used": used,
        "input_tokens": 0,
        "state": SUMMED,
        "period": period,
        "created_at": before,
        "updated_at": before,
    }


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

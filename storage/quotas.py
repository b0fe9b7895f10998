"""Balances of hosted use, what calls hold of them, and the ledger of their changes, as rows."""

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
    Text,
    Uuid,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)

from core.entities import BudgetPeriod, EntryKind, Quota, QuotaEntry, QuotaType, QuotaUnit
from core.ids import uuid7
from core.ledger import Balance, Change, opened, period_start
from core.model_types import ModelKey
from core.ports.paging import PageRequest, Slice
from core.ports.quotas import Note
from storage import paging
from storage.base import Json, UtcDateTime, id_column, metadata, times, within
from storage.connection import Connection
from storage.engine import Upsert
from storage.holds import holds_of, take_ended
from storage.workspaces import workspaces

_LIVE = literal_column("archived_at IS NULL", Boolean)

# `provider` is empty for a quota that all hosted providers share. `used` and `reserved` are of the period.
quotas = Table(
    "quotas",
    metadata,
    id_column(),
    Column("workspace_id", Uuid, ForeignKey("workspaces.id", ondelete="CASCADE"), nullable=False),
    Column("provider", String(64), nullable=False),
    Column("type", String(16), nullable=False),
    Column("unit", String(16), nullable=False),
    Column("limit", BigInteger),
    Column("used", BigInteger, nullable=False),
    Column("reserved", BigInteger, nullable=False),
    Column("restricted_to", Json(tuple[ModelKey, ...])),
    Column("resets_every", String(16)),
    Column("period", UtcDateTime),
    Column("archived_at", UtcDateTime),
    *times(),
    CheckConstraint("reserved >= 0", name="holds_nothing_negative"),
    Index(
        "uq_quotas_live", "workspace_id", "provider", "type", unique=True, sqlite_where=_LIVE, postgresql_where=_LIVE
    ),
    Index(None, "workspace_id", "id"),
)

_IS_HELD = literal_column("state = 'HELD'", Boolean)
quota_holds = holds_of(
    quotas, "quota_id", BigInteger, "amount >= 0",
    Index("ix_quota_holds_held", "owner", sqlite_where=_IS_HELD, postgresql_where=_IS_HELD),
)  # fmt: skip

_IS_LATE = literal_column("kind = 'LATE_SETTLE'", Boolean)

# Only ever added to. `period` is the balance's when it was written.
quota_entries = Table(
    "quota_entries",
    metadata,
    id_column(),
    Column("quota_id", Uuid, ForeignKey("quotas.id", ondelete="CASCADE"), nullable=False),
    Column("workspace_id", Uuid, ForeignKey("workspaces.id", ondelete="CASCADE"), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("limit_change", BigInteger, nullable=False),
    Column("used_change", BigInteger, nullable=False),
    Column("reserved_change", BigInteger, nullable=False),
    Column("remaining", BigInteger),
    Column("hold_id", Uuid),
    Column("invocation_id", Uuid),
    Column("order_id", Uuid),
    Column("account_id", Uuid),
    Column("note", Text),
    *times(),
    Index(None, "quota_id", "id"),
    Index(None, "workspace_id"),
    Index(None, "invocation_id"),
    Index("uq_quota_entries_late", "hold_id", unique=True, sqlite_where=_IS_LATE, postgresql_where=_IS_LATE),
)

_INSERT = Upsert(quotas, key=("workspace_id", "provider", "type"), where=_LIVE)


class SqlQuotas:
    """The quotas of one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def insert(self, quota: Quota, kind: EntryKind, note: Note) -> bool:
        """Insert with the entry of its limit, unless one that is live has its place; tell whether it was inserted."""
        now = self._connection.now()
        row = {
            "id": quota.id,
            "workspace_id": quota.workspace_id,
            "provider": quota.provider or "",
            "type": quota.type.value,
            "unit": quota.unit.value,
            "limit": quota.limit,
            "used": 0,
            "reserved": 0,
            "restricted_to": tuple(sorted(quota.restricted_to, key=str)) if quota.restricted_to is not None else None,
            "resets_every": quota.resets_every.value if quota.resets_every is not None else None,
            "period": quota.period,
            "archived_at": None,
            "created_at": now,
            "updated_at": now,
        }
        if not await self._connection.run(_INSERT, row):
            return False
        balance = Balance(limit=quota.limit)
        entry = entry_row(row, balance, Change(kind=kind, limit=quota.limit or 0), now, note=note)
        await self._connection.run(insert(quota_entries).values(entry))
        return True

    async def change(self, quota_id: UUID, change: Change, note: Note, *, ended_too: bool = False) -> Quota | None:
        """Change the limit, or what is used, by an entry; None where there is no such live quota, or none at all.

        It counts in the current period, which is opened if nobody has done so.
        """
        row = await self._locked(quota_id)
        if row is None or (row.archived_at is not None and not ended_too):
            return None
        place: Mapping[str, Any] = {"id": row.id, "workspace_id": row.workspace_id}
        now, balance, entries = self._connection.now(), _stored(row), []
        current, resets = opened(balance, period_start(_every(row), now))
        for one, noted in (*((reset, None) for reset in resets), (change, note)):
            balance = balance.after(one)
            entries.append(entry_row(place, balance, one, now, note=noted))
        values = {"limit": balance.limit, "used": balance.used, "reserved": balance.reserved, "period": current.period}
        await self._connection.run(update(quotas).where(quotas.c.id == quota_id).values(**values, updated_at=now))
        await self._connection.run(insert(quota_entries), entries)
        return (await self.get_many([quota_id]))[quota_id]

    async def archive(self, quota_id: UUID, at: datetime) -> bool:
        """End a quota; tell whether it was live."""
        live = (quotas.c.id == quota_id, quotas.c.archived_at.is_(None))
        return await self._connection.run(update(quotas).where(*live).values(archived_at=at, updated_at=at)) == 1

    async def locked(self, quota_id: UUID) -> Quota | None:
        """Return a quota that nobody else changes before the transaction ends."""
        row = await self._locked(quota_id)
        return None if row is None else to_quota(row, self._connection.now())

    async def get_many(self, quota_ids: Sequence[UUID]) -> Mapping[UUID, Quota]:
        """Return those that exist, by id."""
        rows = await self._connection.rows(select(quotas).where(quotas.c.id.in_(quota_ids)))
        return {row.id: to_quota(row, self._connection.now()) for row in rows}

    async def of_workspace(self, workspace_id: UUID, *, include_archived: bool = False) -> Sequence[Quota]:
        """Return the quotas of a workspace with their balances as they are now, oldest first."""
        statement = select(quotas).where(within(quotas, workspace_id)).order_by(quotas.c.id)
        if not include_archived:
            statement = statement.where(quotas.c.archived_at.is_(None))
        return [to_quota(row, self._connection.now()) for row in await self._connection.rows(statement)]

    async def workspaces_without(self, provider: str, quota_type: QuotaType, *, limit: int) -> Sequence[UUID]:
        """Return workspaces that never had a quota of this provider and type."""
        had = select(quotas.c.workspace_id).where(quotas.c.provider == provider, quotas.c.type == quota_type.value)
        statement = select(workspaces.c.id).where(workspaces.c.id.not_in(had)).order_by(workspaces.c.id).limit(limit)
        return [row.id for row in await self._connection.rows(statement)]

    async def entries(self, workspace_id: UUID, quota_id: UUID, page: PageRequest) -> Slice[QuotaEntry]:
        """Return the changes of a quota, newest first."""
        conditions = [within(quota_entries, workspace_id), quota_entries.c.quota_id == quota_id]
        rows, has_next, has_previous, total = await paging.fetch(
            self._connection, quota_entries, conditions, page, newest_first=True
        )
        return Slice(items=[to_entry(row) for row in rows], has_next=has_next, has_previous=has_previous, total=total)

    async def entries_of(self, invocation_ids: Sequence[UUID]) -> Mapping[UUID, Sequence[QuotaEntry]]:
        """Return the changes that each of these calls has made, oldest first."""
        found: dict[UUID, list[QuotaEntry]] = {}
        columns = quota_entries.c
        for row in await self._connection.rows(
            select(quota_entries).where(columns.invocation_id.in_(invocation_ids)).order_by(columns.id)
        ):
            found.setdefault(row.invocation_id, []).append(to_entry(row))
        return found

    async def entries_by_id(self, entry_ids: Sequence[UUID]) -> Mapping[UUID, QuotaEntry]:
        """Return those that exist, by id."""
        rows = await self._connection.rows(select(quota_entries).where(quota_entries.c.id.in_(entry_ids)))
        return {row.id: to_entry(row) for row in rows}

    async def _locked(self, quota_id: UUID) -> Row[Any] | None:
        return await self._connection.row(select(quotas).where(quotas.c.id == quota_id).with_for_update())


async def out_of_balance(connection: Connection, *, window: int = 200_000) -> Sequence[UUID]:
    """Return the quotas whose limit, used or reserved is not the sum of its changes, added up a window at a time."""
    entries, sums = quota_entries.c, dict[UUID, tuple[int, int, int]]()
    added = (func.sum(entries.limit_change), func.sum(entries.used_change), func.sum(entries.reserved_change))
    async for part in paging.windows(connection, quota_entries, window):
        statement = select(entries.quota_id, *added).where(part).group_by(entries.quota_id)
        for quota_id, limits, uses, holds in map(tuple, await connection.rows(statement)):
            before = sums.get(quota_id, (0, 0, 0))
            sums[quota_id] = before[0] + int(limits), before[1] + int(uses), before[2] + int(holds)
    columns = quotas.c
    found = await connection.rows(select(columns.id, columns["limit"], columns.used, columns.reserved))
    return [row.id for row in found if not _is_sum(row, sums.get(row.id))]


def _is_sum(row: Row[Any], sums: tuple[int, int, int] | None) -> bool:
    """Tell whether a quota is what its changes come to; what has no limit has at least the entry of its beginning."""
    if sums is None:
        return False
    limit = sums[0] if row.limit is not None else None
    return (row.limit, row.used, row.reserved) == (limit, *sums[1:])


async def prune_holds(connection: Connection, before: datetime, *, limit: int) -> int:
    """Delete holds from before a time that have ended; return how many, at most `limit`.

    The ledger keeps what they came to.
    """
    return len(await take_ended(connection, quota_holds, before, limit=limit))


async def past_their_period(connection: Connection, *, limit: int) -> Sequence[UUID]:
    """Return live quotas whose rows are of a period that is over, at most `limit`."""
    columns, now = quotas.c, connection.now()
    over = [
        (columns.resets_every == every.value) & (columns.period < period_start(every, now))
        for every in (BudgetPeriod.DAY, BudgetPeriod.WEEK, BudgetPeriod.MONTH)
    ]
    statement = select(columns.id).where(columns.archived_at.is_(None), or_(*over)).order_by(columns.id)
    return [row.id for row in await connection.rows(statement.limit(limit))]


def entry_row(
    quota: Mapping[str, Any],
    balance: Balance,
    change: Change,
    now: datetime,
    *,
    hold_id: UUID | None = None,
    invocation_id: UUID | None = None,
    note: Note | None = None,
) -> dict[str, Any]:
    """Return the row of a change; `balance` is what it left."""
    return {
        "id": uuid7(),
        "quota_id": quota["id"],
        "workspace_id": quota["workspace_id"],
        "kind": change.kind.value,
        "limit_change": change.limit,
        "used_change": change.used,
        "reserved_change": change.reserved,
        "remaining": balance.room,
        "hold_id": hold_id,
        "invocation_id": invocation_id,
        "order_id": note.order_id if note is not None else None,
        "account_id": note.account_id if note is not None else None,
        "note": note.text if note is not None else None,
        "created_at": now,
        "updated_at": now,
    }


def to_quota(row: Row[Any], now: datetime) -> Quota:
    """Return the quota of a row as it is at a time: in a new period nothing is used yet. One that ended stays."""
    every, balance = _every(row), _stored(row)
    if row.archived_at is None:
        balance, _ = opened(balance, period_start(every, now))
    return Quota(
        id=row.id,
        workspace_id=row.workspace_id,
        provider=row.provider or None,
        type=QuotaType(row.type),
        unit=QuotaUnit(row.unit),
        limit=balance.limit,
        used=balance.used,
        reserved=balance.reserved,
        restricted_to=frozenset(row.restricted_to) if row.restricted_to is not None else None,
        resets_every=every,
        period=balance.period,
        archived_at=row.archived_at,
        created_at=row.created_at,
    )


def to_entry(row: Row[Any]) -> QuotaEntry:
    """Return the entry of a row."""
    return QuotaEntry(
        id=row.id,
        quota_id=row.quota_id,
        workspace_id=row.workspace_id,
        at=row.created_at,
        kind=EntryKind(row.kind),
        limit_change=row.limit_change,
        used_change=row.used_change,
        reserved_change=row.reserved_change,
        remaining=row.remaining,
        invocation_id=row.invocation_id,
        order_id=row.order_id,
        account_id=row.account_id,
        note=row.note,
    )


def _every(row: Row[Any]) -> BudgetPeriod | None:
    return BudgetPeriod(row.resets_every) if row.resets_every is not None else None


def _stored(row: Row[Any]) -> Balance:
    return Balance(limit=row.limit, used=row.used, reserved=row.reserved, period=row.period)

"""What calls used, added up by the hour: a row for all ended calls of an hour that are alike, and sums over the rows.

A call is in the sums once: the transaction that adds it to a row marks its record. What is not marked yet, and what
is asked for of a begun hour, is added from the records themselves.
"""

import asyncio
import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Float,
    ForeignKey,
    Index,
    LargeBinary,
    Row,
    Select,
    String,
    Subquery,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    bindparam,
    case,
    delete,
    func,
    literal,
    select,
    union_all,
    update,
)

from core.entities import InvocationStatus, UsageBucket, UsageDimension, UsageInterval, UsageKey
from core.ids import uuid7
from core.model_types import MOST, ModelType, Usage
from core.model_types.llm import Cost, ProviderType
from core.ports.usage import UsageQuery
from core.pricing import plain
from core.usage import hour_of
from storage.base import Json, UtcDateTime, id_column, metadata, times, within
from storage.connection import Connection
from storage.engine import Upsert, fraction, tag_value, truncated, whole
from storage.invocations import ENDED, NOT_ROLLED_UP, ROLLED_UP, admitted, invocations, matching, started

_SHARED = (
    "provider",
    "model_name",
    "model_type",
    "provider_type",
    "credential_id",
    "credential_name",
    "account_id",
    "token_id",
    "end_user",
    "tags",
    "status",
    "currency",
)
"""What the calls of a row have in common, by the names of the columns of `invocations`."""

_TOKENS = ("input_tokens", "output_tokens", "cached_input_tokens", "cache_write_tokens", "reasoning_tokens")
_COUNTED = (*_TOKENS, "characters", "seconds", "requests")
_MONEY = ("cost_whole", "cost_nanos", "cost_attos")
"""A cost as whole units, their billionths, and the billionths of those: exact to 18 decimals, added each alone."""
_SUMS = ("calls", "estimated", *_COUNTED, *_MONEY)

usage_rollups = Table(
    "usage_rollups",
    metadata,
    id_column(),
    Column("workspace_id", Uuid, ForeignKey("workspaces.id", ondelete="CASCADE"), nullable=False),
    Column("hour", UtcDateTime, nullable=False),
    Column("key", LargeBinary(32), nullable=False),
    Column("provider", String(64), nullable=False),
    Column("model_name", String(200), nullable=False),
    Column("model_type", String(16), nullable=False),
    Column("provider_type", String(16), nullable=False),
    Column("credential_id", Uuid),
    Column("credential_name", String(64)),
    Column("account_id", Uuid),
    Column("token_id", Uuid, nullable=False),
    Column("end_user", Text),
    Column("tags", Json(dict[str, str]), nullable=False),
    Column("status", String(16), nullable=False),
    Column("currency", String(3)),
    Column("calls", BigInteger, nullable=False),
    Column("estimated", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cached_input_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("characters", BigInteger, nullable=False),
    Column("seconds", Float(53), nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("cost_whole", BigInteger, nullable=False),
    Column("cost_nanos", BigInteger, nullable=False),
    Column("cost_attos", BigInteger, nullable=False),
    *times(),
    UniqueConstraint("workspace_id", "hour", "key"),
    Index(None, "hour"),
)

_ADD = Upsert(usage_rollups, key=("workspace_id", "hour", "key"), columns=("updated_at",), added=_SUMS)
_CLAIM = (
    select(
        *(invocations.c[name] for name in ("id", "workspace_id", "started_at", "estimated", "cost")),
        *(invocations.c[name] for name in (*_SHARED, *_COUNTED)),
    )
    .where(NOT_ROLLED_UP, ENDED)
    .limit(bindparam("limit", type_=BigInteger))
    .with_for_update(skip_locked=True)
)
_MARK = update(invocations).where(invocations.c.id.in_(bindparam("ids", expanding=True))).values(rolled_up=True)


# ---- adding up


async def roll_up(connection: Connection, *, limit: int) -> int:
    """Add ended calls that are in no sum to the rows of their hours, and mark them; return how many, at most `limit`.

    Workers that do it at once take different calls.
    """
    calls = await connection.rows(_CLAIM, {"limit": limit})
    if not calls:
        return 0
    await connection.run(_MARK, {"ids": [call.id for call in calls]})
    now = connection.now()
    rows = [{**row, "id": uuid7(), "created_at": now, "updated_at": now} for row in _alike(calls)]
    await connection.run(_ADD, rows)
    return len(calls)


async def prune(connection: Connection, before: datetime, *, limit: int) -> int:
    """Delete the sums of hours before a time; return how many rows, at most `limit`."""
    old = select(usage_rollups.c.id).where(usage_rollups.c.hour < before).limit(limit)
    return await connection.run(delete(usage_rollups).where(usage_rollups.c.id.in_(old)))


def _alike(calls: Iterable[Row[Any]]) -> list[dict[str, Any]]:
    """Return a row for all calls of an hour that are alike, in an order that is the same for every worker."""
    found: dict[tuple[UUID, datetime, bytes], dict[str, Any]] = {}
    for call in calls:
        place = (call.workspace_id, hour_of(call.started_at), _key(call))
        row = found.get(place)
        if row is None:
            shared = {name: getattr(call, name) for name in _SHARED}
            named = dict(zip(("workspace_id", "hour", "key"), place, strict=True))
            row = found[place] = {**named, **shared, **dict.fromkeys(_SUMS, 0), "seconds": 0.0}
        for name, amount in _amounts(call):
            row[name] += amount
    return [found[place] for place in sorted(found)]


def _key(call: Row[Any]) -> bytes:
    """Return what is the same for calls that are alike and for no others."""
    shared = [sorted(call.tags.items()) if name == "tags" else getattr(call, name) for name in _SHARED]
    return hashlib.sha256(msgspec.json.encode(shared)).digest()


def _amounts(call: Row[Any]) -> Iterable[tuple[str, float]]:
    yield "calls", 1
    yield "estimated", 1 if call.estimated else 0
    for name in _COUNTED:
        yield name, min(getattr(call, name) or 0, MOST)
    units, _, parts = (call.cost or "0").partition(".")
    parts = parts.ljust(18, "0")
    yield from zip(_MONEY, (min(int(units), MOST), int(parts[:9]), int(parts[9:18])), strict=True)


# ---- asking

_KEYS: dict[UsageDimension, tuple[str, ...]] = {
    UsageDimension.PROVIDER: ("provider",),
    UsageDimension.MODEL: ("model_name",),
    UsageDimension.TYPE: ("model_type",),
    UsageDimension.PROVIDER_TYPE: ("provider_type",),
    UsageDimension.CREDENTIAL: ("credential_id", "credential_name"),
    UsageDimension.ACCOUNT: ("account_id",),
    UsageDimension.TOKEN: ("token_id",),
    UsageDimension.END_USER: ("end_user",),
    UsageDimension.STATUS: ("status",),
    UsageDimension.TAG: ("tag_value",),
}
_FAILED = InvocationStatus.FAILED.value
_AT_ONCE = 50
"""How many buckets are made before others get their turn."""

_LENGTHS = {UsageInterval.HOUR: timedelta(hours=1), UsageInterval.DAY: timedelta(days=1)}


class SqlUsage:
    """What calls used, as one transaction sees it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def buckets(self, workspace_id: UUID, query: UsageQuery) -> Sequence[UsageBucket]:
        """Return the buckets that hold a call, by time, then by key."""
        found = await self._connection.rows(_grouped(self._connection.engine, workspace_id, query))
        buckets: dict[int, list[Row[Any]]] = {}
        for row in found:
            buckets.setdefault(row.place, []).append(row)
        made = []
        for number, rows in enumerate(buckets.values()):
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
            made.append(_bucket(rows, query))
        return made


def _grouped(engine: str, workspace_id: UUID, query: UsageQuery) -> Select[Any]:
    """Return the statement of a row for each bucket and currency, with the place of its bucket."""
    calls = _calls(engine, workspace_id, query)
    keys = [calls.c[name] for dimension in query.by for name in _KEYS[dimension]]
    if query.interval is not None:
        keys.insert(0, calls.c.at)
    order = [key.asc().nulls_first() for key in keys]
    place = func.dense_rank().over(order_by=order) if keys else literal(1)
    sums = [func.sum(calls.c[name]).label(name) for name in ("failures", *_SUMS)]
    grouped = select(*keys, calls.c.currency, place.label("place"), *sums).group_by(*keys, calls.c.currency).subquery()
    return select(grouped).where(grouped.c.place <= query.limit).order_by(grouped.c.place, grouped.c.currency)


def _calls(engine: str, workspace_id: UUID, query: UsageQuery) -> Subquery:
    """Return the rows that are to be added up: whole hours from the sums, the rest from the records."""
    begins, ends = _whole_hours(query)
    sums = (usage_rollups.c.hour >= begins, usage_rollups.c.hour < ends)
    records = _part(engine, workspace_id, query, invocations)
    return union_all(
        _part(engine, workspace_id, query, usage_rollups).where(*sums),
        records.where(NOT_ROLLED_UP, ENDED, *started(query.since, query.until)),
        *(records.where(ROLLED_UP, *admitted(since, until)) for since, until in _edges(query) if since < until),
    ).subquery("calls")


def _whole_hours(query: UsageQuery) -> tuple[datetime, datetime]:
    begins, ends = hour_of(query.since), hour_of(query.until)
    return (begins if begins == query.since else begins + timedelta(hours=1)), ends


def _edges(query: UsageQuery) -> Sequence[tuple[datetime, datetime]]:
    """Return the begun hours at both ends of the time that is asked for."""
    begins, ends = _whole_hours(query)
    if begins > ends:
        return [(query.since, query.until)]
    return [(query.since, begins), (ends, query.until)]


def _part(engine: str, workspace_id: UUID, query: UsageQuery, table: Table) -> Select[Any]:
    """Return what one table gives to the sums, both tables in the same columns."""
    columns = table.c
    amounts = _sums_of_rows() if table is usage_rollups else _sums_of_records(engine)
    keys: list[ColumnElement[Any]] = []
    if query.interval is not None:
        moment = columns.hour if table is usage_rollups else columns.started_at
        keys.append(truncated(engine, moment, query.interval.value.lower()).label("at"))
    for dimension in query.by:
        if dimension is UsageDimension.TAG:
            keys.append(tag_value(engine, columns.tags, query.tag).label("tag_value"))
        else:
            keys += [columns[name] for name in _KEYS[dimension]]
    failures = case((columns.status == _FAILED, amounts["calls"]), else_=0)
    sums = [failures.label("failures"), *(amounts[name].label(name) for name in _SUMS)]
    conditions = matching(engine, columns, query.calls)
    return select(*keys, columns.currency, *sums).where(within(table, workspace_id), *conditions)


def _sums_of_rows() -> dict[str, ColumnElement[Any]]:
    return {name: usage_rollups.c[name] for name in _SUMS}


def _sums_of_records(engine: str) -> dict[str, ColumnElement[Any]]:
    columns = invocations.c
    return {
        "calls": literal(1, BigInteger),
        "estimated": case((columns.estimated, 1), else_=0),
        **{name: func.coalesce(columns[name], 0) for name in _COUNTED},
        "cost_whole": whole(engine, func.coalesce(columns.cost, "0")),
        "cost_nanos": fraction(engine, func.coalesce(columns.cost, "0"), 1, 9),
        "cost_attos": fraction(engine, func.coalesce(columns.cost, "0"), 10, 9),
    }


def _bucket(rows: Sequence[Row[Any]], query: UsageQuery) -> UsageBucket:
    """Return the bucket that rows make, one for each currency and one for calls without a cost."""
    since, until = _span(rows[0].at, query) if query.interval is not None else (query.since, query.until)
    return UsageBucket(
        since=since,
        until=until,
        key=_key_of(rows[0], query.by),
        calls=_sum(rows, "calls"),
        failures=_sum(rows, "failures"),
        usage=Usage(
            **{name: _sum(rows, name) for name in _COUNTED if name != "seconds"},
            seconds=float(sum(row.seconds for row in rows)),
            estimated=_sum(rows, "estimated") > 0,
        ),
        costs=tuple(Cost(amount=_amount(row), currency=row.currency) for row in rows if row.currency is not None),
    )


def _span(at: datetime, query: UsageQuery) -> tuple[datetime, datetime]:
    """Return the part of an interval that was asked for."""
    if query.interval is UsageInterval.MONTH:
        end = (at.replace(day=28) + timedelta(days=4)).replace(day=1)
    else:
        assert query.interval is not None
        end = at + _LENGTHS[query.interval]
    return max(at, query.since), min(end, query.until)


def _key_of(row: Row[Any], by: Sequence[UsageDimension]) -> UsageKey:
    given = {name: getattr(row, name) for dimension in by for name in _KEYS[dimension]}
    return UsageKey(
        provider=given.get("provider"),
        model_name=given.get("model_name"),
        type=ModelType(given["model_type"]) if "model_type" in given else None,
        provider_type=ProviderType(given["provider_type"]) if "provider_type" in given else None,
        credential_id=given.get("credential_id"),
        credential_name=given.get("credential_name"),
        account_id=given.get("account_id"),
        token_id=given.get("token_id"),
        end_user=given.get("end_user"),
        status=InvocationStatus(given["status"]) if "status" in given else None,
        tag_value=given.get("tag_value"),
    )


def _sum(rows: Sequence[Row[Any]], name: str) -> int:
    if len(rows) == 1:
        return int(getattr(rows[0], name))
    return sum(int(getattr(row, name)) for row in rows)


def _amount(row: Row[Any]) -> str:
    units, nanos, attos = (int(getattr(row, name)) for name in _MONEY)
    total = (units * 10**9 + nanos) * 10**9 + attos
    return plain(Decimal(f"{total // 10**18}.{total % 10**18:018}"))

"""Records of calls and their attempts, as rows."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Float,
    ForeignKey,
    Index,
    Integer,
    Row,
    String,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    bindparam,
    delete,
    false,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from core.entities import Invocation, InvocationStatus
from core.errors import Problem
from core.ids import first_id, uuid7
from core.model_types import ModelKey, ModelType, Usage
from core.model_types.llm import Attempt, Cost, ProviderType
from core.ports.invocations import InvocationQuery
from core.ports.paging import PageRequest, Slice
from core.provider import Pricing
from storage import paging
from storage.base import Json, UtcDateTime, id_column, metadata, times, within
from storage.connection import Connection
from storage.engine import has_tag

# A record outlives what it names: only its workspace is a foreign key.
invocations = Table(
    "invocations",
    metadata,
    id_column(),
    Column("workspace_id", Uuid, ForeignKey("workspaces.id", ondelete="CASCADE"), nullable=False),
    Column("provider", String(64), nullable=False),
    Column("model_name", String(200), nullable=False),
    Column("model_type", String(16), nullable=False),
    Column("provider_type", String(16), nullable=False),
    Column("credential_id", Uuid),
    Column("credential_name", String(64)),
    Column("token_id", Uuid, nullable=False),
    Column("account_id", Uuid),
    Column("owner", Uuid, nullable=False),
    Column("status", String(16), nullable=False),
    Column("pricing", Json(Pricing)),
    Column("end_user", Text),
    Column("tags", Json(dict[str, str]), nullable=False),
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("cached_input_tokens", BigInteger),
    Column("cache_write_tokens", BigInteger),
    Column("reasoning_tokens", BigInteger),
    Column("characters", BigInteger),
    Column("seconds", Float(53)),
    Column("requests", BigInteger),
    Column("estimated", Boolean),
    Column("cost", String(64)),
    Column("currency", String(3)),
    Column("error", Json(Problem)),
    Column("started_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Column("time_to_first_token", Float(53)),
    Column("rolled_up", Boolean, nullable=False, server_default=false()),
    *times(),
    Index(None, "workspace_id", "id"),
    Index(
        "ix_invocations_running",
        "owner",
        sqlite_where=text("status = 'RUNNING'"),
        postgresql_where=text("status = 'RUNNING'"),
    ),
    Index(
        "ix_invocations_not_rolled_up",
        "workspace_id",
        sqlite_where=text("NOT rolled_up"),
        postgresql_where=text("NOT rolled_up"),
    ),
)

attempts = Table(
    "attempts",
    metadata,
    id_column(),
    Column("invocation_id", Uuid, ForeignKey("invocations.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("provider", String(64), nullable=False),
    Column("model_name", String(200), nullable=False),
    Column("model_type", String(16), nullable=False),
    Column("credential_id", Uuid),
    Column("credential_name", String(64)),
    Column("started_at", Float(53), nullable=False),
    Column("duration", Float(53)),
    Column("error", Json(Problem)),
    *times(),
    UniqueConstraint("invocation_id", "number"),
)

_RUNNING = InvocationStatus.RUNNING.value

# As the indexes have it, or SQLite does not use them.
STILL_RUNS, ENDED = text(f"status = '{_RUNNING}'"), text(f"status <> '{_RUNNING}'")
ROLLED_UP, NOT_ROLLED_UP = text("rolled_up"), text("NOT rolled_up")

_USAGE = (
    "input_tokens",
    "output_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "characters",
    "seconds",
    "requests",
    "estimated",
)
_AT_END = (
    "provider",
    "model_name",
    "model_type",
    "provider_type",
    "credential_id",
    "credential_name",
    "pricing",
    "status",
    *_USAGE,
    "cost",
    "currency",
    "error",
    "ended_at",
    "time_to_first_token",
    "updated_at",
)

INSERT = insert(invocations)
STILL_RUNNING = (
    select(invocations.c.id)
    .where(invocations.c.id.in_(bindparam("ids", expanding=True)), invocations.c.status == _RUNNING)
    .order_by(invocations.c.id)
    .with_for_update()
)
END = (
    update(invocations)
    .where(invocations.c.id == bindparam("invocation"), invocations.c.status == _RUNNING)
    .values({name: bindparam(name) for name in _AT_END})
)
# What it has produced so far; without `estimated`, which its end brings, it is no usage yet.
NOTE_OUTPUT = (
    update(invocations)
    .where(invocations.c.id == bindparam("invocation"), invocations.c.status == _RUNNING)
    .values(output_tokens=bindparam("tokens"))
)
_OF_MODEL = ("provider", "model_name", "model_type", "provider_type", "pricing", "updated_at")
OTHER_MODEL = (
    update(invocations)
    .where(invocations.c.id == bindparam("invocation"), invocations.c.status == _RUNNING)
    .values({name: bindparam(name) for name in _OF_MODEL})
)
INSERT_ATTEMPTS = insert(attempts)
_ATTEMPTS = (
    select(attempts)
    .where(attempts.c.invocation_id.in_(bindparam("ids", expanding=True)))
    .order_by(attempts.c.invocation_id, attempts.c.number)
)


async def prune(connection: Connection, before: datetime, *, limit: int) -> int:
    """Delete invocations that began before a time, ended and counted as usage; return how many, at most `limit`.

    The time is read off the id, which needs no index of its own.
    """
    old = select(invocations.c.id).where(invocations.c.id < first_id(before), ENDED, ROLLED_UP).limit(limit)
    return await connection.run(delete(invocations).where(invocations.c.id.in_(old)))


def to_row(invocation: Invocation) -> dict[str, Any]:
    """Return the parameters of INSERT."""
    return {
        "id": invocation.id,
        "workspace_id": invocation.workspace_id,
        "token_id": invocation.token_id,
        "account_id": invocation.account_id,
        "owner": invocation.owner,
        "end_user": invocation.end_user,
        "tags": dict(invocation.tags),
        "started_at": invocation.started_at,
        "created_at": invocation.started_at,
        **_changing(invocation),
    }


def to_end(invocation: Invocation) -> dict[str, Any]:
    """Return the parameters of END."""
    return {"invocation": invocation.id, **_changing(invocation)}


def to_other(invocation: Invocation) -> dict[str, Any]:
    """Return the parameters of OTHER_MODEL."""
    row = _changing(invocation)
    return {"invocation": invocation.id, **{name: row[name] for name in _OF_MODEL}}


def to_attempts(invocation: Invocation) -> list[dict[str, Any]]:
    """Return the parameters of INSERT_ATTEMPTS."""
    return [
        {
            "id": uuid7(),
            "invocation_id": invocation.id,
            "number": number,
            "provider": attempt.model.provider,
            "model_name": attempt.model.name,
            "model_type": attempt.model.type.value,
            "credential_id": UUID(attempt.credential_id) if attempt.credential_id else None,
            "credential_name": attempt.credential_name,
            "started_at": attempt.started_at,
            "duration": attempt.duration,
            "error": attempt.error,
            "created_at": invocation.started_at,
            "updated_at": invocation.ended_at or invocation.started_at,
        }
        for number, attempt in enumerate(invocation.attempts)
    ]


def _changing(invocation: Invocation) -> dict[str, Any]:
    usage, cost = invocation.usage, invocation.cost
    counted = {name: getattr(usage, name) for name in _USAGE} if usage is not None else dict.fromkeys(_USAGE)
    return {
        "provider": invocation.model.provider,
        "model_name": invocation.model.name,
        "model_type": invocation.model.type.value,
        "provider_type": invocation.provider_type.value,
        "credential_id": invocation.credential_id,
        "credential_name": invocation.credential_name,
        "pricing": invocation.pricing,
        "status": invocation.status.value,
        **counted,
        "cost": cost.amount if cost is not None else None,
        "currency": cost.currency if cost is not None else None,
        "error": invocation.error,
        "ended_at": invocation.ended_at,
        "time_to_first_token": invocation.time_to_first_token,
        "updated_at": invocation.ended_at or invocation.started_at,
    }


class SqlInvocations:
    """The records of calls as one transaction sees them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def get_many(self, workspace_ids: Sequence[UUID], ids: Sequence[UUID]) -> Mapping[UUID, Invocation]:
        """Return those that exist in these workspaces, by id."""
        of_these = invocations.c.workspace_id.in_(workspace_ids)
        rows = await self._connection.rows(select(invocations).where(of_these, invocations.c.id.in_(ids)))
        return {invocation.id: invocation for invocation in await self._whole(rows)}

    async def page(self, workspace_id: UUID, page: PageRequest, query: InvocationQuery) -> Slice[Invocation]:
        """Return invocations, newest first."""
        conditions = [
            within(invocations, workspace_id),
            *matching(self._connection.engine, invocations.c, query),
            *admitted(query.since, query.until),
        ]
        rows, has_next, has_previous, total = await paging.fetch(
            self._connection, invocations, conditions, page, newest_first=True
        )
        return Slice(items=await self._whole(rows), has_next=has_next, has_previous=has_previous, total=total)

    async def _whole(self, rows: Sequence[Row[Any]]) -> list[Invocation]:
        """Return the invocations of rows, with their attempts."""
        tries: dict[UUID, list[Attempt]] = {row.id: [] for row in rows}
        if rows:
            for attempt in await self._connection.rows(_ATTEMPTS, {"ids": list(tries)}):
                tries[attempt.invocation_id].append(_attempt(attempt))
        return [_invocation(row, tuple(tries[row.id])) for row in rows]


def matching(
    engine: str, columns: ReadOnlyColumnCollection[str, Column[Any]], query: InvocationQuery
) -> list[ColumnElement[bool]]:
    """Return what a query asks of calls but for their time, of any table that has these columns."""
    equal = {
        columns.provider: query.provider,
        columns.model_name: query.model_name,
        columns.model_type: query.type,
        columns.provider_type: query.provider_type,
        columns.credential_id: query.credential_id,
        columns.account_id: query.account_id,
        columns.token_id: query.token_id,
        columns.end_user: query.end_user,
    }
    found: list[ColumnElement[bool]] = [column == value for column, value in equal.items() if value is not None]
    if query.principal is not None:
        own = columns.account_id.is_(None) & (columns.token_id == query.principal)
        found.append((columns.account_id == query.principal) | own)
    if query.status is not None:
        found.append(columns.status.in_(query.status))
    found += [has_tag(engine, columns.tags, name, value) for name, value in (query.tags or {}).items()]
    return found


def admitted(since: datetime | None, until: datetime | None) -> list[ColumnElement[bool]]:
    """Return that a call was admitted in a time; ids, which carry theirs in milliseconds, bound it by an index."""
    found = started(since, until)
    if since is not None:
        found.append(invocations.c.id >= first_id(since))
    if until is not None:
        found.append(invocations.c.id < first_id(until + timedelta(milliseconds=1)))
    return found


def started(since: datetime | None, until: datetime | None) -> list[ColumnElement[bool]]:
    """Return that a call was admitted in a time, for calls that another index finds."""
    column = invocations.c.started_at
    from_then = [column >= since] if since is not None else []
    return [*from_then, column < until] if until is not None else from_then


def _invocation(row: Row[Any], tries: tuple[Attempt, ...]) -> Invocation:
    return Invocation(
        id=row.id,
        workspace_id=row.workspace_id,
        model=_model(row),
        provider_type=ProviderType(row.provider_type),
        credential_id=row.credential_id,
        credential_name=row.credential_name,
        token_id=row.token_id,
        account_id=row.account_id,
        owner=row.owner,
        started_at=row.started_at,
        status=InvocationStatus(row.status),
        pricing=row.pricing,
        end_user=row.end_user,
        tags=row.tags,
        usage=None if row.estimated is None else Usage(**{name: getattr(row, name) for name in _USAGE}),
        cost=None if row.cost is None else Cost(amount=row.cost, currency=row.currency),
        attempts=tries,
        error=row.error,
        ended_at=row.ended_at,
        time_to_first_token=row.time_to_first_token,
    )


def _attempt(row: Row[Any]) -> Attempt:
    return Attempt(
        model=_model(row),
        credential_id=str(row.credential_id) if row.credential_id else None,
        credential_name=row.credential_name,
        started_at=row.started_at,
        duration=row.duration,
        error=row.error,
    )


def _model(row: Row[Any]) -> ModelKey:
    return ModelKey(provider=row.provider, name=row.model_name, type=ModelType(row.model_type))

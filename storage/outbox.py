"""Jobs that follow a commit, as rows: written with the change, relayed, claimed under a lease, finished."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Index,
    Integer,
    String,
    Table,
    Text,
    bindparam,
    delete,
    literal_column,
    select,
    update,
)

from core.ids import uuid7
from core.jobs import Job
from storage.base import UtcDateTime, id_column, metadata, times
from storage.connection import Connection
from storage.engine import Upsert

WAITING, RUNNING, DONE, FAILED = "WAITING", "RUNNING", "DONE", "FAILED"
RELAY_AGAIN = timedelta(seconds=30)
"""How long a relayed job may wait for a worker before it is put into the queue again, in case the queue lost it."""

_WAITS = literal_column("state = 'WAITING'", Boolean)

# `lease_until` is the end of a run's lease and, between tries, the time of the next. `fence` numbers the runs: who
# writes names the number of theirs. Of one key at most one row waits; a further one may while the first is at work.
outbox = Table(
    "outbox",
    metadata,
    id_column(),
    Column("name", String(64), nullable=False),
    Column("key", String(200), nullable=False),
    Column("payload", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("fence", Integer, nullable=False),
    Column("lease_until", UtcDateTime),
    Column("queued_at", UtcDateTime),
    *times(),
    Index("uq_outbox_waiting", "name", "key", unique=True, sqlite_where=_WAITS, postgresql_where=_WAITS),
    Index(None, "state", "id"),
)

_ADD = Upsert(outbox, key=("name", "key"), where=_WAITS)


class SqlOutbox:
    """The jobs of one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def add(self, job: Job) -> None:
        """Write the job with the transaction, unless one of its key waits already; it is relayed after the commit."""
        now = self._connection.now()
        await self._connection.run(
            _ADD,
            {
                "id": uuid7(),
                "name": job.name,
                "key": job.key,
                "payload": msgspec.json.encode(job).decode(),
                "state": WAITING,
                "fence": 0,
                "created_at": now,
                "updated_at": now,
            },
        )
        self._connection.has_jobs = True


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """A job that is to be put into the queue. `run` is the number that its next run will have."""

    id: UUID
    name: str
    run: int


async def due(connection: Connection, *, limit: int) -> list[Due]:
    """Return the jobs to relay, oldest first: never relayed, not picked up for long, or with a lease that ran out."""
    now = connection.now()
    statement = select(outbox.c.id, outbox.c.name, outbox.c.fence).where(_is_due(now)).order_by(outbox.c.id)
    rows = await connection.rows(statement.limit(limit))
    return [Due(id=row.id, name=row.name, run=row.fence + 1) for row in rows]


async def mark_queued(connection: Connection, jobs: list[Due]) -> None:
    """Write down that jobs were put into the queue now, but for those that a worker has claimed meanwhile."""
    same_run = (outbox.c.id == bindparam("job"), outbox.c.fence == bindparam("before"))
    statement = update(outbox).where(*same_run).values(queued_at=connection.now())
    await connection.run(statement, [{"job": job.id, "before": job.run - 1} for job in jobs])


async def prune_finished(connection: Connection, before: datetime, *, limit: int) -> int:
    """Delete jobs that ended before a time; return how many, at most `limit`."""
    old = select(outbox.c.id).where(outbox.c.state.in_((DONE, FAILED)), outbox.c.updated_at < before).limit(limit)
    return await connection.run(delete(outbox).where(outbox.c.id.in_(old)))


def _is_due(now: datetime) -> ColumnElement[bool]:
    columns: Any = outbox.c
    never_queued = columns.queued_at.is_(None)
    long_ago = columns.queued_at < now - RELAY_AGAIN
    waits = (columns.state == WAITING) & (never_queued | long_ago)
    ran_out = (columns.state == RUNNING) & (columns.lease_until < now)
    not_since = never_queued | (columns.queued_at < columns.lease_until) | long_ago
    is_due: ColumnElement[bool] = waits | (ran_out & not_since)
    return is_due

"""The processes of the installation and their leases: who is alive, and what the dead left behind."""

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import (
    Column,
    ColumnElement,
    Index,
    Select,
    String,
    Table,
    bindparam,
    delete,
    insert,
    literal,
    or_,
    select,
    update,
)

from core.entities import InvocationStatus, QuotaUnit
from core.errors import ErrorCode, Problem
from core.ports.health import WorkerHealth
from storage.base import Json, UtcDateTime, id_column, metadata, times
from storage.budgets import budget_holds
from storage.connection import Connection
from storage.holds import HELD
from storage.invocations import STILL_RUNS, invocations
from storage.quotas import quota_holds, quotas

API, WORKER = "api", "worker"
LEASE = timedelta(seconds=15)
RENEW_S = 5.0
DEAD_AFTER = timedelta(seconds=30)
"""How long after the end of its lease a process is taken for dead."""


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker tells of its jobs."""

    queued: int = 0
    ongoing: int = 0
    complete: int = 0
    failed: int = 0
    retried: int = 0


processes = Table(
    "processes",
    metadata,
    id_column(),
    Column("kind", String(16), nullable=False),
    Column("name", String(200), nullable=False),
    Column("lease_until", UtcDateTime, nullable=False),
    Column("counts", Json(Counts), nullable=False),
    *times(),
    Index(None, "kind", "lease_until"),
)


async def register(connection: Connection, process_id: UUID, kind: str) -> None:
    """Make a process known, with its first lease."""
    now = connection.now()
    await connection.run(
        insert(processes).values(
            id=process_id,
            kind=kind,
            name=f"{socket.gethostname()}:{os.getpid()}",
            lease_until=now + LEASE,
            counts=Counts(),
            created_at=now,
            updated_at=now,
        )
    )


async def renew(connection: Connection, process_id: UUID, counts: Counts) -> bool:
    """Prolong the lease of a process; tell whether it is still known."""
    now = connection.now()
    changes = {"lease_until": now + LEASE, "counts": counts, "updated_at": now}
    return await connection.run(update(processes).where(processes.c.id == process_id).values(**changes)) > 0


async def leave(connection: Connection, process_id: UUID) -> None:
    """End the lease of a process that stops."""
    await connection.run(delete(processes).where(processes.c.id == process_id))


async def workers(connection: Connection) -> Sequence[WorkerHealth]:
    """Return the workers that are alive, oldest first."""
    alive = select(processes).where(processes.c.kind == WORKER, processes.c.lease_until > connection.now() - DEAD_AFTER)
    return [
        WorkerHealth(
            name=row.name,
            last_seen_at=row.updated_at,
            queued=row.counts.queued,
            ongoing=row.counts.ongoing,
            complete=row.counts.complete,
            failed=row.counts.failed,
            retried=row.counts.retried,
        )
        for row in await connection.rows(alive.order_by(processes.c.id))
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadCall:
    """A call of a dead process that holds something; `noted` are the tokens that it produced while Redis was away."""

    id: UUID
    workspace_id: UUID
    noted: int
    holds: "Sequence[DeadHold]"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadHold:
    """What the call of a dead process holds: of a quota, or (`unit` None) in attos of a budget."""

    id: UUID
    unit: QuotaUnit | None
    amount: int
    input_tokens: int


LEFT_BEHIND = Problem(
    code=ErrorCode.SERVER_UNAVAILABLE,
    message="The server process that ran this call has died.",
    retryable=True,
)


async def fail_left_behind(connection: Connection, *, limit: int) -> int:
    """End the running invocations of dead processes that hold nothing as FAILED; return how many, at most `limit`."""
    # Locked, so that none begins to hold meanwhile: its owner may live after all, and locks its calls by their ids.
    order = (invocations.c.owner, invocations.c.id)
    orphans = _left_behind(connection.now()).where(~_holding()).order_by(*order).limit(limit).with_for_update()
    ids = [row.id for row in await connection.rows(orphans)]
    if not ids:
        return 0
    now = connection.now()
    end: Mapping[str, object] = {
        "status": InvocationStatus.FAILED.value,
        "error": LEFT_BEHIND,
        "ended_at": now,
        "updated_at": now,
    }
    these = (invocations.c.id.in_(bindparam("ids", expanding=True)), STILL_RUNS, ~_holding())
    return await connection.run(update(invocations).where(*these).values(**end), {"ids": ids})


async def holding_left_behind(connection: Connection, *, limit: int) -> Sequence[DeadCall]:
    """Return the calls of dead processes that hold something."""
    columns, holds = invocations.c, quota_holds.c
    orphans = _left_behind(connection.now()).add_columns(columns.workspace_id, columns.output_tokens).where(_holding())
    found = await connection.rows(orphans.limit(limit))
    held: dict[UUID, list[DeadHold]] = {row.id: [] for row in found}
    if held:
        for row in await connection.rows(
            select(quota_holds, quotas.c.unit)
            .join(quotas, quotas.c.id == holds.quota_id)
            .where(holds.invocation_id.in_(list(held)), holds.state == HELD)
            .order_by(holds.id)
        ):
            held[row.invocation_id].append(
                DeadHold(id=row.id, unit=QuotaUnit(row.unit), amount=row.amount, input_tokens=row.input_tokens)
            )
        of_budgets = select(budget_holds).where(
            budget_holds.c.invocation_id.in_(list(held)), budget_holds.c.state == HELD
        )
        for row in await connection.rows(of_budgets.order_by(budget_holds.c.id)):
            held[row.invocation_id].append(
                DeadHold(id=row.id, unit=None, amount=row.amount, input_tokens=row.input_tokens)
            )
    return [
        DeadCall(id=row.id, workspace_id=row.workspace_id, noted=row.output_tokens or 0, holds=held[row.id])
        for row in found
    ]


def _left_behind(now: datetime) -> Select[Any]:
    """Select the running invocations of dead processes.

    An invocation whose process is not known at all counts once it is older than a lease can be.
    """
    columns = invocations.c
    alive = select(processes.c.id).where(processes.c.lease_until > now - DEAD_AFTER)
    return select(columns.id).where(
        STILL_RUNS,
        columns.owner.not_in(alive),
        columns.started_at < now - LEASE - DEAD_AFTER,
    )


def _holding() -> ColumnElement[bool]:
    return or_(
        *(
            select(literal(1))
            .where(holds.c.invocation_id == invocations.c.id, holds.c.state == HELD)
            .correlate(invocations)
            .exists()
            for holds in (quota_holds, budget_holds)
        )
    )


async def forget_dead(connection: Connection, before: datetime) -> int:
    """Delete processes whose lease ended before a time; return how many."""
    return await connection.run(delete(processes).where(processes.c.lease_until < before))

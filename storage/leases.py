"""Leases with fencing on the jobs of the outbox: one run at a time, and only its holder writes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import msgspec
from sqlalchemy import update

from core.jobs import JOBS, Job
from storage.connection import Connection
from storage.outbox import DONE, FAILED, RUNNING, WAITING, outbox
from storage.transaction import SqlStorage

LEASE_S = 30.0
HEARTBEAT_S = 10.0
MAX_RUNS = 8
_PAUSES_S = (5, 15, 60, 300, 900)

_CLASSES = {job.name: job for job in JOBS}


class LeaseLost(Exception):
    """Somebody else runs the job by now: whoever gets this stops without writing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A run of a job. `fence` numbers it."""

    job_id: UUID
    fence: int
    job: Job


async def claim(storage: SqlStorage, job_id: UUID) -> Lease | None:
    """Claim a job that waits, or whose lease has run out; None where there is nothing to claim."""
    async with storage.connect() as connection:
        now = connection.now()
        columns = outbox.c
        free = (columns.state == WAITING) | ((columns.state == RUNNING) & (columns.lease_until < now))
        row = await connection.row(
            update(outbox)
            .where(columns.id == job_id, columns.name.in_(_CLASSES), free)
            .values(
                state=RUNNING,
                fence=columns.fence + 1,
                lease_until=now + timedelta(seconds=LEASE_S),
                updated_at=now,
            )
            .returning(columns.name, columns.payload, columns.fence)
        )
    if row is None:
        return None
    return Lease(job_id=job_id, fence=row.fence, job=msgspec.json.decode(row.payload, type=_CLASSES[row.name]))


async def hold(connection: Connection, lease: Lease, *, seconds: float = LEASE_S) -> None:
    """Prolong the lease within a transaction, so that its holder writes. LeaseLost if another holds it."""
    now = connection.now()
    await _write(connection, lease, lease_until=now + timedelta(seconds=seconds), updated_at=now)


async def finish(storage: SqlStorage, lease: Lease) -> None:
    """End the job. LeaseLost if another holds it."""
    async with storage.connect() as connection:
        await _write(connection, lease, state=DONE, lease_until=None, updated_at=connection.now())


async def give_back(storage: SqlStorage, lease: Lease, *, failed: bool) -> None:
    """Let the job be tried again, at once or, after a failure, later; after many failures it stays FAILED."""
    async with storage.connect() as connection:
        now = connection.now()
        if failed and lease.fence >= MAX_RUNS:
            await _write(connection, lease, state=FAILED, lease_until=None, updated_at=now)
            return
        pause = _PAUSES_S[min(lease.fence, len(_PAUSES_S)) - 1] if failed else 0
        await _write(connection, lease, lease_until=now + timedelta(seconds=pause), queued_at=None, updated_at=now)


@asynccontextmanager
async def held(storage: SqlStorage, lease: Lease, *, every: float = HEARTBEAT_S) -> AsyncIterator[None]:
    """Prolong the lease while the block runs; the block is cancelled, and LeaseLost raised, when it is lost."""
    lost = False
    body = asyncio.current_task()
    assert body is not None

    async def beat() -> None:
        nonlocal lost
        missed = 0.0
        while True:
            await asyncio.sleep(every)
            try:
                async with storage.connect() as connection:
                    await hold(connection, lease)
                missed = 0.0
            except LeaseLost:
                missed = LEASE_S
            except Exception:
                missed += every
            if missed >= LEASE_S:
                lost = True
                body.cancel()
                return

    heart = asyncio.create_task(beat())
    try:
        yield
    except asyncio.CancelledError:
        if lost and body.uncancel() == 0:
            raise LeaseLost from None
        raise
    finally:
        heart.cancel()
        await asyncio.wait([heart])


async def _write(connection: Connection, lease: Lease, **values: object) -> None:
    mine = (outbox.c.id == lease.job_id, outbox.c.state == RUNNING, outbox.c.fence == lease.fence)
    if not await connection.run(update(outbox).where(*mine).values(**values)):
        raise LeaseLost

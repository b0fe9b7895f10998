"""Runs one job of the outbox: claimed, held while it works, finished or given back."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from core.app import App
from storage import leases
from storage.leases import Lease, LeaseLost
from storage.resources import Resources

log = logging.getLogger(__name__)


async def perform(resources: Resources, job_id: UUID, work: Callable[[App, Any], Awaitable[None]]) -> bool:
    """Run `work` on a job if nobody else does; tell whether it was done.

    A failure gives the job back for a later try, a cancellation for one at once. Nothing but a cancellation is raised
    once the job is claimed: what becomes of it stands in its row.
    """
    lease = await leases.claim(resources.storage, job_id)
    if lease is None:
        return False
    try:
        async with leases.held(resources.storage, lease):
            await work(resources.app, lease.job)
        await leases.finish(resources.storage, lease)
    except LeaseLost:
        log.warning("%s %s is run by another worker by now", lease.job.name, job_id)
    except asyncio.CancelledError:
        await asyncio.shield(_give_back(resources, lease, failed=False))
        raise
    except Exception:
        log.exception("%s %s failed in run %d", lease.job.name, job_id, lease.fence)
        await _give_back(resources, lease, failed=True)
    else:
        return True
    return False


async def _give_back(resources: Resources, lease: Lease, *, failed: bool) -> None:
    """Give the job back; where that fails too, its lease runs out and the relay finds it."""
    try:
        await leases.give_back(resources.storage, lease, failed=failed)
    except LeaseLost:
        log.warning("%s %s is run by another worker by now", lease.job.name, lease.job_id)
    except Exception as error:
        log.warning("%s %s stays claimed until its lease runs out: %s", lease.job.name, lease.job_id, error)

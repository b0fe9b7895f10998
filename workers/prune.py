"""Deletes what is past its time: calls, holds and usage (by settings), invitations, jobs, payment events, processes."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

from storage import budgets, invitations, invocations, once, outbox, payment_events, processes, quotas, usage
from storage.connection import Connection
from storage.resources import Resources

KEEP_HOLDS = timedelta(days=30)
"""How long holds are kept at the least: so long may an owner that was taken for dead come back and correct them."""

KEEP_INVITATIONS = timedelta(days=30)
KEEP_JOBS = timedelta(days=7)
KEEP_PAYMENT_EVENTS = timedelta(days=90)
KEEP_PROCESSES = timedelta(days=1)
_GROUP = 1000


async def prune(resources: Resources) -> int:
    """Delete in small transactions, so that others can write in between; return how many rows."""
    now = resources.app.clock.now()
    past = now - timedelta(days=resources.app.settings.retention_days)
    long_past = now - timedelta(days=resources.app.settings.usage_retention_days)
    pruned = await _in_groups(resources, lambda found: invocations.prune(found, past, limit=_GROUP))
    settled = min(past, now - KEEP_HOLDS)
    pruned += await _in_groups(resources, lambda found: quotas.prune_holds(found, settled, limit=_GROUP))
    pruned += await _in_groups(resources, lambda found: budgets.prune_holds(found, settled, limit=_GROUP))
    pruned += await _in_groups(resources, lambda found: usage.prune(found, long_past, limit=_GROUP))
    pruned += await _in_groups(resources, lambda found: outbox.prune_finished(found, now - KEEP_JOBS, limit=_GROUP))
    told = now - KEEP_PAYMENT_EVENTS
    pruned += await _in_groups(resources, lambda found: payment_events.prune(found, told, limit=_GROUP))
    pruned += await _in_groups(resources, lambda found: once.prune(found, limit=_GROUP))
    async with resources.storage.connect() as connection:
        pruned += await invitations.prune(connection, now - KEEP_INVITATIONS)
        return pruned + await processes.forget_dead(connection, now - KEEP_PROCESSES)


async def _in_groups(resources: Resources, delete: Callable[[Connection], Awaitable[int]]) -> int:
    deleted = 0
    while True:
        async with resources.storage.connect() as connection:
            found = await delete(connection)
        deleted += found
        if found < _GROUP:
            return deleted

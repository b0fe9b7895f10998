"""Puts jobs into the queue that no process has put there, or that the queue has lost."""

from storage.resources import Resources


async def relay_outbox(resources: Resources) -> int:
    """Relay every job that is due; return how many."""
    return await resources.relay.sweep()

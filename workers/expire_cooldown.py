"""Tells whoever follows pools that rests are over; picking does not wait for it."""

from core.changes import Change, Noun
from storage.resources import Resources


async def expire_cooldown(resources: Resources) -> int:
    """Tell of every rest whose deadline has passed since the last time; return how many."""
    app = resources.app
    over = await app.pools.over()
    for workspace_id, pool_id in over:
        change = Change(workspace_id=workspace_id, noun=Noun.POOL, key=str(pool_id))
        await app.changes.publish(change.channel, change.to_message())
    return len(over)

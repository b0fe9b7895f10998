"""Has each provider's own list of models read again, a day after it was last read."""

from datetime import timedelta

from core.jobs import RefreshModels
from core.listing import lists_models
from storage.providers import stale
from storage.resources import Resources

EVERY = timedelta(days=1)
_GROUP = 200


async def refresh_lists(resources: Resources) -> int:
    """Write the refreshes that are due, in small transactions; return how many. One that waits is not doubled."""
    since = resources.app.clock.now() - EVERY
    names = [name for name, provider in resources.app.catalog.providers.items() if lists_models(provider)]
    asked, last = 0, None
    while True:
        async with resources.storage.transaction() as tx:
            found = await stale(tx.connection, names, since, after=last, limit=_GROUP)
            for one in found:
                await tx.outbox.add(RefreshModels(workspace_id=one.workspace_id, provider=one.name))
        asked += len(found)
        if len(found) < _GROUP:
            return asked
        last = found[-1].id

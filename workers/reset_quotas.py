"""Opens the current period of quotas whose period is over, so that their rows and followers show it.

Holding opens it too: what a call may use never depends on this.
"""

from storage.quotas import past_their_period
from storage.resources import Resources

_GROUP = 100


async def reset_quotas(resources: Resources) -> int:
    """Open the periods in small transactions; return how many."""
    opened = 0
    while True:
        async with resources.storage.connect() as connection:
            due = await past_their_period(connection, limit=_GROUP)
        opened += await resources.log.open_periods(due) if due else 0
        if len(due) < _GROUP:
            return opened

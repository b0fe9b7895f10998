"""Books settlements that their owners could not, because the database was away when they ended, or as they died."""

from core.settling import book
from storage.resources import Resources


async def settle_invocation(resources: Resources) -> int:
    """Book what waits, and forget it; return how many. An owner that lives may do the same: only one of them counts."""
    booked = 0
    for settlement in await resources.unsettled.all():
        if await book(resources.app, settlement):
            await resources.unsettled.remove(settlement)
            booked += 1
    return booked

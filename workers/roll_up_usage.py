"""Adds ended calls to the sums of usage."""

from storage import usage
from storage.resources import Resources

_GROUP = 200


async def roll_up_usage(resources: Resources) -> int:
    """Add up in small transactions, so that others can write in between; return how many calls."""
    counted = 0
    while True:
        async with resources.storage.connect() as connection:
            found = await usage.roll_up(connection, limit=_GROUP)
        counted += found
        if found < _GROUP:
            return counted

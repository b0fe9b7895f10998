"""Ends the calls that dead processes have left running."""

from storage import processes
from storage.resources import Resources

_GROUP = 500


async def sweep_invocations(resources: Resources) -> int:
    """End the running invocations of processes without a lease as FAILED; return how many."""
    swept = 0
    while True:
        async with resources.storage.connect() as connection:
            found = await processes.fail_left_behind(connection, limit=_GROUP)
        swept += found
        if found < _GROUP:
            return swept

"""Wraps the data keys of workspaces by the current key-encryption key."""

import logging

from storage import keys
from storage.resources import Resources

log = logging.getLogger(__name__)

_GROUP = 200


async def rewrap_keys(resources: Resources) -> int:
    """Wrap anew what other key-encryption keys wrap, group by group; return how many keys were left as they are."""
    after, left = None, 0
    while True:
        async with resources.storage.connect() as connection:
            after, unreadable = await keys.rewrap(connection, resources.cipher, after, limit=_GROUP)
        left += unreadable
        if after is None:
            break
    if left:
        log.error(
            "%d data keys are wrapped by a key-encryption key that is not at hand: add it to MODELYARD_ENCRYPTION_KEYS",
            left,
        )
    return left

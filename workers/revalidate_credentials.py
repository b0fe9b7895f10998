"""Has each credential asked about again, a day after its provider last answered."""

from datetime import timedelta

from core.jobs import ValidateCredential
from storage.credentials import unasked
from storage.resources import Resources

EVERY = timedelta(days=1)
_GROUP = 200


async def revalidate_credentials(resources: Resources) -> int:
    """Write the validations that are due, in small transactions; return how many. One that waits is not doubled."""
    since = resources.app.clock.now() - EVERY
    asked, last = 0, None
    while True:
        async with resources.storage.transaction() as tx:
            found = await unasked(tx.connection, since, after=last, limit=_GROUP)
            for one in found:
                await tx.outbox.add(
                    ValidateCredential(
                        workspace_id=one.workspace_id, credential_id=one.credential_id, version=one.version
                    )
                )
        asked += len(found)
        if len(found) < _GROUP:
            return asked
        last = found[-1].credential_id

"""Tells whoever follows pools that rests are over, and validates again what waits for it; picking waits for neither."""

from contextlib import suppress

from core.app import App
from core.entities import CredentialStatus
from core.errors import NotFound
from core.live import tell_of_pools
from core.ports.pool_state import Due
from core.validation import validate_soon
from storage.resources import Resources


async def expire_cooldown(resources: Resources) -> int:
    """Look at every rest that became due since the last time; return how many."""
    app = resources.app
    found = await app.pools.due()
    for due in found:
        with suppress(NotFound):  # its workspace has been deleted: the others are not told of again
            await _tell(app, due)
    return len(found)


async def _tell(app: App, due: Due) -> None:
    if due.waits:
        await _validate_again(app, due)
    else:
        await tell_of_pools(app, due.workspace_id, due.credential_id)


async def _validate_again(app: App, due: Due) -> None:
    """Ask again whether a credential works of which nothing was decided; one found INVALID waits for people."""
    async with app.storage.read() as tx:
        credential = await tx.credentials.get(due.workspace_id, due.credential_id)
    if credential is None or credential.status is CredentialStatus.INVALID:
        await app.pools.forget(due)
    else:
        await validate_soon(app, credential)

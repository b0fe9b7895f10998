"""Use cases of a workspace's data key: change it, and seal everything anew while calls go on."""

import logging
from uuid import UUID

from core.access import Permission, Viewer, require
from core.app import App
from core.audit import changes
from core.entities import Credential, Workspace
from core.errors import CredentialUnreadable, NotFound
from core.jobs import RotateWorkspaceKey
from core.provider import Values

log = logging.getLogger(__name__)

_GROUP = 50
"""How many credentials are sealed anew in one transaction, in which other changes of the workspace wait."""


async def rotate_workspace_key(app: App, viewer: Viewer, workspace_id: UUID) -> Workspace:
    """Begin to seal a workspace's credentials by a new data key; return the workspace.

    What is written from now on is sealed by it, and a worker seals the rest. A rotation that is under way is joined.

    Raises:
        NotFound: there is no such workspace of the viewer's.
        Forbidden: the viewer may not manage it.
    """
    if not viewer.sees(workspace_id):
        raise _gone()
    require(viewer, workspace_id, Permission.WORKSPACE_MANAGE)
    async with app.storage.transaction() as tx:
        await tx.workspaces.touch(workspace_id)
        running = (await tx.keys.rotations([workspace_id])).get(workspace_id)
        if running is None or running.finished_at is not None:
            before = (await tx.workspaces.get_many([workspace_id]))[workspace_id].key_version
            await tx.keys.begin_rotation(workspace_id)
            await tx.audit.add(
                workspace_id=workspace_id,
                viewer=viewer,
                action="workspace.rotate_key",
                subject=f"Workspace:{workspace_id}",
                summary="Began to seal the credentials by a new key",
                changes=changes(keyVersion=(before, before + 1)),
            )
        await tx.outbox.add(RotateWorkspaceKey(workspace_id=workspace_id))
        found = (await tx.workspaces.get_many([workspace_id])).get(workspace_id)
    if found is None:
        raise _gone()
    return found


async def seal_anew(app: App, workspace_id: UUID) -> None:
    """Seal what older keys of a workspace seal by its newest one, then destroy them. Run twice, it does no harm.

    A credential that cannot be opened stays as it is, and so does its key. A workspace that is gone needs nothing.
    """
    after: UUID | None = None
    try:
        while (last := await _seal_group(app, workspace_id, after)) is not None:
            after = last
    except NotFound:
        log.info("workspace %s was deleted: it has no key to rotate", workspace_id)


async def _seal_group(app: App, workspace_id: UUID, after: UUID | None) -> UUID | None:
    """Seal the next credentials anew and return the last of them; None where there was no more, and all is done."""
    async with app.storage.transaction() as tx:
        await tx.workspaces.touch(workspace_id)
        found = await tx.keys.outdated(workspace_id, after, limit=_GROUP)
        for credential in found:
            values = await _opened(app, credential)
            if values is not None:
                await tx.keys.reseal(credential, await app.vault.seal(tx, workspace_id, credential.id, values))
        if not found:
            destroyed = await tx.keys.end_rotation(workspace_id)
            log.info("workspace %s has a new key; %d older ones are destroyed", workspace_id, destroyed)
    return found[-1].id if found else None


async def _opened(app: App, credential: Credential) -> Values | None:
    try:
        return await app.vault.open(credential)
    except CredentialUnreadable as error:
        log.warning("credential %s keeps its old key: %s", credential.id, error)
        return None


def _gone() -> NotFound:
    return NotFound("There is no such workspace, or it is not one of yours.", path=("workspaceId",))

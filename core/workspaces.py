"""Use cases of workspaces: make one, rename it, delete it."""

import re
import unicodedata
from uuid import UUID

from core.access import Permission, Role, Viewer, require
from core.app import App
from core.audit import changes
from core.entities import Member, Workspace
from core.errors import AlreadyExists, Forbidden, InvalidInput, NotFound
from core.ids import uuid7
from core.ports.transaction import Transaction
from core.quotas import give_configured

MAX_NAME = 100
MAX_SLUG = 60
_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


async def create_workspace(app: App, viewer: Viewer, name: str, slug: str | None) -> Workspace:
    """Make a workspace whose owner is the viewer.

    Raises:
        Forbidden: the token is not a personal one, or only operators may.
        InvalidInput: the name or slug breaks its rules.
        AlreadyExists: the slug is taken.
    """
    if viewer.account_id is None or viewer.workspace_id is not None:
        raise Forbidden("Making a workspace needs a personal token.")
    if app.settings.operators_create_workspaces and not viewer.is_operator:
        raise Forbidden("Here only operators make workspaces: ask one of them for one.")
    name = _checked_name(name)
    workspace_id, now = uuid7(), app.clock.now()
    workspace = Workspace(
        id=workspace_id,
        name=name,
        slug=_checked_slug(slug) if slug is not None else slug_of(name, workspace_id),
        key_version=1,
        config_version=1,
        created_at=now,
        updated_at=now,
    )
    member = Member(
        id=uuid7(), workspace_id=workspace_id, account_id=viewer.account_id, role=Role.OWNER, created_at=now
    )
    async with app.storage.transaction() as tx:
        try:
            await tx.workspaces.insert(workspace)
        except AlreadyExists:
            raise AlreadyExists(f"The slug {workspace.slug!r} is taken; choose another.", path=("slug",)) from None
        await tx.members.insert(member)
        await tx.audit.add(
            workspace_id=workspace_id,
            viewer=viewer,
            action="workspace.create",
            subject=f"Workspace:{workspace_id}",
            summary=f"Created the workspace {name!r}",
            changes=changes(name=(None, name), slug=(None, workspace.slug)),
        )
        await give_configured(app, tx, workspace_id)
    return workspace


async def update_workspace(app: App, viewer: Viewer, workspace_id: UUID, *, name: str | None) -> Workspace:
    """Rename a workspace; None leaves it as it is.

    Raises:
        NotFound: there is no such workspace of the viewer's.
        InvalidInput: the name breaks its rules.
    """
    _require_here(viewer, workspace_id, Permission.WORKSPACE_MANAGE)
    wanted = _checked_name(name) if name is not None else None
    async with app.storage.transaction() as tx:
        before = await _locked(tx, workspace_id)
        if wanted is not None and wanted != before.name:
            await tx.workspaces.rename(workspace_id, wanted)
            await tx.audit.add(
                workspace_id=workspace_id,
                viewer=viewer,
                action="workspace.update",
                subject=f"Workspace:{workspace_id}",
                summary=f"Renamed the workspace {before.name!r} to {wanted!r}",
                changes=changes(name=(before.name, wanted)),
            )
        return (await tx.workspaces.get_many([workspace_id]))[workspace_id]


async def delete_workspace(app: App, viewer: Viewer, workspace_id: UUID, confirm_name: str) -> None:
    """Delete a workspace with its keys and everything in it, for good. Calls that run in it end within seconds.

    Raises:
        NotFound: there is no such workspace of the viewer's.
        InvalidInput: `confirm_name` is not its name.
    """
    _require_here(viewer, workspace_id, Permission.WORKSPACE_DELETE)
    async with app.storage.transaction() as tx:
        workspace = await _locked(tx, workspace_id)
        if confirm_name != workspace.name:
            raise InvalidInput(
                f"This is not the name of the workspace: give {workspace.name!r} to delete it with everything in it.",
                path=("confirmName",),
            )
        await tx.workspaces.delete(workspace_id)
        await tx.audit.add(
            workspace_id=None,
            viewer=viewer,
            action="workspace.delete",
            subject=f"Workspace:{workspace_id}",
            summary=f"Deleted the workspace {workspace.name!r}",
            changes=changes(name=(workspace.name, None), slug=(workspace.slug, None)),
        )


def slug_of(name: str, workspace_id: UUID) -> str:
    """Return a slug that reads like the name and is nobody else's."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40].strip("-")
    return f"{words or 'workspace'}-{workspace_id.hex[-8:]}"


def _require_here(viewer: Viewer, workspace_id: UUID, permission: Permission) -> None:
    """Let the viewer pass who names a workspace by `id`, or refuse as `require` does."""
    if not viewer.sees(workspace_id):
        raise _gone()
    require(viewer, workspace_id, permission)


async def _locked(tx: Transaction, workspace_id: UUID) -> Workspace:
    """Return a workspace that nobody else changes before this transaction ends."""
    await tx.workspaces.touch(workspace_id)
    found = (await tx.workspaces.get_many([workspace_id])).get(workspace_id)
    if found is None:
        raise _gone()
    return found


def _gone() -> NotFound:
    return NotFound("There is no such workspace, or it is not one of yours.", path=("id",))


def _checked_name(name: str) -> str:
    name = name.strip()
    if not name or len(name) > MAX_NAME:
        raise InvalidInput(f"A name has 1 to {MAX_NAME} characters.", path=("name",))
    return name


def _checked_slug(slug: str) -> str:
    if len(slug) > MAX_SLUG or not _SLUG.fullmatch(slug):
        raise InvalidInput(
            f"A slug has at most {MAX_SLUG} characters: lower-case letters, digits and single hyphens between them.",
            path=("slug",),
        )
    return slug

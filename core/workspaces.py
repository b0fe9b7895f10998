"""Use cases of workspaces: make one."""

import re
import unicodedata
from uuid import UUID

from core.access import Role, Viewer
from core.app import App
from core.entities import Member, Workspace
from core.errors import AlreadyExists, Forbidden, InvalidInput
from core.ids import uuid7

MAX_NAME = 100
_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


async def create_workspace(app: App, viewer: Viewer, name: str, slug: str | None) -> Workspace:
    """Make a workspace whose owner is the viewer.

    Raises:
        Forbidden: the token is not a personal one.
        InvalidInput: the name or slug breaks its rules.
        AlreadyExists: the slug is taken.
    """
    if viewer.account_id is None or viewer.workspace_id is not None:
        raise Forbidden("Making a workspace needs a personal token.")
    name = name.strip()
    if not name or len(name) > MAX_NAME:
        raise InvalidInput(f"A name has 1 to {MAX_NAME} characters.", path=("name",))
    workspace_id, now = uuid7(), app.clock.now()
    workspace = Workspace(
        id=workspace_id,
        name=name,
        slug=_checked(slug) if slug is not None else slug_of(name, workspace_id),
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
        )
    return workspace


def slug_of(name: str, workspace_id: UUID) -> str:
    """Return a slug that reads like the name and is nobody else's."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40].strip("-")
    return f"{words or 'workspace'}-{workspace_id.hex[-8:]}"


def _checked(slug: str) -> str:
    if len(slug) > 60 or not _SLUG.fullmatch(slug):
        raise InvalidInput(
            "A slug has at most 60 characters: lower-case letters, digits and single hyphens between them.",
            path=("slug",),
        )
    return slug

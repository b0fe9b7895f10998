"""What is stored of tenants."""

from collections.abc import Mapping, Sequence
from typing import Protocol
from uuid import UUID

from core.entities import Workspace
from core.ports.paging import PageRequest, Slice


class Workspaces(Protocol):
    """Tenants."""

    async def get_many(self, workspace_ids: Sequence[UUID]) -> Mapping[UUID, Workspace]: ...
    async def by_slug(self, slug: str) -> Workspace | None: ...
    async def page(self, page: PageRequest, *, among: Sequence[UUID] | None, search: str | None) -> Slice[Workspace]:
        """Return workspaces in order of id (oldest first); `among` None: all of the installation."""
        ...

    async def insert(self, workspace: Workspace) -> None:
        """Insert with its first data key. AlreadyExists if the slug is taken."""
        ...

    async def rename(self, workspace_id: UUID, name: str) -> None: ...
    async def delete(self, workspace_id: UUID) -> None:
        """Delete it with its data keys and everything that belongs to it; its audit entries stay, of no workspace."""
        ...

    async def touch(self, workspace_id: UUID) -> int:
        """Raise the configuration's version, publish it after commit, and return it.

        Serialises changes of one workspace. NotFound if it is gone.
        """
        ...

"""The log of changes."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from uuid import UUID

from core.access import Viewer
from core.entities import AuditEntry
from core.ports.paging import PageRequest, Slice


class Audit(Protocol):
    """The log of changes."""

    async def add(
        self,
        *,
        workspace_id: UUID | None,
        viewer: Viewer,
        action: str,
        subject: str | None,
        summary: str,
        changes: Mapping[str, Any] | None = None,
    ) -> None:
        """Record who changed what; `changes` holds no secret."""
        ...

    async def get_many(self, entry_ids: Sequence[UUID]) -> Mapping[UUID, AuditEntry]: ...
    async def page(
        self, workspace_id: UUID, page: PageRequest, *, action: str | None, subject: str | None
    ) -> Slice[AuditEntry]:
        """Return the entries of a workspace, newest first."""
        ...

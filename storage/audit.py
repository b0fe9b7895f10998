"""Who changed what, as rows."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Column, ForeignKey, Index, String, Table, Text, Uuid, insert

from core.access import Viewer
from core.ids import uuid7
from storage.base import Json, id_column, metadata, times
from storage.connection import Connection

# An entry outlives whom and what it names, its workspace too.
audit_entries = Table(
    "audit_entries",
    metadata,
    id_column(),
    Column("workspace_id", Uuid, ForeignKey("workspaces.id", ondelete="SET NULL")),
    Column("account_id", Uuid),
    Column("token_id", Uuid, nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", String(300)),
    Column("summary", Text, nullable=False),
    Column("changes", Json(dict[str, Any])),
    *times(),
    Index(None, "workspace_id", "id"),
)


class SqlAudit:
    """The audit log of one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

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
        now = self._connection.now()
        await self._connection.run(
            insert(audit_entries).values(
                id=uuid7(),
                workspace_id=workspace_id,
                account_id=viewer.account_id,
                token_id=viewer.token_id,
                action=action,
                subject=subject,
                summary=summary,
                changes=None if changes is None else dict(changes),
                created_at=now,
                updated_at=now,
            )
        )

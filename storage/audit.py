"""Who changed what, as rows."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Column, ForeignKey, Index, Row, String, Table, Text, Uuid, insert, select

from core.access import Viewer
from core.entities import AuditEntry
from core.ids import uuid7
from core.ports.paging import PageRequest, Slice
from storage import paging
from storage.base import Json, id_column, metadata, times, within
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

    async def get_many(self, entry_ids: Sequence[UUID]) -> Mapping[UUID, AuditEntry]:
        """Return those that exist, by id."""
        rows = await self._connection.rows(select(audit_entries).where(audit_entries.c.id.in_(entry_ids)))
        return {row.id: _entry(row) for row in rows}

    async def page(
        self, workspace_id: UUID, page: PageRequest, *, action: str | None, subject: str | None
    ) -> Slice[AuditEntry]:
        """Return the entries of a workspace, newest first."""
        conditions = [within(audit_entries, workspace_id)]
        if action is not None:
            conditions.append(audit_entries.c.action == action)
        if subject is not None:
            conditions.append(audit_entries.c.subject == subject)
        rows, has_next, has_previous, total = await paging.fetch(
            self._connection, audit_entries, conditions, page, newest_first=True
        )
        return Slice(items=[_entry(row) for row in rows], has_next=has_next, has_previous=has_previous, total=total)


def _entry(row: Row[Any]) -> AuditEntry:
    return AuditEntry(
        id=row.id,
        workspace_id=row.workspace_id,
        at=row.created_at,
        account_id=row.account_id,
        token_id=row.token_id,
        action=row.action,
        subject=row.subject,
        summary=row.summary,
        changes=row.changes,
    )

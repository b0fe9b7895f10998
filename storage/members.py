"""Memberships, as rows."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Column, ForeignKey, Index, Row, String, Table, UniqueConstraint, Uuid, insert, select

from core.access import Role
from core.entities import Member
from core.ports import PageRequest, Slice
from storage import paging
from storage.base import id_column, metadata, times, within
from storage.connection import Connection

members = Table(
    "members",
    metadata,
    id_column(),
    Column("workspace_id", Uuid, ForeignKey("workspaces.id", ondelete="CASCADE"), nullable=False),
    Column("account_id", Uuid, ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False),
    Column("role", String(16), nullable=False),
    *times(),
    UniqueConstraint("workspace_id", "account_id"),
    Index(None, "account_id", "workspace_id"),
    Index(None, "workspace_id", "id"),
)


class SqlMembers:
    """The memberships of one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def insert(self, member: Member) -> None:
        """Insert; AlreadyExists if the account is a member already."""
        await self._connection.run(
            insert(members).values(
                id=member.id,
                workspace_id=member.workspace_id,
                account_id=member.account_id,
                role=member.role.value,
                created_at=member.created_at,
                updated_at=member.created_at,
            )
        )

    async def get(self, member_id: UUID) -> Member | None:
        """Return a membership."""
        row = await self._connection.row(select(members).where(members.c.id == member_id))
        return None if row is None else _member(row)

    async def of_account(self, account_id: UUID) -> Sequence[Member]:
        """Return the memberships of an account, oldest first."""
        rows = await self._connection.rows(
            select(members).where(members.c.account_id == account_id).order_by(members.c.id)
        )
        return [_member(row) for row in rows]

    async def page(self, workspace_id: UUID, page: PageRequest, *, role: str | None) -> Slice[Member]:
        """Return the members of a workspace, oldest first."""
        conditions = [within(members, workspace_id)]
        if role is not None:
            conditions.append(members.c.role == role)
        rows, has_next, has_previous, total = await paging.fetch(
            self._connection, members, conditions, page, newest_first=False
        )
        return Slice(items=[_member(row) for row in rows], has_next=has_next, has_previous=has_previous, total=total)


def _member(row: Row[Any]) -> Member:
    return Member(
        id=row.id,
        workspace_id=row.workspace_id,
        account_id=row.account_id,
        role=Role(row.role),
        created_at=row.created_at,
    )

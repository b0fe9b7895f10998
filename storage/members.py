"""Memberships, as rows."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Column,
    ForeignKey,
    Index,
    Row,
    String,
    Table,
    UniqueConstraint,
    Uuid,
    delete,
    exists,
    insert,
    or_,
    select,
    update,
)

from core.access import Role
from core.entities import Member
from core.ports.paging import PageRequest, Slice
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

_others = members.alias("others")
_IS_NOT_LAST_OWNER = or_(
    members.c.role != Role.OWNER.value,
    exists().where(
        _others.c.workspace_id == members.c.workspace_id,
        _others.c.role == Role.OWNER.value,
        _others.c.id != members.c.id,
    ),
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

    async def get_many(self, member_ids: Sequence[UUID]) -> Mapping[UUID, Member]:
        """Return those that exist, by id."""
        rows = await self._connection.rows(select(members).where(members.c.id.in_(member_ids)))
        return {row.id: _member(row) for row in rows}

    async def of_accounts(self, account_ids: Sequence[UUID]) -> Mapping[UUID, Sequence[Member]]:
        """Return the memberships of each account, oldest first."""
        rows = await self._connection.rows(
            select(members).where(members.c.account_id.in_(account_ids)).order_by(members.c.id)
        )
        found: dict[UUID, list[Member]] = {}
        for row in rows:
            found.setdefault(row.account_id, []).append(_member(row))
        return found

    async def find(self, workspace_id: UUID, account_id: UUID) -> Member | None:
        """Return the place of an account in a workspace."""
        row = await self._connection.row(
            select(members).where(within(members, workspace_id), members.c.account_id == account_id)
        )
        return None if row is None else _member(row)

    async def set_role(self, member_id: UUID, role: Role) -> bool:
        """Change the role, unless that would leave the workspace without an OWNER; tell whether it was changed.

        `workspaces.touch` comes before: two at once would each see the other's owner.
        """
        statement = update(members).where(members.c.id == member_id)
        if role is not Role.OWNER:
            statement = statement.where(_IS_NOT_LAST_OWNER)
        return await self._connection.run(statement.values(role=role.value, updated_at=self._connection.now())) == 1

    async def delete(self, member_id: UUID) -> bool:
        """Delete the membership, unless it is the last OWNER's; tell whether it was deleted.

        `workspaces.touch` comes before: two at once would each see the other's owner.
        """
        return await self._connection.run(delete(members).where(members.c.id == member_id, _IS_NOT_LAST_OWNER)) == 1

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

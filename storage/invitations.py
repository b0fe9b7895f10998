"""Invitations, as rows: the hash of the secret, never the secret."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Column,
    ForeignKey,
    LargeBinary,
    Row,
    String,
    Table,
    UniqueConstraint,
    Uuid,
    delete,
    select,
    update,
)

from core.access import Role
from core.entities import Invitation
from core.ports.paging import PageRequest, Slice
from storage import paging
from storage.base import UtcDateTime, id_column, metadata, times, within
from storage.connection import Connection
from storage.engine import Upsert

invitations = Table(
    "invitations",
    metadata,
    id_column(),
    Column("workspace_id", Uuid, ForeignKey("workspaces.id", ondelete="CASCADE"), nullable=False),
    Column("email", String(320), nullable=False),
    Column("name", String(200)),
    Column("role", String(16), nullable=False),
    Column("hash", LargeBinary(32), nullable=False),
    Column("invited_by", Uuid),
    Column("token_id", Uuid, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("accepted_at", UtcDateTime),
    *times(),
    UniqueConstraint("workspace_id", "email"),
    UniqueConstraint("hash"),
)

_PUT = Upsert(
    invitations,
    key=("workspace_id", "email"),
    columns=(
        "id",
        "name",
        "role",
        "hash",
        "invited_by",
        "token_id",
        "expires_at",
        "accepted_at",
        "created_at",
        "updated_at",
    ),
)


class SqlInvitations:
    """The invitations of one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def put(self, invitation: Invitation, secret_hash: bytes) -> None:
        """Insert with the SHA-256 of its secret; an older one of the same address ends with it."""
        await self._connection.run(
            _PUT,
            {
                "id": invitation.id,
                "workspace_id": invitation.workspace_id,
                "email": invitation.email,
                "name": invitation.name,
                "role": invitation.role.value,
                "hash": secret_hash,
                "invited_by": invitation.invited_by,
                "token_id": invitation.token_id,
                "expires_at": invitation.expires_at,
                "accepted_at": invitation.accepted_at,
                "created_at": invitation.created_at,
                "updated_at": invitation.created_at,
            },
        )

    async def accept(self, secret_hash: bytes, at: datetime) -> Invitation | None:
        """Use up an invitation that is neither used nor expired, and return it; None where there is none such."""
        row = await self._connection.row(
            update(invitations)
            .where(
                invitations.c.hash == secret_hash, invitations.c.accepted_at.is_(None), invitations.c.expires_at > at
            )
            .values(accepted_at=at, updated_at=at)
            .returning(invitations)
        )
        return None if row is None else _invitation(row)

    async def by_hash(self, secret_hash: bytes) -> Invitation | None:
        """Return an invitation, used or expired ones too."""
        row = await self._connection.row(select(invitations).where(invitations.c.hash == secret_hash))
        return None if row is None else _invitation(row)

    async def get_many(self, invitation_ids: Sequence[UUID]) -> Mapping[UUID, Invitation]:
        """Return those that exist, by id."""
        rows = await self._connection.rows(select(invitations).where(invitations.c.id.in_(invitation_ids)))
        return {row.id: _invitation(row) for row in rows}

    async def page(self, workspace_id: UUID, page: PageRequest) -> Slice[Invitation]:
        """Return those of a workspace that are neither used nor over, newest first."""
        conditions = [
            within(invitations, workspace_id),
            invitations.c.accepted_at.is_(None),
            invitations.c.expires_at > self._connection.now(),
        ]
        rows, has_next, has_previous, total = await paging.fetch(
            self._connection, invitations, conditions, page, newest_first=True
        )
        return Slice(
            items=[_invitation(row) for row in rows], has_next=has_next, has_previous=has_previous, total=total
        )

    async def delete(self, invitation_id: UUID) -> bool:
        """Delete an invitation that is not used; tell whether it was."""
        statement = delete(invitations).where(invitations.c.id == invitation_id, invitations.c.accepted_at.is_(None))
        return await self._connection.run(statement) == 1


async def prune(connection: Connection, before: datetime) -> int:
    """Delete invitations that were over before a time, used or not; return how many."""
    return await connection.run(delete(invitations).where(invitations.c.expires_at < before))


def _invitation(row: Row[Any]) -> Invitation:
    return Invitation(
        id=row.id,
        workspace_id=row.workspace_id,
        email=row.email,
        name=row.name,
        role=Role(row.role),
        invited_by=row.invited_by,
        token_id=row.token_id,
        expires_at=row.expires_at,
        accepted_at=row.accepted_at,
        created_at=row.created_at,
    )

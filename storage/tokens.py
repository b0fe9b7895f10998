"""Bearer tokens, as rows: the hash of the secret, never the secret."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Column,
    ColumnElement,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Row,
    String,
    Table,
    UniqueConstraint,
    Uuid,
    insert,
    select,
    update,
)

from core.access import Role
from core.entities import ApiToken
from core.model_types import ModelKey
from core.ports.paging import PageRequest, Slice
from storage import paging
from storage.base import Json, UtcDateTime, id_column, metadata, times, within
from storage.connection import Connection

api_tokens = Table(
    "api_tokens",
    metadata,
    id_column(),
    Column("hash", LargeBinary(32), nullable=False),
    Column("prefix", String(16), nullable=False),
    Column("name", String(200), nullable=False),
    Column("role", String(16), nullable=False),
    Column("workspace_id", Uuid, ForeignKey("workspaces.id", ondelete="CASCADE")),
    Column("account_id", Uuid, ForeignKey("accounts.id", ondelete="CASCADE")),
    Column("allowed_models", Json(tuple[ModelKey, ...])),
    Column("credential_ids", Json(tuple[UUID, ...])),
    Column("requests_per_minute", Integer),
    Column("tokens_per_minute", Integer),
    Column("expires_at", UtcDateTime),
    Column("last_used_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
    Column("created_by", Uuid, ForeignKey("accounts.id", ondelete="SET NULL")),
    *times(),
    UniqueConstraint("hash"),
    CheckConstraint("workspace_id IS NOT NULL OR account_id IS NOT NULL", name="stands_for_something"),
    Index(None, "workspace_id", "id"),
    Index(None, "account_id"),
    Index(None, "created_by"),
)


class SqlTokens:
    """The tokens of one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def insert(self, token: ApiToken, secret_hash: bytes) -> None:
        """Insert a token with the SHA-256 of its secret."""
        await self._connection.run(
            insert(api_tokens).values(
                id=token.id,
                hash=secret_hash,
                prefix=token.prefix,
                name=token.name,
                role=token.role.value,
                workspace_id=token.workspace_id,
                account_id=token.account_id,
                allowed_models=token.allowed_models,
                credential_ids=token.credential_ids,
                requests_per_minute=token.requests_per_minute,
                tokens_per_minute=token.tokens_per_minute,
                expires_at=token.expires_at,
                last_used_at=token.last_used_at,
                revoked_at=token.revoked_at,
                created_by=token.created_by,
                created_at=token.created_at,
                updated_at=token.created_at,
            )
        )

    async def get(self, token_id: UUID) -> ApiToken | None:
        """Return a token."""
        row = await self._connection.row(select(api_tokens).where(api_tokens.c.id == token_id))
        return None if row is None else _token(row)

    async def get_many(self, token_ids: Sequence[UUID]) -> Mapping[UUID, ApiToken]:
        """Return those that exist, by id."""
        rows = await self._connection.rows(select(api_tokens).where(api_tokens.c.id.in_(token_ids)))
        return {row.id: _token(row) for row in rows}

    async def revoke_of_member(self, workspace_id: UUID, account_id: UUID, at: datetime) -> None:
        """Revoke the tokens of a workspace that stand for an account."""
        await self._connection.run(
            update(api_tokens)
            .where(
                within(api_tokens, workspace_id),
                api_tokens.c.account_id == account_id,
                api_tokens.c.revoked_at.is_(None),
            )
            .values(revoked_at=at, updated_at=at)
        )

    async def locked(self, token_id: UUID) -> ApiToken | None:
        """Return a token that nobody else changes before the transaction ends."""
        row = await self._connection.row(select(api_tokens).where(api_tokens.c.id == token_id).with_for_update())
        return None if row is None else _token(row)

    async def update(self, token: ApiToken) -> None:
        """Write the name, the limits and the time of expiry."""
        await self._connection.run(
            update(api_tokens)
            .where(api_tokens.c.id == token.id)
            .values(
                name=token.name,
                allowed_models=token.allowed_models,
                credential_ids=token.credential_ids,
                requests_per_minute=token.requests_per_minute,
                tokens_per_minute=token.tokens_per_minute,
                expires_at=token.expires_at,
                updated_at=self._connection.now(),
            )
        )

    async def revoke(self, token_id: UUID, at: datetime) -> bool:
        """Revoke once; a second time changes nothing. Tell whether it was this time."""
        revoked = await self._connection.run(
            update(api_tokens)
            .where(api_tokens.c.id == token_id, api_tokens.c.revoked_at.is_(None))
            .values(revoked_at=at, updated_at=at)
        )
        return revoked == 1

    async def page(
        self, page: PageRequest, *, workspace_id: UUID | None, account_id: UUID | None, include_revoked: bool
    ) -> Slice[ApiToken]:
        """Return the tokens of a workspace, or those that stand for an account, newest first."""
        conditions: list[ColumnElement[bool]] = []
        if workspace_id is not None:
            conditions.append(within(api_tokens, workspace_id))
        if account_id is not None:
            conditions.append(api_tokens.c.account_id == account_id)
        if not include_revoked:
            conditions.append(api_tokens.c.revoked_at.is_(None))
        rows, has_next, has_previous, total = await paging.fetch(
            self._connection, api_tokens, conditions, page, newest_first=True
        )
        return Slice(items=[_token(row) for row in rows], has_next=has_next, has_previous=has_previous, total=total)


def _token(row: Row[Any]) -> ApiToken:
    return ApiToken(
        id=row.id,
        name=row.name,
        prefix=row.prefix,
        role=Role(row.role),
        workspace_id=row.workspace_id,
        account_id=row.account_id,
        allowed_models=row.allowed_models,
        credential_ids=row.credential_ids,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
        created_at=row.created_at,
        created_by=row.created_by,
        requests_per_minute=row.requests_per_minute,
        tokens_per_minute=row.tokens_per_minute,
    )

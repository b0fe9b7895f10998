"""Sealed credentials, as rows."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    LargeBinary,
    Row,
    String,
    Table,
    UniqueConstraint,
    Uuid,
    delete,
    insert,
    select,
    update,
)

from core.entities import Credential, CredentialStatus, Sealed
from core.errors import CredentialUnreadable, Problem
from core.model_types import ModelKey, ModelType
from storage.base import Json, UtcDateTime, id_column, metadata, times, within
from storage.cipher import Cipher, DataKey, WrappedKey
from storage.connection import Connection
from storage.models import models
from storage.providers import providers
from storage.workspaces import SqlWorkspaces, workspace_keys

credentials = Table(
    "credentials",
    metadata,
    id_column(),
    Column("workspace_id", Uuid, ForeignKey("workspaces.id", ondelete="CASCADE"), nullable=False),
    Column("provider", String(64), nullable=False),
    Column("model_name", String(200), nullable=False),
    Column("model_type", String(16), nullable=False),
    Column("name", String(64), nullable=False),
    Column("status", String(16), nullable=False),
    Column("problem", Json(Problem)),
    Column("sealed", LargeBinary, nullable=False),
    Column("key_version", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("validated_at", UtcDateTime),
    Column("last_used_at", UtcDateTime),
    Column("form_values", Json(dict[str, str])),
    *times(),
    UniqueConstraint("workspace_id", "provider", "model_name", "model_type", "name", name="uq_credentials_name"),
    UniqueConstraint("workspace_id", "provider", "id", name="uq_credentials_of_provider"),
    UniqueConstraint("workspace_id", "provider", "model_name", "model_type", "id", name="uq_credentials_of_model"),
    ForeignKeyConstraint(
        ["workspace_id", "key_version"],
        ["workspace_keys.workspace_id", "workspace_keys.version"],
        name="fk_credentials_key",
        deferrable=True,
        initially="DEFERRED",
    ),
)

_WITH_KEYS = credentials.outerjoin(
    workspace_keys,
    (workspace_keys.c.workspace_id == credentials.c.workspace_id)
    & (workspace_keys.c.version == credentials.c.key_version),
)
_OF_WORKSPACE = (
    select(credentials, workspace_keys.c.kek_id, workspace_keys.c.wrapped_key)
    .select_from(_WITH_KEYS)
    .where(within(credentials))
    .order_by(credentials.c.id)
)


async def of_workspace(connection: Connection, cipher: Cipher, workspace_id: UUID) -> Sequence[Credential]:
    """Return every credential of a workspace, oldest first; those that cannot be opened are UNREADABLE."""
    keys: dict[int, DataKey | None] = {}
    found = []
    for row in await connection.rows(_OF_WORKSPACE, {"workspace": workspace_id}):
        if row.key_version not in keys:
            keys[row.key_version] = _unwrapped(cipher, row)
        key, credential = keys[row.key_version], credential_of(row)
        is_readable = key is not None and key.opens(row.id, row.sealed)
        found.append(credential if is_readable else replace(credential, status=CredentialStatus.UNREADABLE))
    return found


def _unwrapped(cipher: Cipher, row: Row[Any]) -> DataKey | None:
    if row.kek_id is None:
        return None
    try:
        return cipher.unwrap(
            WrappedKey(workspace_id=row.workspace_id, version=row.key_version, kek_id=row.kek_id, data=row.wrapped_key)
        )
    except CredentialUnreadable:
        return None


class Unasked(NamedTuple):
    """A credential of which a provider has not been asked for long."""

    workspace_id: UUID
    credential_id: UUID
    version: int


async def unasked(connection: Connection, since: datetime, *, after: UUID | None, limit: int) -> Sequence[Unasked]:
    """Return credentials that no provider has accepted or refused since a time, in order of ids from `after` on."""
    column = credentials.c
    is_old = column.validated_at.is_(None) | (column.validated_at < since)
    statement = select(column.workspace_id, column.id, column.version).where(is_old).order_by(column.id).limit(limit)
    if after is not None:
        statement = statement.where(column.id > after)
    return [Unasked(row.workspace_id, row.id, row.version) for row in await connection.rows(statement)]


class SqlCredentials:
    """The credentials of one transaction."""

    def __init__(self, connection: Connection, workspaces: SqlWorkspaces) -> None:
        self._connection = connection
        self._workspaces = workspaces

    async def get(self, workspace_id: UUID, credential_id: UUID) -> Credential | None:
        """Return a credential of the workspace."""
        row = await self._connection.row(select(credentials).where(*_named(workspace_id, credential_id)))
        return None if row is None else credential_of(row)

    async def last_used(self, workspace_ids: Sequence[UUID], credential_ids: Sequence[UUID]) -> Mapping[UUID, datetime]:
        """Return when each was last used; those that never were are left out."""
        column = credentials.c
        rows = await self._connection.rows(
            select(column.id, column.last_used_at).where(
                column.workspace_id.in_(workspace_ids), column.id.in_(credential_ids), column.last_used_at.is_not(None)
            )
        )
        return {row.id: row.last_used_at for row in rows}

    async def insert(self, credential: Credential) -> None:
        """Insert; AlreadyExists if the name is taken within (workspace, provider, model, type)."""
        model = credential.model
        await self._connection.run(
            insert(credentials).values(
                id=credential.id,
                workspace_id=credential.workspace_id,
                provider=credential.provider,
                model_name="" if model is None else model.name,
                model_type="" if model is None else model.type.value,
                name=credential.name,
                status=credential.status.value,
                problem=credential.problem,
                sealed=credential.sealed.data,
                key_version=credential.sealed.key_version,
                version=credential.version,
                validated_at=credential.validated_at,
                last_used_at=credential.last_used_at,
                form_values=_dict(credential.form_values),
                created_at=credential.created_at,
                updated_at=credential.updated_at,
            )
        )

    async def update(self, credential: Credential, *, version: int) -> bool:
        """Write name, values, status and version over a credential that still has this version; tell if so.

        AlreadyExists if the name is taken.
        """
        changed = await self._connection.run(
            update(credentials)
            .where(*_named(credential.workspace_id, credential.id), credentials.c.version == version)
            .values(
                name=credential.name,
                status=credential.status.value,
                problem=credential.problem,
                sealed=credential.sealed.data,
                key_version=credential.sealed.key_version,
                version=credential.version,
                validated_at=credential.validated_at,
                form_values=_dict(credential.form_values),
                updated_at=self._connection.now(),
            )
        )
        return changed > 0

    async def set_status(
        self,
        workspace_id: UUID,
        credential_id: UUID,
        *,
        version: int,
        status: CredentialStatus,
        problem: Problem | None,
        validated_at: datetime | None,
    ) -> bool:
        """Set the status if the credential still has this version, raising the configuration's version; tell if so."""
        of_version = (*_named(workspace_id, credential_id), credentials.c.version == version)
        if await self._connection.row(select(credentials.c.id).where(*of_version)) is None:
            return False
        # The workspace first, as in every other change: two that lock in different orders would wait for each other.
        await self._workspaces.touch(workspace_id)
        changed = await self._connection.run(
            update(credentials)
            .where(*of_version)
            .values(
                status=status.value,
                problem=problem,
                validated_at=validated_at,
                updated_at=self._connection.now(),
            )
        )
        return changed > 0

    async def delete(self, workspace_id: UUID, credential_id: UUID) -> bool:
        """Delete; where it was active, nothing is active afterwards. Tell whether it was there."""
        for table in (providers, models):
            await self._connection.run(
                update(table)
                .where(within(table, workspace_id), table.c.active_credential_id == credential_id)
                .values(active_credential_id=None, updated_at=self._connection.now())
            )
        return await self._connection.run(delete(credentials).where(*_named(workspace_id, credential_id))) > 0


def _named(workspace_id: UUID, credential_id: UUID) -> tuple[Any, ...]:
    return within(credentials, workspace_id), credentials.c.id == credential_id


def credential_of(row: Row[Any]) -> Credential:
    """Return the credential of a row of the table."""
    return Credential(
        id=row.id,
        workspace_id=row.workspace_id,
        provider=row.provider,
        model=_model(row),
        name=row.name,
        status=CredentialStatus(row.status),
        problem=row.problem,
        sealed=Sealed(key_version=row.key_version, data=row.sealed),
        version=row.version,
        validated_at=row.validated_at,
        last_used_at=row.last_used_at,
        created_at=row.created_at,
        updated_at=row.updated_at,
        form_values=row.form_values,
    )


def _dict(values: Mapping[str, str] | None) -> dict[str, str] | None:
    return dict(values) if values is not None else None


def _model(row: Row[Any]) -> ModelKey | None:
    if not row.model_name:
        return None
    return ModelKey(provider=row.provider, name=row.model_name, type=ModelType(row.model_type))

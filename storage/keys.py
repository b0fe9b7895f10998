"""Data keys of workspaces through their rotations, and their wrapping by key-encryption keys."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import delete, exists, func, insert, select, update

from core.entities import Credential, KeyRotation, Sealed
from core.errors import CredentialUnreadable
from core.ids import uuid7
from storage.base import within
from storage.cipher import Cipher
from storage.connection import Connection
from storage.credentials import credential_of, credentials
from storage.workspaces import CURRENT, OLDER, workspace_keys, workspaces, wrapped_key


class SqlKeys:
    """The data keys of one transaction."""

    def __init__(self, connection: Connection, cipher: Cipher) -> None:
        self._connection = connection
        self._cipher = cipher

    async def rotations(self, workspace_ids: Sequence[UUID]) -> Mapping[UUID, KeyRotation]:
        """Return the newest rotation of each workspace that ever had one."""
        keys = workspace_keys.c
        remaining = (
            select(func.count())
            .select_from(credentials)
            .where(credentials.c.workspace_id == keys.workspace_id, credentials.c.key_version < keys.version)
            .scalar_subquery()
        )
        rows = await self._connection.rows(
            select(workspace_keys, remaining.label("remaining")).where(
                keys.workspace_id.in_(workspace_ids), keys.state == CURRENT, keys.replaces.is_not(None)
            )
        )
        return {
            row.workspace_id: KeyRotation(
                workspace_id=row.workspace_id,
                from_version=row.replaces,
                to_version=row.version,
                resealed=max(0, row.to_reseal - row.remaining),
                total=row.to_reseal,
                started_at=row.created_at,
                finished_at=row.finished_at,
            )
            for row in rows
        }

    async def begin_rotation(self, workspace_id: UUID) -> None:
        """Add the next version of the workspace's key: from the commit on it seals what is written."""
        now, version = self._connection.now(), workspaces.c.key_version
        raised = await self._connection.row(
            update(workspaces)
            .where(workspaces.c.id == workspace_id)
            .values(key_version=version + 1, updated_at=now)
            .returning(version)
        )
        count = await self._connection.row(
            select(func.count().label("found")).select_from(credentials).where(within(credentials, workspace_id))
        )
        assert raised is not None
        assert count is not None
        await self._connection.run(
            update(workspace_keys).where(within(workspace_keys, workspace_id)).values(state=OLDER, updated_at=now)
        )
        key = self._cipher.new_key(workspace_id, raised.key_version)
        await self._connection.run(
            insert(workspace_keys).values(
                id=uuid7(),
                workspace_id=workspace_id,
                version=key.version,
                kek_id=key.kek_id,
                wrapped_key=key.data,
                state=CURRENT,
                replaces=key.version - 1,
                to_reseal=count.found,
                created_at=now,
                updated_at=now,
            )
        )

    async def outdated(self, workspace_id: UUID, after: UUID | None, *, limit: int) -> Sequence[Credential]:
        """Return credentials sealed by an older version than the newest, in order of id, after one of them."""
        newest = select(workspaces.c.key_version).where(workspaces.c.id == workspace_id).scalar_subquery()
        statement = select(credentials).where(within(credentials, workspace_id), credentials.c.key_version < newest)
        if after is not None:
            statement = statement.where(credentials.c.id > after)
        rows = await self._connection.rows(statement.order_by(credentials.c.id).limit(limit))
        return [credential_of(row) for row in rows]

    async def reseal(self, credential: Credential, sealed: Sealed) -> bool:
        """Replace the sealed values if the credential is still what it was; tell if so."""
        changed = await self._connection.run(
            update(credentials)
            .where(
                within(credentials, credential.workspace_id),
                credentials.c.id == credential.id,
                credentials.c.version == credential.version,
                credentials.c.key_version == credential.sealed.key_version,
            )
            .values(sealed=sealed.data, key_version=sealed.key_version)
        )
        return changed > 0

    async def end_rotation(self, workspace_id: UUID) -> int:
        """Destroy the versions that no credential names, and mark the rotation finished; return how many they were."""
        keys = workspace_keys.c
        named = exists().where(
            credentials.c.workspace_id == keys.workspace_id, credentials.c.key_version == keys.version
        )
        destroyed = await self._connection.run(
            delete(workspace_keys).where(within(workspace_keys, workspace_id), keys.state == OLDER, ~named)
        )
        await self._connection.run(
            update(workspace_keys)
            .where(within(workspace_keys, workspace_id), keys.state == CURRENT, keys.finished_at.is_(None))
            .values(finished_at=self._connection.now())
        )
        return destroyed


async def rewrap(connection: Connection, cipher: Cipher, after: UUID | None, *, limit: int) -> tuple[UUID | None, int]:
    """Wrap data keys of other key-encryption keys by the current one, in order of id, after one of them.

    Return the last one looked at, None where there was no more, and how many could not be unwrapped.
    """
    statement = select(workspace_keys).where(workspace_keys.c.kek_id != cipher.current)
    if after is not None:
        statement = statement.where(workspace_keys.c.id > after)
    rows = await connection.rows(statement.order_by(workspace_keys.c.id).limit(limit))
    left = 0
    for row in rows:
        try:
            wrapped = cipher.rewrap(wrapped_key(row))
        except CredentialUnreadable:
            left += 1
            continue
        await connection.run(
            update(workspace_keys)
            .where(workspace_keys.c.id == row.id, workspace_keys.c.kek_id == row.kek_id)
            .values(kek_id=wrapped.kek_id, wrapped_key=wrapped.data, updated_at=connection.now())
        )
    return (rows[-1].id if rows else None), left

"""Tenants and their wrapped data keys, as rows."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Column,
    ColumnElement,
    ForeignKey,
    Integer,
    LargeBinary,
    Row,
    String,
    Table,
    UniqueConstraint,
    Uuid,
    bindparam,
    delete,
    false,
    insert,
    or_,
    select,
    update,
)

from core.entities import Workspace
from core.errors import NotFound
from core.ids import uuid7
from core.ports.paging import PageRequest, Slice
from storage import paging
from storage.base import UtcDateTime, id_column, metadata, times, within
from storage.cipher import Cipher, WrappedKey
from storage.connection import Connection

MAX_TEXT = 200
"""No name or slug is longer."""

workspaces = Table(
    "workspaces",
    metadata,
    id_column(),
    Column("name", String(MAX_TEXT), nullable=False),
    Column("slug", String(100), nullable=False),
    Column("key_version", Integer, nullable=False),
    Column("config_version", Integer, nullable=False),
    *times(),
    UniqueConstraint("slug"),
)

CURRENT, OLDER = "CURRENT", "OLDER"

# A version that came by a rotation names the one that it `replaces`, how many credentials there were `to_reseal`, and
# when the rotation was finished.
workspace_keys = Table(
    "workspace_keys",
    metadata,
    id_column(),
    Column("workspace_id", Uuid, ForeignKey("workspaces.id", ondelete="CASCADE"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("kek_id", String(16), nullable=False),
    Column("wrapped_key", LargeBinary, nullable=False),
    Column("state", String(16), nullable=False),
    Column("replaces", Integer),
    Column("to_reseal", Integer),
    Column("finished_at", UtcDateTime),
    *times(),
    UniqueConstraint("workspace_id", "version"),
)

_TOUCH = (
    update(workspaces)
    .where(workspaces.c.id == bindparam("workspace", type_=Uuid))
    .values(config_version=workspaces.c.config_version + 1, updated_at=bindparam("at", type_=UtcDateTime))
    .returning(workspaces.c.config_version)
)
_KEY_COLUMNS = (
    workspace_keys.c.workspace_id,
    workspace_keys.c.version,
    workspace_keys.c.kek_id,
    workspace_keys.c.wrapped_key,
)
# The lock keeps a key from being destroyed before what it seals here is committed.
NEWEST_KEY = (
    select(*_KEY_COLUMNS)
    .where(within(workspace_keys))
    .order_by(workspace_keys.c.version.desc())
    .limit(1)
    .with_for_update(read=True, key_share=True)
)
KEY = select(*_KEY_COLUMNS).where(within(workspace_keys), workspace_keys.c.version == bindparam("version"))


class SqlWorkspaces:
    """The workspaces of one transaction."""

    def __init__(self, connection: Connection, cipher: Cipher) -> None:
        self._connection = connection
        self._cipher = cipher

    async def get_many(self, workspace_ids: Sequence[UUID]) -> Mapping[UUID, Workspace]:
        """Return those that exist, by id."""
        rows = await self._connection.rows(select(workspaces).where(workspaces.c.id.in_(workspace_ids)))
        return {row.id: _workspace(row) for row in rows}

    async def by_slug(self, slug: str) -> Workspace | None:
        """Return the workspace of a slug."""
        row = await self._connection.row(select(workspaces).where(workspaces.c.slug == slug))
        return None if row is None else _workspace(row)

    async def page(self, page: PageRequest, *, among: Sequence[UUID] | None, search: str | None) -> Slice[Workspace]:
        """Return workspaces, oldest first; `search` is found in name or slug."""
        conditions: list[ColumnElement[bool]] = [] if among is None else [workspaces.c.id.in_(among)]
        if search and len(search) > MAX_TEXT:  # SQLite refuses such a pattern where it is very long
            conditions.append(false())
        elif search:
            conditions.append(
                or_(
                    workspaces.c.name.icontains(search, autoescape=True),
                    workspaces.c.slug.icontains(search, autoescape=True),
                )
            )
        rows, has_next, has_previous, total = await paging.fetch(
            self._connection, workspaces, conditions, page, newest_first=False
        )
        return Slice(items=[_workspace(row) for row in rows], has_next=has_next, has_previous=has_previous, total=total)

    async def insert(self, workspace: Workspace) -> None:
        """Insert with its first data key; AlreadyExists if the slug is taken."""
        await self._connection.run(
            insert(workspaces).values(
                id=workspace.id,
                name=workspace.name,
                slug=workspace.slug,
                key_version=workspace.key_version,
                config_version=workspace.config_version,
                created_at=workspace.created_at,
                updated_at=workspace.updated_at,
            )
        )
        key = self._cipher.new_key(workspace.id, workspace.key_version)
        await self._connection.run(
            insert(workspace_keys).values(
                id=uuid7(),
                workspace_id=workspace.id,
                version=key.version,
                kek_id=key.kek_id,
                wrapped_key=key.data,
                state=CURRENT,
                created_at=workspace.created_at,
                updated_at=workspace.updated_at,
            )
        )

    async def rename(self, workspace_id: UUID, name: str) -> None:
        """Give it another name."""
        await self._connection.run(
            update(workspaces)
            .where(workspaces.c.id == workspace_id)
            .values(name=name, updated_at=self._connection.now())
        )

    async def delete(self, workspace_id: UUID) -> None:
        """Delete it with its data keys and everything that belongs to it; its audit entries stay, of no workspace."""
        await self._connection.run(delete(workspaces).where(workspaces.c.id == workspace_id))

    async def touch(self, workspace_id: UUID) -> int:
        """Raise the configuration's version, and publish it after the commit.

        The row stays locked until then, so that changes of one workspace come one by one. NotFound if
        it is gone.
        """
        row = await self._connection.row(_TOUCH, {"workspace": workspace_id, "at": self._connection.now()})
        if row is None:
            raise NotFound("There is no such workspace.")
        self._connection.versions[workspace_id] = row.config_version
        return int(row.config_version)


def wrapped_key(row: Row[Any]) -> WrappedKey:
    """Return the data key of a row that NEWEST_KEY or KEY selected."""
    return WrappedKey(workspace_id=row.workspace_id, version=row.version, kek_id=row.kek_id, data=row.wrapped_key)


def _workspace(row: Row[Any]) -> Workspace:
    return Workspace(
        id=row.id,
        name=row.name,
        slug=row.slug,
        key_version=row.key_version,
        config_version=row.config_version,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )

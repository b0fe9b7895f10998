"""Pools and their members, as rows."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    Row,
    String,
    Table,
    UniqueConstraint,
    Uuid,
    delete,
    insert,
    literal_column,
    select,
    update,
)

from core.entities import Pool, PoolMember, PoolStrategy
from core.model_types import ModelKey, ModelType
from storage.base import id_column, metadata, times, within
from storage.connection import Connection

pools = Table(
    "pools",
    metadata,
    id_column(),
    Column("workspace_id", Uuid, ForeignKey("workspaces.id", ondelete="CASCADE"), nullable=False),
    Column("provider", String(64), nullable=False),
    Column("name", String(200), nullable=False),
    Column("type", String(16), nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("strategy", String(16), nullable=False),
    Column("hedge_percentile", Integer),
    Column("version", Integer, nullable=False),
    *times(),
    UniqueConstraint("workspace_id", "provider", "name", "type"),
)

_IS_DEFAULT = literal_column("credential_id IS NULL", Boolean)

# A member without a credential is the Default Config, of which there is one at most.
pool_members = Table(
    "pool_members",
    metadata,
    id_column(),
    Column("workspace_id", Uuid, ForeignKey("workspaces.id", ondelete="CASCADE"), nullable=False),
    Column("pool_id", Uuid, ForeignKey("pools.id", ondelete="CASCADE"), nullable=False),
    Column("credential_id", Uuid, ForeignKey("credentials.id", ondelete="CASCADE")),
    Column("place", Integer, nullable=False),
    Column("name", String(64), nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("weight", Integer, nullable=False),
    *times(),
    UniqueConstraint("pool_id", "credential_id"),
    Index("uq_pool_members_default", "pool_id", unique=True, sqlite_where=_IS_DEFAULT, postgresql_where=_IS_DEFAULT),
    Index(None, "workspace_id"),
    Index(None, "credential_id"),
)

_POOLS = select(pools).where(within(pools))
_MEMBERS = select(pool_members).where(within(pool_members)).order_by(pool_members.c.place)


async def of_workspace(connection: Connection, workspace_id: UUID) -> Mapping[ModelKey, Pool]:
    """Return the pools of a workspace with their members in order."""
    rows = await connection.rows(_POOLS, {"workspace": workspace_id})
    if not rows:
        return {}
    members: dict[UUID, list[PoolMember]] = {}
    for row in await connection.rows(_MEMBERS, {"workspace": workspace_id}):
        members.setdefault(row.pool_id, []).append(_member(row))
    return {(found := _pool(row, members.get(row.id, []))).key: found for row in rows}


class SqlPools:
    """The pools of one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def put(self, workspace_id: UUID, pool: Pool) -> None:
        """Replace the pool and all its members; those whose id stays are the same ones."""
        now = self._connection.now()
        values = {
            "enabled": pool.enabled,
            "strategy": pool.strategy.value,
            "hedge_percentile": pool.hedge_percentile,
            "version": pool.version,
            "updated_at": now,
        }
        changed = await self._connection.run(
            update(pools).where(within(pools, workspace_id), pools.c.id == pool.id).values(**values)
        )
        if not changed:
            key = {"provider": pool.key.provider, "name": pool.key.name, "type": pool.key.type.value}
            await self._connection.run(
                insert(pools).values(id=pool.id, workspace_id=workspace_id, created_at=now, **key, **values)
            )
        await self._connection.run(delete(pool_members).where(pool_members.c.pool_id == pool.id))
        if pool.members:
            await self._connection.run(
                insert(pool_members),
                [
                    {
                        "id": member.id,
                        "workspace_id": workspace_id,
                        "pool_id": pool.id,
                        "credential_id": member.credential_id,
                        "place": place,
                        "name": member.name,
                        "enabled": member.enabled,
                        "weight": member.weight,
                        "created_at": now,
                        "updated_at": now,
                    }
                    for place, member in enumerate(pool.members)
                ],
            )


def _pool(row: Row[Any], members: list[PoolMember]) -> Pool:
    return Pool(
        id=row.id,
        key=ModelKey(provider=row.provider, name=row.name, type=ModelType(row.type)),
        enabled=row.enabled,
        strategy=PoolStrategy(row.strategy),
        members=tuple(members),
        version=row.version,
        hedge_percentile=row.hedge_percentile,
    )


def _member(row: Row[Any]) -> PoolMember:
    return PoolMember(id=row.id, credential_id=row.credential_id, name=row.name, enabled=row.enabled, weight=row.weight)

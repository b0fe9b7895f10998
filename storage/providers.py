"""What workspaces chose for providers, as rows."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    String,
    Table,
    UniqueConstraint,
    Uuid,
    select,
)

from core.entities import ProviderRow
from core.ids import uuid7
from core.model_types.llm import ProviderType
from storage.base import UtcDateTime, id_column, metadata, times, within
from storage.connection import Connection
from storage.engine import Upsert

# The active credential is named together with its provider, so that it cannot be another's. The constraint waits for
# the commit: then the order in which a deleted workspace's rows go does not matter.
providers = Table(
    "providers",
    metadata,
    id_column(),
    Column("workspace_id", Uuid, ForeignKey("workspaces.id", ondelete="CASCADE"), nullable=False),
    Column("name", String(64), nullable=False),
    Column("preferred_type", String(16)),
    Column("active_credential_id", Uuid),
    Column("models_refreshed_at", UtcDateTime),
    *times(),
    UniqueConstraint("workspace_id", "name"),
    ForeignKeyConstraint(
        ["workspace_id", "name", "active_credential_id"],
        ["credentials.workspace_id", "credentials.provider", "credentials.id"],
        name="fk_providers_active_credential",
        deferrable=True,
        initially="DEFERRED",
    ),
    Index(None, "active_credential_id"),
)

_OF_WORKSPACE = select(
    providers.c.name, providers.c.preferred_type, providers.c.active_credential_id, providers.c.models_refreshed_at
).where(within(providers))
_PUT_PREFERRED = Upsert(providers, key=("workspace_id", "name"), columns=("preferred_type", "updated_at"))
_PUT_REFRESHED = Upsert(providers, key=("workspace_id", "name"), columns=("models_refreshed_at", "updated_at"))
_PUT_ACTIVE = Upsert(providers, key=("workspace_id", "name"), columns=("active_credential_id", "updated_at"))


async def of_workspace(connection: Connection, workspace_id: UUID) -> Mapping[str, ProviderRow]:
    """Return what a workspace chose, by the provider's name."""
    return {
        row.name: ProviderRow(
            name=row.name,
            preferred_type=None if row.preferred_type is None else ProviderType(row.preferred_type),
            active_credential_id=row.active_credential_id,
            models_refreshed_at=row.models_refreshed_at,
        )
        for row in await connection.rows(_OF_WORKSPACE, {"workspace": workspace_id})
    }


class Stale(NamedTuple):
    """A provider whose list of models was not read for some time."""

    id: UUID
    workspace_id: UUID
    name: str


async def stale(
    connection: Connection, names: Collection[str], since: datetime, *, after: UUID | None, limit: int
) -> Sequence[Stale]:
    """Return those of these providers that have an active credential, in order of ids from `after` on."""
    column = providers.c
    is_old = column.models_refreshed_at.is_(None) | (column.models_refreshed_at < since)
    statement = (
        select(column.id, column.workspace_id, column.name)
        .where(column.name.in_(names), column.active_credential_id.is_not(None), is_old)
        .order_by(column.id)
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(column.id > after)
    return [Stale(row.id, row.workspace_id, row.name) for row in await connection.rows(statement)]


class SqlProviders:
    """The providers of one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def set_active(self, workspace_id: UUID, provider: str, credential_id: UUID | None) -> None:
        """Make a credential of this provider the active one, or none.

        One of another provider or workspace fails with Conflict when the transaction is committed.
        """
        await self._connection.run(
            _PUT_ACTIVE, self._named(workspace_id, provider) | {"active_credential_id": credential_id}
        )

    async def set_preferred(self, workspace_id: UUID, provider: str, preferred: ProviderType | None) -> None:
        """Store the choice of a type, or that there is none."""
        chosen = preferred.value if preferred is not None else None
        await self._connection.run(_PUT_PREFERRED, self._named(workspace_id, provider) | {"preferred_type": chosen})

    async def set_refreshed(self, workspace_id: UUID, provider: str, at: datetime) -> None:
        """Store when the provider's own list of models was read."""
        await self._connection.run(_PUT_REFRESHED, self._named(workspace_id, provider) | {"models_refreshed_at": at})

    def _named(self, workspace_id: UUID, provider: str) -> dict[str, Any]:
        now = self._connection.now()
        return {"id": uuid7(), "workspace_id": workspace_id, "name": provider, "created_at": now, "updated_at": now}

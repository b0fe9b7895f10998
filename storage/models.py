"""Models as workspaces have them, their settings and the defaults, as rows."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Row,
    String,
    Table,
    UniqueConstraint,
    Uuid,
    delete,
    select,
)

from core.entities import ModelRow, ModelSetting, ModelSource
from core.ids import uuid7
from core.model_types import ModelKey, ModelType
from core.provider import Pricing, RemoteModel
from storage.base import Json, id_column, metadata, times, within
from storage.connection import Connection
from storage.engine import Upsert
from storage.pools import pools


def _key_columns() -> tuple[Column[Any], ...]:
    return (
        Column("workspace_id", Uuid, ForeignKey("workspaces.id", ondelete="CASCADE"), nullable=False),
        Column("provider", String(64), nullable=False),
        Column("name", String(200), nullable=False),
        Column("type", String(16), nullable=False),
    )


_KEY = ("workspace_id", "provider", "name", "type")

models = Table(
    "models",
    metadata,
    id_column(),
    *_key_columns(),
    Column("source", String(16), nullable=False),
    Column("label", String(200)),
    Column("active_credential_id", Uuid),
    Column("form_values", Json(dict[str, str]), nullable=False),
    Column("remote", Json(RemoteModel)),
    *times(),
    UniqueConstraint(*_KEY),
    ForeignKeyConstraint(
        [*_KEY, "active_credential_id"],
        [
            "credentials.workspace_id",
            "credentials.provider",
            "credentials.model_name",
            "credentials.model_type",
            "credentials.id",
        ],
        name="fk_models_active_credential",
        deferrable=True,
        initially="DEFERRED",
    ),
    Index(None, "active_credential_id"),
)

model_settings = Table(
    "model_settings",
    metadata,
    id_column(),
    *_key_columns(),
    Column("enabled", Boolean, nullable=False),
    Column("pricing", Json(Pricing)),
    *times(),
    UniqueConstraint(*_KEY),
)

default_models = Table(
    "default_models",
    metadata,
    id_column(),
    *_key_columns(),
    *times(),
    UniqueConstraint("workspace_id", "type"),
)

_MODELS = select(models).where(within(models))
_SETTINGS = select(model_settings).where(within(model_settings))
_DEFAULTS = select(default_models).where(within(default_models))
_PUT_MODEL = Upsert(
    models, key=_KEY, columns=("source", "label", "active_credential_id", "form_values", "remote", "updated_at")
)
_PUT_SETTING = Upsert(model_settings, key=_KEY, columns=("enabled", "pricing", "updated_at"))
_PUT_DEFAULT = Upsert(default_models, key=("workspace_id", "type"), columns=("provider", "name", "updated_at"))


async def of_workspace(connection: Connection, workspace_id: UUID) -> Mapping[ModelKey, ModelRow]:
    """Return the models that a workspace keeps rows of."""
    return {
        (key := _key(row)): ModelRow(
            key=key,
            source=ModelSource(row.source),
            label=row.label,
            active_credential_id=row.active_credential_id,
            form_values=row.form_values,
            remote=row.remote,
        )
        for row in await connection.rows(_MODELS, {"workspace": workspace_id})
    }


async def settings_of_workspace(connection: Connection, workspace_id: UUID) -> Mapping[ModelKey, ModelSetting]:
    """Return the switches and prices that a workspace set."""
    return {
        (key := _key(row)): ModelSetting(key=key, enabled=row.enabled, pricing=row.pricing)
        for row in await connection.rows(_SETTINGS, {"workspace": workspace_id})
    }


async def defaults_of_workspace(connection: Connection, workspace_id: UUID) -> Mapping[ModelType, ModelKey]:
    """Return the default model of each type."""
    rows = await connection.rows(_DEFAULTS, {"workspace": workspace_id})
    return {ModelType(row.type): _key(row) for row in rows}


class SqlModels:
    """The models of one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def put(self, workspace_id: UUID, row: ModelRow) -> None:
        """Insert the row or replace all but its key of the one there."""
        await self._connection.run(
            _PUT_MODEL,
            self._named(workspace_id, row.key)
            | {
                "source": row.source.value,
                "label": row.label,
                "active_credential_id": row.active_credential_id,
                "form_values": dict(row.form_values),
                "remote": row.remote,
            },
        )

    async def delete(self, workspace_id: UUID, key: ModelKey) -> None:
        """Delete the row with its setting, its pool and its place as a default; its credentials stay."""
        for table in (models, model_settings, default_models, pools):
            await self._connection.run(delete(table).where(*_is(table, workspace_id, key)))

    async def put_setting(self, workspace_id: UUID, setting: ModelSetting) -> None:
        """Set the switch and price of a model."""
        await self._connection.run(
            _PUT_SETTING,
            self._named(workspace_id, setting.key) | {"enabled": setting.enabled, "pricing": setting.pricing},
        )

    async def put_default(self, workspace_id: UUID, model_type: ModelType, key: ModelKey | None) -> None:
        """Set the default of the type; None clears it."""
        if key is not None:
            await self._connection.run(_PUT_DEFAULT, self._named(workspace_id, key) | {"type": model_type.value})
            return
        of_type = default_models.c.type == model_type.value
        await self._connection.run(delete(default_models).where(within(default_models, workspace_id), of_type))

    def _named(self, workspace_id: UUID, key: ModelKey) -> dict[str, Any]:
        now = self._connection.now()
        return {
            "id": uuid7(),
            "workspace_id": workspace_id,
            "provider": key.provider,
            "name": key.name,
            "type": key.type.value,
            "created_at": now,
            "updated_at": now,
        }


def _is(table: Table, workspace_id: UUID, key: ModelKey) -> tuple[ColumnElement[bool], ...]:
    columns = table.c
    return (
        within(table, workspace_id),
        columns.provider == key.provider,
        columns.name == key.name,
        columns.type == key.type.value,
    )


def _key(row: Row[Any]) -> ModelKey:
    return ModelKey(provider=row.provider, name=row.name, type=ModelType(row.type))

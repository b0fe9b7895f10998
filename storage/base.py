"""What all tables share: the metadata with its constraint names, column types, and the tenant predicate."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import (
    BindParameter,
    Column,
    ColumnElement,
    DateTime,
    Dialect,
    MetaData,
    Table,
    Text,
    Uuid,
    bindparam,
)
from sqlalchemy.types import TypeDecorator

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC on both engines; a value without a zone is refused."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the moment in UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be stored")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the moment in UTC; SQLite gives it back without a zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Json(TypeDecorator[Any]):
    """A value of one type as JSON text, encoded and decoded by msgspec; None is NULL."""

    impl = Text
    cache_ok = True

    def __init__(self, shape: Any) -> None:
        super().__init__()
        self.shape = shape
        self._decode: Callable[[str], Any] = msgspec.json.Decoder(shape).decode

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Return the value as JSON text."""
        return None if value is None else msgspec.json.encode(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """Return the value that the text stands for."""
        return None if value is None else self._decode(value)


class Attos(TypeDecorator[int]):
    """Money as a whole number of attos; text on both engines, since neither has a number so long in common."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> str | None:
        """Return the number as text."""
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> int | None:
        """Return the number that the text stands for."""
        return None if value is None else int(value)


def id_column() -> Column[UUID]:
    """Return the key that every row has: a UUID version 7, given by the caller."""
    return Column("id", Uuid, primary_key=True)


def times() -> tuple[Column[datetime], Column[datetime]]:
    """Return `created_at` and `updated_at`."""
    return Column("created_at", UtcDateTime, nullable=False), Column("updated_at", UtcDateTime, nullable=False)


def within(table: Table, workspace: UUID | BindParameter[UUID] | None = None) -> ColumnElement[bool]:
    """Return the predicate that keeps a statement inside one workspace; without a value, of parameter `workspace`."""
    value = bindparam("workspace", type_=Uuid) if workspace is None else workspace
    return table.c.workspace_id == value

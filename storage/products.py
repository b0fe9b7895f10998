"""What the operator sells, and sold, as rows."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Row,
    String,
    Table,
    Text,
    UniqueConstraint,
    select,
    update,
)

from core.entities import Product, QuotaUnit
from storage.base import id_column, metadata, times
from storage.connection import Connection
from storage.engine import Upsert

# `key` is its name in the operator's file; `provider` is empty where every hosted one is meant.
products = Table(
    "products",
    metadata,
    id_column(),
    Column("key", String(64), nullable=False),
    Column("provider", String(64), nullable=False),
    Column("name", String(100), nullable=False),
    Column("description", Text, nullable=False),
    Column("quota_amount", BigInteger, nullable=False),
    Column("unit", String(16), nullable=False),
    Column("price", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("listed", Boolean, nullable=False),
    Column("available", Boolean, nullable=False),
    *times(),
    UniqueConstraint("key"),
    CheckConstraint("quota_amount > 0 AND price > 0", name="has_positive_amounts"),
)

_CHANGING = ("provider", "name", "description", "quota_amount", "unit", "price", "currency", "listed", "available")
_KEEP = Upsert(products, key=("key",), columns=(*_CHANGING, "updated_at"))


class SqlProducts:
    """The products of one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def all(self) -> Sequence[Product]:
        """Return every product that ever was, oldest first."""
        return [_product(row) for row in await self._connection.rows(select(products).order_by(products.c.id))]

    async def get_many(self, product_ids: Sequence[UUID]) -> Mapping[UUID, Product]:
        """Return those that exist, by id."""
        rows = await self._connection.rows(select(products).where(products.c.id.in_(product_ids)))
        return {row.id: _product(row) for row in rows}

    async def keep(self, product: Product) -> None:
        """Insert it, or change the one of its key; that keeps its id."""
        now = self._connection.now()
        row = {name: getattr(product, name) for name in ("id", "key", *_CHANGING)}
        row |= {"provider": product.provider or "", "unit": product.unit.value, "created_at": now, "updated_at": now}
        await self._connection.run(_KEEP, row)

    async def withdraw(self, product_id: UUID) -> None:
        """List and sell it no more."""
        values = {"listed": False, "available": False, "updated_at": self._connection.now()}
        await self._connection.run(update(products).where(products.c.id == product_id).values(values))


def _product(row: Row[Any]) -> Product:
    return Product(
        id=row.id,
        key=row.key,
        provider=row.provider or None,
        name=row.name,
        description=row.description,
        quota_amount=row.quota_amount,
        unit=QuotaUnit(row.unit),
        price=row.price,
        currency=row.currency,
        listed=row.listed,
        available=row.available,
    )

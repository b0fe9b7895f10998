"""What is stored of products."""

from collections.abc import Mapping, Sequence
from typing import Protocol
from uuid import UUID

from core.entities import Product


class Products(Protocol):
    """What the operator sells, and sold."""

    async def all(self) -> Sequence[Product]:
        """Return every product that ever was, oldest first."""
        ...

    async def get_many(self, product_ids: Sequence[UUID]) -> Mapping[UUID, Product]: ...
    async def keep(self, product: Product) -> None:
        """Insert it, or change the one of its key; that keeps its id."""
        ...

    async def withdraw(self, product_id: UUID) -> None:
        """List and sell it no more."""
        ...

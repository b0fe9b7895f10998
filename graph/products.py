"""Products: what the operator sells to a workspace."""

from collections.abc import Sequence
from uuid import UUID

import strawberry

from core import entities
from graph import ids
from graph.context import Context
from graph.scalars import BigInt
from graph.types import Node, object_type, resolved
from graph.values import QuotaUnit


@object_type
class Product(Node):
    """An amount of quota for a price, as a workspace may order it."""

    product: strawberry.Private[entities.Product]
    workspace_id: strawberry.Private[UUID]

    @resolved
    def id(self) -> strawberry.ID:
        """The product's id in this workspace; it stays when the product changes."""
        return ids.encode("Product", self.workspace_id, self.product.id)

    @resolved
    def provider(self) -> str | None:
        """The name of the provider that it is for; null: for every hosted one."""
        return self.product.provider

    @resolved
    def name(self) -> str:
        """Its name."""
        return self.product.name

    @resolved
    def description(self) -> str:
        """What it is, in words."""
        return self.product.description

    @resolved
    def quota_amount(self) -> BigInt:
        """How much quota one of it adds."""
        return self.product.quota_amount

    @resolved
    def unit(self) -> QuotaUnit:
        """What that quota counts."""
        return self.product.unit

    @resolved
    def price(self) -> BigInt:
        """What one of it costs, in minor units of the currency."""
        return self.product.price

    @resolved
    def currency(self) -> str:
        """The currency, by its ISO 4217 code."""
        return self.product.currency

    @resolved
    def available(self) -> bool:
        """Whether it may be ordered now."""
        return self.product.available


async def product_list(context: Context, workspace_id: UUID, provider: str | None) -> list[Product]:
    """Return what is sold to a workspace, in the order of the operator's file; shared products too."""
    async with context.app.storage.read() as tx:
        found: Sequence[entities.Product] = await tx.products.all()
    name = (context.app.catalog.canonical(provider) or provider) if provider is not None else None
    order = {offer.key: number for number, offer in enumerate(context.app.offers)}
    return [
        Product(product=one, workspace_id=workspace_id)
        for one in sorted(found, key=lambda one: order.get(one.key, len(order)))
        if one.listed and (name is None or one.provider in {None, name})
    ]

"""What the operator sells: the file of products, checked against the catalog and what is hosted."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Annotated

import msgspec

from core.catalog import Catalog
from core.currencies import CURRENCIES
from core.entities import Product, QuotaUnit
from core.hosted import MAX_AMOUNT
from core.ids import uuid7
from core.operator_files import OperatorFile, entries_of
from core.settings import SettingsError

_Amount = Annotated[int, msgspec.Meta(ge=1, le=MAX_AMOUNT)]


class _Product(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A product of the file. `price` is in minor units; `provider` left out: for every hosted one."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    description: Annotated[str, msgspec.Meta(max_length=1000)] = ""
    provider: str | None = None
    unit: QuotaUnit
    quota_amount: _Amount
    price: _Amount
    currency: str
    available: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A product as the file has it, by its name there; `provider` is the canonical one."""

    key: str
    provider: str | None
    product: _Product

    def applied(self, to: Product | None) -> Product:
        """Return the product as the file wants it; its id never changes."""
        given = self.product
        return Product(
            id=to.id if to is not None else uuid7(),
            key=self.key,
            provider=self.provider,
            name=given.name,
            description=given.description,
            quota_amount=given.quota_amount,
            unit=given.unit,
            price=given.price,
            currency=given.currency,
            listed=True,
            available=given.available,
        )


def offers_of(given: OperatorFile, catalog: Catalog, hosted: Collection[str]) -> tuple[Offer, ...]:
    """Return the products of the operator's file, in its order.

    Raises:
        SettingsError: something in the file is wrong; each fault is a line that names its place.
    """
    entries, wrong = entries_of(given, "products", _Product)
    wrong += [line for key, product in entries.items() for line in _problems(key, product, catalog, hosted)]
    if wrong:
        raise SettingsError("\n".join(f"MODELYARD_PRODUCTS ({given.path}): {line}." for line in wrong))
    return tuple(
        Offer(key=key, provider=catalog.canonical(product.provider) if product.provider else None, product=product)
        for key, product in entries.items()
    )


def _problems(key: str, product: _Product, catalog: Catalog, hosted: Collection[str]) -> Iterator[str]:
    """Yield what is wrong with a product whose keys and types are right."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", key):
        yield f"products.{key}: a product's key has 1 to 64 letters, digits, dots, dashes or underlines"
    if product.currency not in CURRENCIES:
        yield f"products.{key}.currency: {product.currency!r} is no ISO 4217 code, such as EUR"
    if product.provider is None:
        return
    name = catalog.canonical(product.provider)
    if name is None:
        yield f"products.{key}.provider: there is no provider {product.provider!r}"
    elif name not in hosted:
        yield (
            f"products.{key}.provider: {name} is not hosted here, so nobody could use what they buy: "
            "host it by MODELYARD_HOSTED, or leave `provider` out for all hosted ones"
        )

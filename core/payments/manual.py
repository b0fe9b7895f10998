"""The gateway `manual`: money moves somewhere else, and an operator says so."""

from collections.abc import Mapping

from core.entities import Order, PaymentEvent, Product, Refund
from core.errors import Forbidden, PaymentFailed
from core.gateway import Checkout

_REFUSAL = "This gateway moves no money: an operator says what was paid."


class Manual:
    """Orders are paid by `markOrderPaid`."""

    name = "manual"
    is_offline = True

    async def open_checkout(self, order: Order, product: Product) -> Checkout:
        """Refuse: there is no page to pay on."""
        raise PaymentFailed(_REFUSAL)

    async def close_checkout(self, payment_id: str) -> None:
        """Refuse: there is no page to pay on."""
        raise PaymentFailed(_REFUSAL)

    async def refund(self, order: Order, refund: Refund) -> int | None:
        """Refuse: an operator pays back by hand."""
        raise PaymentFailed(_REFUSAL)

    def event_of(self, body: bytes, headers: Mapping[str, str]) -> PaymentEvent | None:
        """Refuse: nobody reports to this gateway."""
        raise Forbidden(_REFUSAL)

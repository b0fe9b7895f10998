"""What a payment gateway is: what core asks of it, and what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from core.entities import Order, PaymentEvent, Product, Refund


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """Where an order is paid: the gateway's id of it, and the page to send the payer to."""

    payment_id: str
    url: str | None


class Gateway(Protocol):
    """A way to pay. Every request carries a key of its order or refund, so that a repeat does nothing twice.

    An `is_offline` one moves no money: an operator says what was paid and refunded, and none of its methods is called.
    """

    name: str
    is_offline: bool

    async def open_checkout(self, order: Order, product: Product) -> Checkout:
        """Return where the order is paid; a repeat returns the same.

        Raises:
            PaymentFailed: the gateway refuses the order.
            ServerUnavailable: it does not answer now.
        """
        ...

    async def close_checkout(self, payment_id: str) -> None:
        """Take no payment there any more. Raises as `open_checkout`."""
        ...

    async def refund(self, order: Order, refund: Refund) -> int | None:
        """Pay back; return all that was refunded of the order so far, None where that is not known.

        Raises:
            PaymentFailed: the gateway refuses it.
            ServerUnavailable: it does not answer now, and may have done it.
        """
        ...

    def event_of(self, body: bytes, headers: Mapping[str, str]) -> PaymentEvent | None:
        """Return what a request to the webhook tells; None where that is nothing of concern.

        Raises:
            Forbidden: the gateway has not signed it, or not now.
            InvalidInput: it is signed and cannot be read.
        """
        ...

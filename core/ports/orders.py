"""What is stored of orders and refunds."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from core.entities import Order, OrderStatus, Refund, Refunds, RefundState
from core.ports.paging import PageRequest, Slice


class Orders(Protocol):
    """Purchases of quota, and the refunds that were asked for."""

    async def insert(self, order: Order) -> None: ...
    async def get_many(self, order_ids: Sequence[UUID]) -> Mapping[UUID, Order]: ...
    async def locked(self, order_id: UUID) -> Order | None:
        """Return an order that nobody else changes before the transaction ends."""
        ...

    async def find(
        self, gateway: str, *, payment_id: str | None = None, transaction_id: str | None = None
    ) -> Order | None:
        """Return the order that a gateway knows by its id of the payment, else of the transaction."""
        ...

    async def page(
        self, workspace_id: UUID, page: PageRequest, *, provider: str | None, statuses: Sequence[OrderStatus] | None
    ) -> Slice[Order]:
        """Return the orders of a workspace, newest first."""
        ...

    async def move(self, before: Order, after: Order) -> bool:
        """Write what has become of an order, unless it is no longer as it was before; tell whether it was written.

        AlreadyExists if another order of the gateway has its transaction.
        """
        ...

    async def set_checkout(self, order_id: UUID, payment_id: str, url: str | None) -> bool:
        """Write where an order is paid, unless that is known, or it waits no more; tell whether it was written."""
        ...

    async def set_problem(self, order_id: UUID, problem: str) -> None: ...
    async def expired(self, *, limit: int) -> Sequence[Order]:
        """Return orders that wait for payment and may not any more."""
        ...

    async def without_checkout(self, before: datetime, gateways: Sequence[str], *, limit: int) -> Sequence[Order]:
        """Return orders of these gateways that wait since a time, and nobody knows where they are paid."""
        ...

    async def insert_refund(self, refund: Refund) -> None: ...
    async def refund(self, refund_id: UUID) -> Refund | None: ...
    async def refunds(self, order_id: UUID) -> Refunds:
        """Return what the refunds of an order come to that were made."""
        ...

    async def requested(self, order_id: UUID) -> int:
        """Return how much is asked back for an order and neither done nor refused."""
        ...

    async def end_refund(self, refund_id: UUID, state: RefundState, problem: str | None = None) -> bool:
        """End a refund that is under way; tell whether it was."""
        ...

    async def tell_refund(self, refund_id: UUID, state: RefundState, problem: str | None = None) -> None:
        """Write what a gateway says of a refund, whatever was thought of it before."""
        ...

    async def unfinished_refunds(self, before: datetime, *, limit: int) -> Sequence[Refund]:
        """Return refunds that are under way since a time."""
        ...

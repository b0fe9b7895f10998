"""What is stored of the events of gateways."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from core.entities import EventState, Order, PaymentEvent


class PaymentEvents(Protocol):
    """What gateways have told, each event once."""

    async def insert(self, event: PaymentEvent) -> bool:
        """Insert unless the gateway has told of it before; tell whether it was inserted."""
        ...

    async def get(self, event_id: UUID) -> PaymentEvent | None: ...
    async def end(self, event_id: UUID, state: EventState, note: str | None) -> bool:
        """Say what became of an event that is still to be applied; tell whether it was."""
        ...

    async def waiting(self, gateway: str, order: Order) -> Sequence[UUID]:
        """Return the events of an order that wait for another."""
        ...

    async def unfinished(self, since: datetime, before: datetime, *, limit: int) -> Sequence[UUID]:
        """Return the events still to be applied that were told since a time and last tried before another."""
        ...

"""The inbox of payment gateways: what they have told, each event once, as rows."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Row,
    String,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    delete,
    literal_column,
    or_,
    select,
    update,
)

from core.entities import EventState, Order, PaymentEvent, PaymentKind
from storage.base import UtcDateTime, id_column, metadata, times
from storage.connection import Connection
from storage.engine import Upsert

_IS_OPEN = literal_column("state IN ('RECEIVED', 'WAITING')", Boolean)

# An event outlives the order that it names, so that it is never taken twice.
payment_events = Table(
    "payment_events",
    metadata,
    id_column(),
    Column("gateway", String(32), nullable=False),
    Column("event_id", String(255), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("order_id", Uuid),
    Column("payment_id", String(255)),
    Column("transaction_id", String(255)),
    Column("amount", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("refund_id", Uuid),
    Column("state", String(16), nullable=False),
    Column("note", Text),
    Column("ended_at", UtcDateTime),
    *times(),
    UniqueConstraint("gateway", "event_id"),
    Index("ix_payment_events_open", "created_at", sqlite_where=_IS_OPEN, postgresql_where=_IS_OPEN),
    Index(None, "ended_at"),
)

_INSERT = Upsert(payment_events, key=("gateway", "event_id"))
_TOLD = (
    "id", "gateway", "event_id", "order_id", "payment_id", "transaction_id", "amount", "currency", "refund_id", "note",
)  # fmt: skip


class SqlPaymentEvents:
    """The events of one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def insert(self, event: PaymentEvent) -> bool:
        """Insert unless the gateway has told of it before; tell whether it was inserted."""
        now = self._connection.now()
        row: dict[str, Any] = {name: getattr(event, name) for name in _TOLD}
        row |= {"kind": event.kind.value, "state": event.state.value, "ended_at": None}
        return await self._connection.run(_INSERT, row | {"created_at": now, "updated_at": now}) == 1

    async def get(self, event_id: UUID) -> PaymentEvent | None:
        """Return an event."""
        row = await self._connection.row(select(payment_events).where(payment_events.c.id == event_id))
        return None if row is None else _event(row)

    async def end(self, event_id: UUID, state: EventState, note: str | None) -> bool:
        """Say what became of an event that is still to be applied; tell whether it was."""
        now = self._connection.now()
        ended = now if state not in {EventState.RECEIVED, EventState.WAITING} else None
        values = {"state": state.value, "note": note, "ended_at": ended, "updated_at": now}
        return await self._connection.run(
            update(payment_events).where(payment_events.c.id == event_id, _IS_OPEN).values(values)
        ) == 1  # fmt: skip

    async def waiting(self, gateway: str, order: Order) -> Sequence[UUID]:
        """Return the events of an order that wait for another."""
        columns = payment_events.c
        named = [columns.order_id == order.id]
        named += [columns.payment_id == order.payment_id] if order.payment_id is not None else []
        named += [columns.transaction_id == order.transaction_id] if order.transaction_id is not None else []
        waits = (columns.gateway == gateway, columns.state == EventState.WAITING.value, or_(*named))
        return [row.id for row in await self._connection.rows(select(columns.id).where(*waits).order_by(columns.id))]

    async def unfinished(self, since: datetime, before: datetime, *, limit: int) -> Sequence[UUID]:
        """Return the events still to be applied that were told since a time and last tried before another."""
        columns = payment_events.c
        statement = select(columns.id).where(_IS_OPEN, columns.created_at >= since, columns.updated_at < before)
        return [row.id for row in await self._connection.rows(statement.order_by(columns.updated_at).limit(limit))]


async def prune(connection: Connection, before: datetime, *, limit: int) -> int:
    """Delete events that ended before a time, or wait since then for what never came; return how many."""
    is_late = _IS_OPEN & (payment_events.c.created_at < before)
    old = select(payment_events.c.id).where((payment_events.c.ended_at < before) | is_late).limit(limit)
    return await connection.run(delete(payment_events).where(payment_events.c.id.in_(old)))


def _event(row: Row[Any]) -> PaymentEvent:
    told = {name: getattr(row, name) for name in _TOLD}
    return PaymentEvent(**told, kind=PaymentKind(row.kind), state=EventState(row.state))

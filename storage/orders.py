"""Purchases of quota, and their refunds, as rows."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    Row,
    String,
    Table,
    Text,
    Uuid,
    func,
    insert,
    literal_column,
    select,
    update,
)

from core.entities import Dispute, Order, OrderStatus, QuotaUnit, Refund, Refunds, RefundState
from core.ports.paging import PageRequest, Slice
from storage import paging
from storage.base import UtcDateTime, id_column, metadata, times, within
from storage.connection import Connection

_WAITS = literal_column("status = 'WAIT_PAY'", Boolean)
_IS_KNOWN = literal_column("transaction_id IS NOT NULL", Boolean)
_IS_OPEN = literal_column("state = 'REQUESTED'", Boolean)

# What it is of is kept as it was when it was ordered. `provider` is empty where every hosted one is meant.
orders = Table(
    "orders",
    metadata,
    id_column(),
    Column("workspace_id", Uuid, ForeignKey("workspaces.id", ondelete="CASCADE"), nullable=False),
    Column("account_id", Uuid),
    Column("product_id", Uuid, ForeignKey("products.id"), nullable=False),
    Column("provider", String(64), nullable=False),
    Column("unit", String(16), nullable=False),
    Column("quota_amount", BigInteger, nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("total_amount", BigInteger, nullable=False),
    Column("refunded", BigInteger, nullable=False),
    Column("lost", BigInteger, nullable=False),
    Column("gateway", String(32), nullable=False),
    Column("status", String(32), nullable=False),
    Column("dispute", String(16)),
    Column("quota_id", Uuid),
    Column("payment_id", String(255)),
    Column("transaction_id", String(255)),
    Column("checkout_url", Text),
    Column("problem", Text),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("paid_at", UtcDateTime),
    Column("failed_at", UtcDateTime),
    Column("refunded_at", UtcDateTime),
    Column("cancelled_at", UtcDateTime),
    *times(),
    CheckConstraint("total_amount > 0 AND quota_amount > 0", name="has_positive_amounts"),
    CheckConstraint("refunded >= 0 AND refunded <= total_amount", name="returns_no_more_than_was_paid"),
    Index(None, "workspace_id", "id"),
    Index(None, "product_id"),
    Index(None, "gateway", "payment_id"),
    Index(
        "uq_orders_transaction", "gateway", "transaction_id", unique=True,
        sqlite_where=_IS_KNOWN, postgresql_where=_IS_KNOWN,
    ),
    Index("ix_orders_waiting", "expires_at", sqlite_where=_WAITS, postgresql_where=_WAITS),
)  # fmt: skip

# Asked for here, or told of by the gateway, one by one.
order_refunds = Table(
    "order_refunds",
    metadata,
    id_column(),
    Column("order_id", Uuid, ForeignKey("orders.id", ondelete="CASCADE"), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("reason", Text),
    Column("account_id", Uuid),
    Column("state", String(16), nullable=False),
    Column("problem", Text),
    *times(),
    CheckConstraint("amount > 0", name="is_positive"),
    Index(None, "order_id"),
    Index("ix_order_refunds_open", "id", sqlite_where=_IS_OPEN, postgresql_where=_IS_OPEN),
)

_MOVING = (
    "refunded", "lost", "quota_id", "transaction_id", "problem", "paid_at", "failed_at", "refunded_at", "cancelled_at",
)  # fmt: skip
_FIXED = (
    "id", "workspace_id", "account_id", "product_id", "quota_amount", "quantity", "currency", "total_amount", "gateway",
    "payment_id", "checkout_url", "expires_at", "created_at",
)  # fmt: skip


class SqlOrders:
    """The orders of one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def insert(self, order: Order) -> None:
        """Insert an order."""
        row = {name: getattr(order, name) for name in _FIXED} | _moving(order)
        row |= {"provider": order.provider or "", "unit": order.unit.value, "updated_at": order.created_at}
        await self._connection.run(insert(orders).values(row))

    async def get_many(self, order_ids: Sequence[UUID]) -> Mapping[UUID, Order]:
        """Return those that exist, by id."""
        rows = await self._connection.rows(select(orders).where(orders.c.id.in_(order_ids)))
        return {row.id: _order(row) for row in rows}

    async def locked(self, order_id: UUID) -> Order | None:
        """Return an order that nobody else changes before the transaction ends."""
        row = await self._connection.row(select(orders).where(orders.c.id == order_id).with_for_update())
        return None if row is None else _order(row)

    async def find(
        self, gateway: str, *, payment_id: str | None = None, transaction_id: str | None = None
    ) -> Order | None:
        """Return the order that a gateway knows by its id of the payment, else of the transaction."""
        for column, value in ((orders.c.payment_id, payment_id), (orders.c.transaction_id, transaction_id)):
            if value is None:
                continue
            row = await self._connection.row(select(orders).where(orders.c.gateway == gateway, column == value))
            if row is not None:
                return _order(row)
        return None

    async def page(
        self, workspace_id: UUID, page: PageRequest, *, provider: str | None, statuses: Sequence[OrderStatus] | None
    ) -> Slice[Order]:
        """Return the orders of a workspace, newest first."""
        conditions = [within(orders, workspace_id)]
        if provider is not None:
            conditions.append(orders.c.provider == provider)
        if statuses is not None:
            conditions.append(orders.c.status.in_([status.value for status in statuses]))
        rows, has_next, has_previous, total = await paging.fetch(
            self._connection, orders, conditions, page, newest_first=True
        )
        return Slice(items=[_order(row) for row in rows], has_next=has_next, has_previous=has_previous, total=total)

    async def move(self, before: Order, after: Order) -> bool:
        """Write what has become of an order, unless it is no longer as it was before; tell whether it was written.

        AlreadyExists if another order of the gateway has its transaction.
        """
        dispute = orders.c.dispute
        same = (
            orders.c.id == before.id,
            orders.c.status == before.status.value,
            orders.c.refunded == before.refunded,
            orders.c.lost == before.lost,
            dispute.is_(None) if before.dispute is None else dispute == before.dispute.value,
        )
        values = _moving(after) | {"updated_at": self._connection.now()}
        return await self._connection.run(update(orders).where(*same).values(values)) == 1

    async def set_checkout(self, order_id: UUID, payment_id: str, url: str | None) -> bool:
        """Write where an order is paid, unless that is known, or it waits no more; tell whether it was written."""
        waits = (orders.c.id == order_id, orders.c.status == OrderStatus.WAIT_PAY.value, orders.c.payment_id.is_(None))
        values = {"payment_id": payment_id, "checkout_url": url, "updated_at": self._connection.now()}
        return await self._connection.run(update(orders).where(*waits).values(values)) == 1

    async def set_problem(self, order_id: UUID, problem: str) -> None:
        """Write what went wrong."""
        values = {"problem": problem, "updated_at": self._connection.now()}
        await self._connection.run(update(orders).where(orders.c.id == order_id).values(values))

    async def expired(self, *, limit: int) -> Sequence[Order]:
        """Return orders that wait for payment and may not any more."""
        statement = select(orders).where(_WAITS, orders.c.expires_at <= self._connection.now())
        return [_order(row) for row in await self._connection.rows(statement.order_by(orders.c.id).limit(limit))]

    async def without_checkout(self, before: datetime, gateways: Sequence[str], *, limit: int) -> Sequence[Order]:
        """Return orders of these gateways that wait since a time, and nobody knows where they are paid."""
        columns = orders.c
        statement = select(orders).where(
            _WAITS, columns.payment_id.is_(None), columns.gateway.in_(gateways), columns.created_at < before
        )
        return [_order(row) for row in await self._connection.rows(statement.order_by(columns.id).limit(limit))]

    async def insert_refund(self, refund: Refund) -> None:
        """Insert a refund."""
        now, names = self._connection.now(), ("id", "order_id", "amount", "reason", "account_id", "problem")
        row = {name: getattr(refund, name) for name in names}
        row |= {"state": refund.state.value, "created_at": now, "updated_at": now}
        await self._connection.run(insert(order_refunds).values(row))

    async def refund(self, refund_id: UUID) -> Refund | None:
        """Return a refund."""
        row = await self._connection.row(select(order_refunds).where(order_refunds.c.id == refund_id))
        return None if row is None else _refund(row)

    async def refunds(self, order_id: UUID) -> Refunds:
        """Return what the refunds of an order come to that were made."""
        columns = order_refunds.c
        made = [RefundState.DONE.value, RefundState.RETURNED.value]
        statement = select(columns.state, func.sum(columns.amount).label("amount"))
        rows = await self._connection.rows(
            statement.where(columns.order_id == order_id, columns.state.in_(made)).group_by(columns.state)
        )
        found = {row.state: int(row.amount) for row in rows}
        return Refunds(made=sum(found.values()), returned=found.get(RefundState.RETURNED.value, 0))

    async def requested(self, order_id: UUID) -> int:
        """Return how much is asked back for an order and neither done nor refused."""
        columns = order_refunds.c
        row = await self._connection.row(
            select(func.coalesce(func.sum(columns.amount), 0)).where(columns.order_id == order_id, _IS_OPEN)
        )
        return int(row[0]) if row is not None else 0

    async def end_refund(self, refund_id: UUID, state: RefundState, problem: str | None = None) -> bool:
        """End a refund that is under way; tell whether it was."""
        values = {"state": state.value, "problem": problem, "updated_at": self._connection.now()}
        return await self._connection.run(
            update(order_refunds).where(order_refunds.c.id == refund_id, _IS_OPEN).values(values)
        ) == 1  # fmt: skip

    async def tell_refund(self, refund_id: UUID, state: RefundState, problem: str | None = None) -> None:
        """Write what a gateway says of a refund, whatever was thought of it before."""
        values = {"state": state.value, "problem": problem, "updated_at": self._connection.now()}
        await self._connection.run(update(order_refunds).where(order_refunds.c.id == refund_id).values(values))

    async def unfinished_refunds(self, before: datetime, *, limit: int) -> Sequence[Refund]:
        """Return refunds that are under way since a time."""
        columns = order_refunds.c
        statement = select(order_refunds).where(_IS_OPEN, columns.created_at < before).order_by(columns.id)
        return [_refund(row) for row in await self._connection.rows(statement.limit(limit))]


def _moving(order: Order) -> dict[str, Any]:
    values = {name: getattr(order, name) for name in _MOVING}
    return values | {
        "status": order.status.value,
        "dispute": order.dispute.value if order.dispute is not None else None,
    }


def _order(row: Row[Any]) -> Order:
    return Order(
        **{name: getattr(row, name) for name in (*_FIXED, *_MOVING)},
        provider=row.provider or None,
        unit=QuotaUnit(row.unit),
        status=OrderStatus(row.status),
        dispute=Dispute(row.dispute) if row.dispute is not None else None,
    )


def _refund(row: Row[Any]) -> Refund:
    return Refund(
        id=row.id,
        order_id=row.order_id,
        amount=row.amount,
        reason=row.reason,
        account_id=row.account_id,
        state=RefundState(row.state),
        problem=row.problem,
    )

"""Orders at their gateways: where they are paid, what is paid back, and what is finished or given up later."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

from core.app import App
from core.changes import ChangeKind
from core.entities import Order, OrderStatus, Product, Refund, RefundState
from core.errors import PaymentFailed, ServerUnavailable
from core.order_booking import book, book_refund, locked_order, order_news
from core.order_states import Step, after
from core.ports.quotas import Note

log = logging.getLogger(__name__)

UNFINISHED = timedelta(minutes=1)
"""How long whoever began with a gateway may take before a worker goes on with it."""
_GROUP = 200


async def finish_refund(app: App, refund: Refund) -> Order:
    """Let the gateway pay back what was asked for, and book what it answers; a repeat does nothing twice.

    Where the gateway does not answer now, a worker asks again.

    Raises:
        PaymentFailed: the gateway refuses it; nothing is booked.
    """
    async with app.storage.read() as tx:
        order = (await tx.orders.get_many([refund.order_id]))[refund.order_id]
    if refund.state in {RefundState.FAILED, RefundState.RETURNED}:
        raise PaymentFailed(refund.problem or "The gateway has refused this refund.")
    gateway = app.gateways.get(order.gateway)
    if refund.state is RefundState.DONE or gateway is None:
        return order
    try:
        total = await gateway.refund(order, refund)
    except ServerUnavailable as error:
        log.warning("the refund %s of order %s waits: %s", refund.id, order.id, error)
        return order
    except PaymentFailed as error:
        async with app.storage.transaction() as tx:
            await tx.orders.end_refund(refund.id, RefundState.FAILED, error.message)
        raise
    async with app.storage.transaction() as tx:
        await tx.workspaces.touch(order.workspace_id)
        before = await locked_order(tx, order.id)
        return await book_refund(app, tx, before, refund, total or 0)


async def with_checkout(app: App, order: Order, product: Product) -> Order:
    """Return an order with the page where it is paid, which is made if it has none yet.

    Where the gateway does not answer now, a worker asks again.

    Raises:
        PaymentFailed: the gateway refuses the order, which is FAILED then.
    """
    gateway = app.gateways.get(order.gateway)
    if order.status is OrderStatus.FAILED and order.payment_id is None:
        raise PaymentFailed(order.problem or "The gateway has refused this order.")
    if gateway is None or gateway.is_offline or order.payment_id is not None or order.status != OrderStatus.WAIT_PAY:
        return order
    try:
        checkout = await gateway.open_checkout(order, product)
    except ServerUnavailable as error:
        log.warning("the checkout of order %s waits: %s", order.id, error)
        return order
    except PaymentFailed as error:
        await _fail(app, order, error.message)
        raise
    async with app.storage.transaction() as tx:
        if await tx.orders.set_checkout(order.id, checkout.payment_id, checkout.url):
            tx.news.add(order_news(order, ChangeKind.UPDATED))
        now = (await tx.orders.get_many([order.id])).get(order.id)
    if now is None or now.status is OrderStatus.CANCELLED:
        await close_checkout(app, order, checkout.payment_id)
    return now or order


async def expire_orders(app: App) -> int:
    """Cancel the orders that were not paid in time; return how many."""
    expired = 0
    while True:
        async with app.storage.transaction() as tx:
            found = await tx.orders.expired(limit=_GROUP)
            for before in found:
                moved = after(before, Step.CANCEL, app.clock.now())
                if moved is not None and await tx.orders.move(before, moved):
                    tx.news.add(order_news(moved, ChangeKind.UPDATED))
                    expired += 1
        if len(found) < _GROUP:
            return expired


async def mend_orders(app: App) -> int:
    """Go on where a process has ended between an order or a refund and its gateway; return how many were mended."""
    before, mended = app.clock.now() - UNFINISHED, 0
    online = [name for name, gateway in app.gateways.items() if not gateway.is_offline]
    async with app.storage.read() as tx:
        orders = await tx.orders.without_checkout(before, online, limit=_GROUP)
        products = await tx.products.get_many([order.product_id for order in orders])
        refunds = await tx.orders.unfinished_refunds(before, limit=_GROUP)
    for order in orders:
        mended += await _mended(with_checkout, app, order, products[order.product_id])
    for refund in refunds:
        mended += await _mended(finish_refund, app, refund)
    return mended


async def close_checkout(app: App, order: Order, payment_id: str) -> None:
    """Let nobody pay a cancelled order; where that fails, who pays is credited all the same."""
    gateway = app.gateways.get(order.gateway)
    if gateway is None or gateway.is_offline:
        return
    try:
        await gateway.close_checkout(payment_id)
    except (PaymentFailed, ServerUnavailable) as error:
        log.warning("the checkout of the cancelled order %s stays open until it expires: %s", order.id, error)


async def _fail(app: App, order: Order, problem: str) -> None:
    async with app.storage.transaction() as tx:
        before = await locked_order(tx, order.id)
        moved = after(before, Step.FAIL, app.clock.now())
        if moved is not None:
            await book(app, tx, before, replace(moved, problem=problem), Note())


async def _mended(work: Callable[..., Awaitable[Order]], *given: object) -> int:
    try:
        await work(*given)
    except PaymentFailed as error:
        log.warning("a payment gateway refuses: %s", error.message)
    return 1

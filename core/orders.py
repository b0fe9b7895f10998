"""Use cases of orders: order quota, cancel, mark as paid, refund."""

from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

from core.access import Permission, Viewer, require, workspace_of
from core.app import App
from core.audit import changes
from core.changes import ChangeKind
from core.checkouts import close_checkout, finish_refund, with_checkout
from core.entities import Order, OrderStatus, Product, Refund
from core.errors import AlreadyExists, Conflict, InvalidInput, NotFound
from core.gateway import Gateway
from core.hosted import MAX_AMOUNT
from core.ids import uuid7
from core.order_booking import book, book_refund, check_quota, locked_order, no_order, order_news, paid_quota
from core.order_states import PAID_ONCE, Step, after, returned
from core.ports.quotas import Note
from core.quotas import MAX_NOTE, claimed, once_key

MAX_QUANTITY = 10_000
MAX_TRANSACTION = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOrder:
    """What is ordered. `gateway` None: the first that is enabled."""

    workspace_id: UUID | None
    product_workspace_id: UUID
    product_id: UUID
    quantity: int
    gateway: str | None
    idempotency_key: str | None


async def create_order(app: App, viewer: Viewer, new: NewOrder) -> Order:
    """Order a product. The same key and input give the same order again.

    Raises:
        NotFound: there is no such workspace, or no such product in it.
        InvalidInput: it is not sold, the quantity or gateway is not in order, or the workspace's paid quota counts
            something else.
        Conflict: the key was used for something else.
        PaymentFailed: the gateway refuses the order, which is FAILED then.
    """
    workspace_id = workspace_of(viewer, new.workspace_id)
    require(viewer, workspace_id, Permission.ORDER_MANAGE)
    gateway = _gateway(app, new.gateway)
    if new.product_workspace_id != workspace_id:
        raise _no_product()
    if not 1 <= new.quantity <= MAX_QUANTITY:
        raise InvalidInput(f"A quantity is 1 to {MAX_QUANTITY:,}.", path=("quantity",))
    order_id = uuid7()
    async with app.storage.transaction() as tx:
        if new.idempotency_key is not None:
            given = (str(new.product_id), new.quantity, new.gateway)
            key = once_key(viewer, workspace_id, "createOrder", new.idempotency_key, given, order_id)
            repeated = await claimed(tx, key)
            if repeated is not None:
                order_id = repeated
        order = (await tx.orders.get_many([order_id])).get(order_id)
        product = (await tx.products.get_many([new.product_id])).get(new.product_id)
        if product is None:
            raise _no_product()
        if order is None:
            order = _order(app, viewer, workspace_id, order_id, product, gateway, new.quantity)
            check_quota(order, await paid_quota(tx, order), path=("productId",))
            await tx.orders.insert(order)
            await tx.audit.add(
                workspace_id=workspace_id,
                viewer=viewer,
                action="order.create",
                subject=f"Order:{order_id}",
                summary=f"Ordered {new.quantity} × {product.name} for {_money(order.total_amount, order)}",
                changes=changes(status=(None, order.status)),
            )
            tx.news.add(order_news(order, ChangeKind.CREATED))
    return await with_checkout(app, order, product)


async def cancel_order(app: App, viewer: Viewer, order_id: UUID) -> Order:
    """Cancel an order that waits for payment. A second time changes nothing.

    Raises:
        NotFound: there is no such order of a workspace that the viewer sees.
        Conflict: it does not wait any more.
    """
    found = await _seen(app, viewer, order_id, Permission.ORDER_MANAGE)
    async with app.storage.transaction() as tx:
        before = await locked_order(tx, order_id)
        if before.status is OrderStatus.CANCELLED:
            return before
        moved = after(before, Step.CANCEL, app.clock.now())
        if moved is None:
            raise Conflict(
                f"This order is {before.status}: only one that waits for payment is cancelled. An operator pays back "
                "what was paid, with `refundOrder`.",
                path=("id",),
            )
        await book(app, tx, before, moved, Note(account_id=viewer.account_id))
        await tx.audit.add(
            workspace_id=found.workspace_id,
            viewer=viewer,
            action="order.cancel",
            subject=f"Order:{order_id}",
            summary="Cancelled an order",
            changes=changes(status=(before.status, moved.status)),
        )
    if moved.payment_id is not None:
        await close_checkout(app, moved, moved.payment_id)
    return moved


async def mark_order_paid(app: App, viewer: Viewer, order_id: UUID, *, transaction_id: str) -> Order:
    """Say that an order of an offline gateway was paid, by what transaction. The same again changes nothing.

    Raises:
        NotFound: there is no such order.
        InvalidInput: the transaction's id is empty or too long.
        AlreadyExists: another order was paid by this transaction.
        Conflict: it was paid by another one, its gateway tells by itself, or its quota cannot be added.
    """
    found = await _seen(app, viewer, order_id, Permission.ORDER_REFUND)
    transaction_id = transaction_id.strip()
    if not transaction_id or len(transaction_id) > MAX_TRANSACTION:
        raise InvalidInput(f"A transaction's id has 1 to {MAX_TRANSACTION} characters.", path=("transactionId",))
    gateway = app.gateways.get(found.gateway)
    if gateway is None or not gateway.is_offline:
        raise Conflict(f"This order is paid through {found.gateway}, which tells of its payment itself.", path=("id",))
    async with app.storage.transaction() as tx:
        await tx.workspaces.touch(found.workspace_id)
        before = await locked_order(tx, order_id)
        if before.status in PAID_ONCE and before.transaction_id == transaction_id:
            return before
        other = await tx.orders.find(before.gateway, transaction_id=transaction_id)
        if other is not None and other.id != order_id:
            raise AlreadyExists("Another order was paid by this transaction.", path=("transactionId",))
        moved = after(before, Step.PAY, app.clock.now())
        if moved is None:
            raise Conflict(f"This order is {before.status} already, by another transaction.", path=("id",))
        moved = replace(moved, transaction_id=transaction_id)
        moved = await book(app, tx, before, moved, Note(account_id=viewer.account_id))
        await tx.audit.add(
            workspace_id=found.workspace_id,
            viewer=viewer,
            action="order.pay",
            subject=f"Order:{order_id}",
            summary=f"Marked an order as paid by {transaction_id}",
            changes=changes(status=(before.status, moved.status), transactionId=(None, transaction_id)),
        )
    return moved


async def refund_order(
    app: App, viewer: Viewer, order_id: UUID, *, amount: int | None, reason: str | None, idempotency_key: str
) -> Order:
    """Pay back an order, or a part of it; its quota is taken back pro rata. `amount` None: all that is left.

    The same key and input pay back once.

    Raises:
        NotFound: there is no such order.
        InvalidInput: the amount is not positive, or above what is left.
        Conflict: it was never paid, is disputed, or the key was used for something else.
        PaymentFailed: the gateway refuses it.
    """
    found = await _seen(app, viewer, order_id, Permission.ORDER_REFUND)
    if reason is not None and len(reason) > MAX_NOTE:
        raise InvalidInput(f"A reason has at most {MAX_NOTE} characters.", path=("reason",))
    refund_id = uuid7()
    key = once_key(
        viewer, found.workspace_id, "refundOrder", idempotency_key, (str(order_id), amount, reason), refund_id
    )
    async with app.storage.transaction() as tx:
        await tx.workspaces.touch(found.workspace_id)
        before = await locked_order(tx, order_id)
        repeated = await claimed(tx, key)
        refund = await tx.orders.refund(repeated) if repeated is not None else None
        if refund is None:
            wanted = _refundable(before, await tx.orders.requested(order_id), amount)
            refund = Refund(id=refund_id, order_id=order_id, amount=wanted, reason=reason, account_id=viewer.account_id)
            await tx.orders.insert_refund(refund)
            await tx.audit.add(
                workspace_id=found.workspace_id,
                viewer=viewer,
                action="order.refund",
                subject=f"Order:{order_id}",
                summary=f"Refunded {_money(wanted, before)}{f': {reason}' if reason else ''}",
                changes=changes(refunded=(before.refunded, before.refunded + wanted)),
            )
        if _is_offline(app, before):
            return await book_refund(app, tx, before, refund)
    return await finish_refund(app, refund)


async def _seen(app: App, viewer: Viewer, order_id: UUID, permission: Permission) -> Order:
    async with app.storage.read() as tx:
        found = (await tx.orders.get_many([order_id])).get(order_id)
    if found is None or not viewer.sees(found.workspace_id):
        raise no_order()
    require(viewer, found.workspace_id, permission)
    return found


def _order(
    app: App, viewer: Viewer, workspace_id: UUID, order_id: UUID, product: Product, gateway: Gateway, quantity: int
) -> Order:
    """Return the order of a product as it is now."""
    if not product.available:
        raise InvalidInput(
            f"{product.name} is not sold any more: `Workspace.products` lists what is.", path=("productId",)
        )
    for amount in (product.price * quantity, product.quota_amount * quantity):
        if amount > MAX_AMOUNT:
            raise InvalidInput(f"So many come to more than {MAX_AMOUNT:,}: order fewer.", path=("quantity",))
    now = app.clock.now()
    return Order(
        id=order_id,
        workspace_id=workspace_id,
        account_id=viewer.account_id,
        product_id=product.id,
        provider=product.provider,
        unit=product.unit,
        quota_amount=product.quota_amount * quantity,
        quantity=quantity,
        currency=product.currency,
        total_amount=product.price * quantity,
        gateway=gateway.name,
        created_at=now,
        expires_at=now + timedelta(seconds=app.settings.order_seconds),
    )


def _gateway(app: App, name: str | None) -> Gateway:
    if name is None:
        return next(iter(app.gateways.values()))
    found = app.gateways.get(name.strip().lower())
    if found is None:
        enabled = ", ".join(app.gateways)
        raise InvalidInput(f"There is no gateway {name!r} here; enabled are: {enabled}.", path=("gateway",))
    return found


def _is_offline(app: App, order: Order) -> bool:
    gateway = app.gateways.get(order.gateway)
    return gateway is not None and gateway.is_offline


def _refundable(order: Order, requested: int, amount: int | None) -> int:
    """Return the amount that is to be refunded, if that is in order."""
    if order.status not in PAID_ONCE:
        raise Conflict(f"This order is {order.status}: nothing was paid that could go back.", path=("id",))
    if order.status is OrderStatus.DISPUTED:
        raise Conflict("The payment is disputed: its bank decides where the money goes.", path=("id",))
    left = order.total_amount - returned(order) - requested
    if amount is not None and amount <= 0:
        raise InvalidInput("An amount is at least 1, in minor units.", path=("amount",))
    if left <= 0 or (amount is not None and amount > left):
        raise InvalidInput(f"At most {_money(max(left, 0), order)} can still be refunded.", path=("amount",))
    return left if amount is None else amount


def _money(amount: int, order: Order) -> str:
    return f"{amount} {order.currency} (minor units)"


def _no_product() -> NotFound:
    return NotFound("There is no such product here: `Workspace.products` lists what is sold.", path=("productId",))

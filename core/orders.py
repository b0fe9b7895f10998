"""Use cases of orders: order quota, cancel, mark as paid, refund; and what a step of an order does to the ledger."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

from core.access import Permission, Viewer, require, workspace_of
from core.app import App
from core.audit import changes
from core.changes import Change, ChangeKind, Noun
from core.entities import (
    EntryKind,
    Order,
    OrderStatus,
    Product,
    Quota,
    QuotaType,
    Refund,
    RefundState,
)
from core.errors import AlreadyExists, Conflict, InvalidInput, NotFound, PaymentFailed, ServerUnavailable
from core.gateway import Gateway
from core.hosted import MAX_AMOUNT
from core.ids import uuid7
from core.ledger import Change as LedgerChange
from core.order_states import PAID_ONCE, Step, after, after_refunds, credited, returned
from core.ports.quotas import Note
from core.ports.transaction import Transaction
from core.quotas import MAX_NOTE, claimed, once_key

log = logging.getLogger(__name__)

MAX_QUANTITY = 10_000
MAX_TRANSACTION = 255
UNFINISHED = timedelta(minutes=1)
"""How long whoever began with a gateway may take before a worker goes on with it."""
_GROUP = 200


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
            _check_quota(order, await _paid_quota(tx, order), path=("productId",))
            await tx.orders.insert(order)
            await tx.audit.add(
                workspace_id=workspace_id,
                viewer=viewer,
                action="order.create",
                subject=f"Order:{order_id}",
                summary=f"Ordered {new.quantity} × {product.name} for {_money(order.total_amount, order)}",
                changes=changes(status=(None, order.status)),
            )
            tx.news.add(_news(order, ChangeKind.CREATED))
    return await with_checkout(app, order, product)


async def cancel_order(app: App, viewer: Viewer, order_id: UUID) -> Order:
    """Cancel an order that waits for payment. A second time changes nothing.

    Raises:
        NotFound: there is no such order of a workspace that the viewer sees.
        Conflict: it does not wait any more.
    """
    found = await _seen(app, viewer, order_id, Permission.ORDER_MANAGE)
    async with app.storage.transaction() as tx:
        before = await _locked(tx, order_id)
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
        await _close_checkout(app, moved, moved.payment_id)
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
        before = await _locked(tx, order_id)
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
        before = await _locked(tx, order_id)
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
            return await _book_refund(app, tx, before, refund)
    return await finish_refund(app, refund)


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
        before = await _locked(tx, order.id)
        return await _book_refund(app, tx, before, refund, total or 0)


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
            tx.news.add(_news(order, ChangeKind.UPDATED))
        now = (await tx.orders.get_many([order.id])).get(order.id)
    if now is None or now.status is OrderStatus.CANCELLED:
        await _close_checkout(app, order, checkout.payment_id)
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
                    tx.news.add(_news(moved, ChangeKind.UPDATED))
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


async def book(app: App, tx: Transaction, before: Order, moved: Order, note: Note) -> Order:
    """Write what has become of an order, and in the same transaction what that does to the paid quota.

    What a refund took that came back is given back to where it was taken. A caller whose step moves money has touched
    the workspace.

    Raises:
        Conflict: somebody else has changed the order, or its quota cannot be added to the one that is there.
    """
    change = credited(moved) - credited(before)
    note = replace(note, order_id=moved.id)
    if change and before.status not in PAID_ONCE:
        moved = replace(moved, quota_id=await _purchase(app, tx, moved, note))
    elif change:
        assert moved.quota_id is not None, "what was paid was added to a quota"
        kind = EntryKind.REFUND if change < 0 else EntryKind.ADJUST
        quota = await tx.quotas.change(moved.quota_id, LedgerChange(kind=kind, limit=change), note, ended_too=True)
        assert quota is not None, "quotas are ended, never deleted"
        tx.news.add(_quota_news(quota, ChangeKind.UPDATED))
    if not await tx.orders.move(before, moved):
        raise Conflict("Somebody else has changed this order in this moment: look at it again.", path=("id",))
    tx.news.add(_news(moved, ChangeKind.UPDATED))
    return moved


async def _purchase(app: App, tx: Transaction, order: Order, note: Note) -> UUID:
    """Add what an order is of to the workspace's paid quota, which is made if there is none; return its id."""
    quota = await _paid_quota(tx, order)
    _check_quota(order, quota, path=("id",))
    if quota is not None:
        change = LedgerChange(kind=EntryKind.PURCHASE, limit=order.quota_amount)
        changed = await tx.quotas.change(quota.id, change, note)
        assert changed is not None, "it is live, and the workspace is held"
        tx.news.add(_quota_news(changed, ChangeKind.UPDATED))
        return quota.id
    made = Quota(
        id=uuid7(),
        workspace_id=order.workspace_id,
        provider=order.provider,
        type=QuotaType.PAID,
        unit=order.unit,
        limit=order.quota_amount,
        used=0,
        reserved=0,
        created_at=app.clock.now(),
    )
    if not await tx.quotas.insert(made, EntryKind.PURCHASE, note):
        raise Conflict("Somebody else has made the paid quota in this moment: try again.", path=("id",))
    tx.news.add(_quota_news(made, ChangeKind.CREATED))
    return made.id


async def _paid_quota(tx: Transaction, order: Order) -> Quota | None:
    """Return the live quota that an order is added to."""
    found = await tx.quotas.of_workspace(order.workspace_id)
    return next((one for one in found if one.type is QuotaType.PAID and one.provider == order.provider), None)


def _check_quota(order: Order, quota: Quota | None, *, path: tuple[str, ...]) -> None:
    """Refuse an order that cannot be added to the paid quota that is there."""
    if quota is None:
        return
    if quota.unit is not order.unit:
        raise InvalidInput(
            f"The workspace's paid quota counts {quota.unit}, and this is of {order.unit}: use it up and let an "
            "operator end it with `archiveQuota`, or take a product of its unit.",
            path=path,
        )
    if quota.limit is None:
        raise InvalidInput("The workspace's paid quota has no limit: there is nothing to add to it.", path=path)
    if quota.limit + order.quota_amount > MAX_AMOUNT:
        raise InvalidInput(f"With this the paid quota would be above {MAX_AMOUNT:,}.", path=path)


async def _book_refund(app: App, tx: Transaction, before: Order, refund: Refund, told: int = 0) -> Order:
    """Book a refund that was made, once; `told` is the gateway's sum of all refunds of the order."""
    if not await tx.orders.end_refund(refund.id, RefundState.DONE):
        return before
    refunds = await tx.orders.refunds(before.id)
    moved = after_refunds(before, refunds, refunds, app.clock.now(), told)
    if moved is None:
        return before
    return await book(app, tx, before, moved, Note(account_id=refund.account_id, text=refund.reason))


async def _fail(app: App, order: Order, problem: str) -> None:
    async with app.storage.transaction() as tx:
        before = await _locked(tx, order.id)
        moved = after(before, Step.FAIL, app.clock.now())
        if moved is not None:
            await book(app, tx, before, replace(moved, problem=problem), Note())


async def _close_checkout(app: App, order: Order, payment_id: str) -> None:
    """Let nobody pay a cancelled order; where that fails, who pays is credited all the same."""
    gateway = app.gateways.get(order.gateway)
    if gateway is None or gateway.is_offline:
        return
    try:
        await gateway.close_checkout(payment_id)
    except (PaymentFailed, ServerUnavailable) as error:
        log.warning("the checkout of the cancelled order %s stays open until it expires: %s", order.id, error)


async def _mended(work: Callable[..., Awaitable[Order]], *given: object) -> int:
    try:
        await work(*given)
    except PaymentFailed as error:
        log.warning("a payment gateway refuses: %s", error.message)
    return 1


async def _seen(app: App, viewer: Viewer, order_id: UUID, permission: Permission) -> Order:
    async with app.storage.read() as tx:
        found = (await tx.orders.get_many([order_id])).get(order_id)
    if found is None or not viewer.sees(found.workspace_id):
        raise _no_order()
    require(viewer, found.workspace_id, permission)
    return found


async def _locked(tx: Transaction, order_id: UUID) -> Order:
    found = await tx.orders.locked(order_id)
    if found is None:
        raise _no_order()
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


def _news(order: Order, kind: ChangeKind) -> Change:
    return Change(workspace_id=order.workspace_id, noun=Noun.ORDER, key=str(order.id), kind=kind)


def _quota_news(quota: Quota, kind: ChangeKind) -> Change:
    assert quota.workspace_id is not None
    return Change(workspace_id=quota.workspace_id, noun=Noun.QUOTA, key=str(quota.id), kind=kind)


def _no_product() -> NotFound:
    return NotFound("There is no such product here: `Workspace.products` lists what is sold.", path=("productId",))


def _no_order() -> NotFound:
    return NotFound("There is no such order, or it is not one of yours.", path=("id",))

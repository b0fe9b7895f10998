"""What a step of an order is in the books: the order, and in the same transaction its quota."""

from dataclasses import replace
from uuid import UUID

from core.app import App
from core.changes import Change, ChangeKind, Noun
from core.entities import EntryKind, Order, Quota, QuotaType, Refund, RefundState
from core.errors import Conflict, InvalidInput, NotFound
from core.hosted import MAX_AMOUNT
from core.ids import uuid7
from core.ledger import Change as LedgerChange
from core.order_states import PAID_ONCE, after_refunds, credited
from core.ports.quotas import Note
from core.ports.transaction import Transaction
from core.quotas import quota_news


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
        tx.news.add(quota_news(quota, ChangeKind.UPDATED))
    if not await tx.orders.move(before, moved):
        raise Conflict("Somebody else has changed this order in this moment: look at it again.", path=("id",))
    tx.news.add(order_news(moved, ChangeKind.UPDATED))
    return moved


async def book_refund(app: App, tx: Transaction, before: Order, refund: Refund, told: int = 0) -> Order:
    """Book a refund that was made, once; `told` is the gateway's sum of all refunds of the order."""
    if not await tx.orders.end_refund(refund.id, RefundState.DONE):
        return before
    refunds = await tx.orders.refunds(before.id)
    moved = after_refunds(before, refunds, refunds, app.clock.now(), told)
    if moved is None:
        return before
    return await book(app, tx, before, moved, Note(account_id=refund.account_id, text=refund.reason))


async def _purchase(app: App, tx: Transaction, order: Order, note: Note) -> UUID:
    """Add what an order is of to the workspace's paid quota, which is made if there is none; return its id."""
    quota = await paid_quota(tx, order)
    check_quota(order, quota, path=("id",))
    if quota is not None:
        change = LedgerChange(kind=EntryKind.PURCHASE, limit=order.quota_amount)
        changed = await tx.quotas.change(quota.id, change, note)
        assert changed is not None, "it is live, and the workspace is held"
        tx.news.add(quota_news(changed, ChangeKind.UPDATED))
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
    tx.news.add(quota_news(made, ChangeKind.CREATED))
    return made.id


async def paid_quota(tx: Transaction, order: Order) -> Quota | None:
    """Return the live quota that an order is added to."""
    found = await tx.quotas.of_workspace(order.workspace_id)
    return next((one for one in found if one.type is QuotaType.PAID and one.provider == order.provider), None)


def check_quota(order: Order, quota: Quota | None, *, path: tuple[str, ...]) -> None:
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


async def locked_order(tx: Transaction, order_id: UUID) -> Order:
    """Return an order that nobody else changes before the transaction ends. NotFound if there is none."""
    found = await tx.orders.locked(order_id)
    if found is None:
        raise no_order()
    return found


def no_order() -> NotFound:
    """Return the refusal of an id that is no order of the viewer's."""
    return NotFound("There is no such order, or it is not one of yours.", path=("id",))


def order_news(order: Order, kind: ChangeKind) -> Change:
    """Return what is told of an order that has changed."""
    return Change(workspace_id=order.workspace_id, noun=Noun.ORDER, key=str(order.id), kind=kind)

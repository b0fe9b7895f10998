"""Use cases of a gateway's events: take one in, once; do what it brings, once, in whatever order they come."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from core.app import App
from core.changes import Change, Noun
from core.checkouts import UNFINISHED
from core.entities import EventState, Order, PaymentEvent, PaymentKind, Refund, RefundState
from core.errors import AlreadyExists, Conflict, InvalidInput, NotFound
from core.gateway import Gateway
from core.jobs import ProcessPaymentEvent
from core.order_booking import book
from core.order_states import PAID_ONCE, Step, after, after_refunds
from core.ports.quotas import Note
from core.ports.transaction import Transaction

log = logging.getLogger(__name__)

WAITS = timedelta(days=30)
"""How long an event is tried again that comes before what it follows, or cannot be booked."""
_GROUP = 200

_STEPS: Mapping[PaymentKind, Step] = {
    PaymentKind.PAID: Step.PAY,
    PaymentKind.FAILED: Step.FAIL,
    PaymentKind.EXPIRED: Step.CANCEL,
    PaymentKind.DISPUTED: Step.DISPUTE,
    PaymentKind.DISPUTE_WON: Step.WIN,
    PaymentKind.DISPUTE_LOST: Step.LOSE,
}
_OF_A_PAGE = frozenset({PaymentKind.FAILED, PaymentKind.EXPIRED})
_OF_ONE_REFUND = {PaymentKind.REFUND_MADE: RefundState.DONE, PaymentKind.REFUND_FAILED: RefundState.RETURNED}
_OF_MONEY_THAT_CAME = frozenset(
    {PaymentKind.REFUNDED, *_OF_ONE_REFUND, PaymentKind.DISPUTED, PaymentKind.DISPUTE_WON, PaymentKind.DISPUTE_LOST}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What becomes of an event: the order as it leaves it, or why it leaves it alone."""

    state: EventState
    order: Order | None = None
    note: str | None = None


async def receive(app: App, gateway: Gateway, body: bytes, headers: Mapping[str, str]) -> None:
    """Take in what a gateway tells; a worker does what it brings. A repeat changes nothing.

    Raises:
        Forbidden: the gateway has not signed it, or not now.
        InvalidInput: it is signed and cannot be read.
        ServerUnavailable: it could not be kept; the gateway tells again.
    """
    event = gateway.event_of(body, headers)
    if event is None:
        return
    async with app.storage.transaction() as tx:
        if await tx.payment_events.insert(event):
            await tx.outbox.add(ProcessPaymentEvent(event_id=event.id))


async def process(app: App, event_id: UUID) -> EventState | None:
    """Do what an event brings, unless that was done; return what became of it, None where there is none.

    Order, ledger and event change together. Where the paid quota cannot take a payment, it waits and the order says so.
    """
    async with app.storage.read() as tx:
        event = await tx.payment_events.get(event_id)
        order = await _order_of(tx, event) if event is not None else None
    if event is None or event.state not in {EventState.RECEIVED, EventState.WAITING}:
        return event.state if event is not None else None
    if order is None:
        return await _without_order(app, event)
    try:
        return await _apply(app, event, order.id, order.workspace_id)
    except (Conflict, InvalidInput) as error:
        await _say(app, event, order, error.message)
        return EventState.WAITING
    except AlreadyExists:
        return await _end(app, event, EventState.REFUSED, "Another order was paid by this transaction.")
    except NotFound:
        return await _end(app, event, EventState.IGNORED, "The workspace is gone.")


async def retry_events(app: App) -> int:
    """Let workers try the events again that came too early, or that a job has given up; return how many."""
    now = app.clock.now()
    async with app.storage.transaction() as tx:
        found = await tx.payment_events.unfinished(now - WAITS, now - UNFINISHED, limit=_GROUP)
        for event_id in found:
            await tx.outbox.add(ProcessPaymentEvent(event_id=event_id))
    return len(found)


def objection(event: PaymentEvent, order: Order) -> Verdict | None:
    """Return why an event is not to be done, or not yet; None where it is."""
    problem = _mismatch(event, order)
    if problem is not None:
        return Verdict(state=EventState.REFUSED, note=problem)
    if event.kind in _OF_MONEY_THAT_CAME and order.status not in PAID_ONCE:
        return Verdict(state=EventState.WAITING, note="The order is not paid yet.")
    if order.status in PAID_ONCE and _differ(event.transaction_id, order.transaction_id):
        if event.kind is PaymentKind.PAID:
            twice = f"The order was paid a second time, by {event.transaction_id}: pay that back in {event.gateway}."
            return Verdict(state=EventState.REFUSED, note=twice)
        return Verdict(state=EventState.IGNORED, note="It is about another payment than the one that was credited.")
    if event.kind in _OF_A_PAGE and _differ(event.payment_id, order.payment_id):
        return Verdict(state=EventState.IGNORED, note="It is about another page than the order's.")
    return None


def _differ(one: str | None, other: str | None) -> bool:
    """Tell whether two ids are known and name two things."""
    return one is not None and other is not None and one != other


def _mismatch(event: PaymentEvent, order: Order) -> str | None:
    """Return what of an event does not fit its order."""
    if event.gateway != order.gateway:
        return f"{event.gateway} reports a payment of an order that is paid through {order.gateway}."
    if event.kind in _OF_A_PAGE:
        return None
    is_whole = event.kind is not PaymentKind.PAID or event.amount == order.total_amount
    if event.currency != order.currency or not is_whole or not 0 < event.amount <= order.total_amount:
        return (
            f"{event.gateway} reports {event.amount} {event.currency} where the order is of {order.total_amount} "
            f"{order.currency} (minor units): nothing was booked. Look at it in {event.gateway}."
        )
    return None


async def _apply(app: App, event: PaymentEvent, order_id: UUID, workspace_id: UUID) -> EventState:
    async with app.storage.transaction() as tx:
        await tx.workspaces.touch(workspace_id)
        order = await tx.orders.locked(order_id)
        if order is None:
            raise NotFound("The order is gone.")
        verdict = objection(event, order)
        if verdict is None:
            moved = await _moved(tx, event, order, app.clock.now())
            note = f"The order is {order.status} already." if moved is None else None
            state = EventState.IGNORED if moved is None else EventState.APPLIED
            verdict = Verdict(state=state, order=moved, note=note)
        if not await tx.payment_events.end(event.id, verdict.state, verdict.note):
            return EventState.IGNORED  # another worker was faster
        if verdict.order is not None:
            await book(app, tx, order, verdict.order, Note(text=f"{event.gateway}: {event.event_id}"))
            for waiting in await tx.payment_events.waiting(event.gateway, verdict.order):
                await tx.outbox.add(ProcessPaymentEvent(event_id=waiting))
        elif verdict.state is EventState.REFUSED and verdict.note is not None:
            log.error("event %s is refused for order %s: %s", event.event_id, order_id, verdict.note)
            await tx.orders.set_problem(order_id, verdict.note)
            tx.news.add(Change(workspace_id=workspace_id, noun=Noun.ORDER, key=str(order_id)))
    return verdict.state


async def _moved(tx: Transaction, event: PaymentEvent, order: Order, at: datetime) -> Order | None:
    """Return the order as an event leaves it; None where it says nothing new."""
    if event.kind in _STEPS:
        moved = after(order, _STEPS[event.kind], at, event.amount)
        is_payment = moved is not None and event.kind is PaymentKind.PAID
        return replace(moved, transaction_id=event.transaction_id) if is_payment and moved is not None else moved
    before = await tx.orders.refunds(order.id)
    if event.kind is PaymentKind.REFUNDED:
        return after_refunds(order, before, before, at, event.amount)
    problem = _problem(event)
    if not await _keep(tx, event, order, problem):
        return None
    moved = after_refunds(order, before, await tx.orders.refunds(order.id), at) or order
    return replace(moved, problem=problem) if problem is not None else moved


async def _keep(tx: Transaction, event: PaymentEvent, order: Order, problem: str | None) -> bool:
    """Write what an event tells of one refund; tell whether it is news. What came back stays so."""
    assert event.refund_id is not None, "it is about one refund"
    state, known = _OF_ONE_REFUND[event.kind], await tx.orders.refund(event.refund_id)
    if known is None:
        refund = Refund(
            id=event.refund_id, order_id=order.id, amount=event.amount, reason=None, account_id=None, state=state,
            problem=problem,
        )  # fmt: skip
        await tx.orders.insert_refund(refund)
        return True
    if known.order_id != order.id or known.state in {state, RefundState.RETURNED}:
        return False
    await tx.orders.tell_refund(known.id, state, problem)
    return True


def _problem(event: PaymentEvent) -> str | None:
    if event.kind is not PaymentKind.REFUND_FAILED:
        return None
    return (
        f"{event.gateway} could not pay back {event.amount} {event.currency} (minor units) after all, and the quota "
        "that this took is given back: refund it again, or another way."
    )


async def _order_of(tx: Transaction, event: PaymentEvent) -> Order | None:
    if event.order_id is not None:
        found = (await tx.orders.get_many([event.order_id])).get(event.order_id)
        if found is not None:
            return found
    return await tx.orders.find(event.gateway, payment_id=event.payment_id, transaction_id=event.transaction_id)


async def _without_order(app: App, event: PaymentEvent) -> EventState:
    """Let an event wait that may be of an order not known to be paid yet; what names another thing is none of ours."""
    if event.kind in _OF_MONEY_THAT_CAME and event.order_id is None:
        return await _end(app, event, EventState.WAITING, "No order is known to be paid by this transaction.")
    log.warning("event %s of %s is of no order that is here", event.event_id, event.gateway)
    return await _end(app, event, EventState.IGNORED, "There is no such order.")


async def _end(app: App, event: PaymentEvent, state: EventState, note: str) -> EventState:
    async with app.storage.transaction() as tx:
        await tx.payment_events.end(event.id, state, note)
    return state


async def _say(app: App, event: PaymentEvent, order: Order, problem: str) -> None:
    """Let an event wait, and say why on its order."""
    log.error("event %s waits, it cannot be booked for order %s: %s", event.event_id, order.id, problem)
    async with app.storage.transaction() as tx:
        if await tx.payment_events.end(event.id, EventState.WAITING, problem) and order.problem != problem:
            await tx.orders.set_problem(order.id, problem)
            tx.news.add(Change(workspace_id=order.workspace_id, noun=Noun.ORDER, key=str(order.id)))

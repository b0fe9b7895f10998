"""An order and what may happen to it, as pure functions: which step leads where, and how much quota goes back."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from enum import StrEnum

from core.entities import Dispute, Order, OrderStatus, Refunds


class Step(StrEnum):
    """What happens to an order."""

    PAY = "PAY"
    FAIL = "FAIL"
    CANCEL = "CANCEL"
    REFUND = "REFUND"
    RESTORE = "RESTORE"
    DISPUTE = "DISPUTE"
    WIN = "WIN"
    LOSE = "LOSE"


_S = OrderStatus
PAID_ONCE = frozenset({_S.PAID, _S.PARTIALLY_REFUNDED, _S.REFUNDED, _S.DISPUTED})
"""The states of an order whose money has come, and whose quota was added."""

TRANSITIONS: Mapping[Step, frozenset[OrderStatus]] = {
    Step.PAY: frozenset({_S.WAIT_PAY, _S.FAILED, _S.CANCELLED}),
    Step.FAIL: frozenset({_S.WAIT_PAY}),
    Step.CANCEL: frozenset({_S.WAIT_PAY}),
    Step.REFUND: PAID_ONCE,
    Step.RESTORE: PAID_ONCE,
    Step.DISPUTE: PAID_ONCE,
    Step.WIN: PAID_ONCE,
    Step.LOSE: PAID_ONCE,
}
"""From which states each step leads on. A payment that is proved counts whatever was thought of it before."""


def after(order: Order, step: Step, at: datetime, amount: int = 0) -> Order | None:
    """Return the order as a step leaves it; None where the step does not apply, or was made before.

    `amount` is, for REFUND and RESTORE, all that is refunded by now, which the one raises and the other lowers, and for
    LOSE what the dispute took; see `after_refunds`.
    """
    if order.status not in TRANSITIONS[step]:
        return None
    match step:
        case Step.PAY:
            return replace(order, status=OrderStatus.PAID, paid_at=at, problem=None)
        case Step.FAIL:
            return replace(order, status=OrderStatus.FAILED, failed_at=at)
        case Step.CANCEL:
            return replace(order, status=OrderStatus.CANCELLED, cancelled_at=at)
        case Step.REFUND if min(amount, order.total_amount) > order.refunded:
            return _told(replace(order, refunded=min(amount, order.total_amount)), order, at)
        case Step.RESTORE if 0 <= amount < order.refunded:
            return _told(replace(order, refunded=amount), order, at)
        case Step.DISPUTE if order.dispute is None:
            return _told(replace(order, dispute=Dispute.OPEN), order, at)
        case Step.WIN if order.dispute in {None, Dispute.OPEN}:
            return _told(replace(order, dispute=Dispute.WON), order, at)
        case Step.LOSE if order.dispute in {None, Dispute.OPEN}:
            lost = min(amount, order.total_amount)
            return _told(replace(order, dispute=Dispute.LOST, lost=lost), order, at)
        case _:
            return None


def after_refunds(order: Order, before: Refunds, now: Refunds, at: datetime, told: int = 0) -> Order | None:
    """Return the order as its refunds leave it by now, less what came back; None where that is what it says.

    `before` are the refunds that were known one by one when the order was written, `now` those that are. `told` is the
    gateway's own sum, 0 for none, of which nobody knows whether it counts what came back. What was paid back in all
    only grows, and so does what came back: the same news in another order, or twice, leads to the same amount.
    """
    in_all = max(order.refunded + before.returned, now.made, told)
    amount = min(in_all - now.returned, order.total_amount)
    if amount <= order.refunded:
        return after(order, Step.RESTORE, at, amount)
    moved = after(order, Step.REFUND, at, amount)
    # Who refunds again has mended what came back.
    return replace(moved, problem=None) if moved is not None and now.returned else moved


def returned(order: Order) -> int:
    """Return how much money has gone back, at most what was paid."""
    return min(order.refunded + order.lost, order.total_amount)


def credited(order: Order) -> int:
    """Return how much quota the order gives now: all of it once paid, less what its refunds took back pro rata.

    What a refund takes back is rounded down over all refunds together, so that all parts make exactly the whole.
    """
    if order.status not in PAID_ONCE:
        return 0
    return order.quota_amount - order.quota_amount * returned(order) // order.total_amount


def _told(moved: Order, before: Order, at: datetime) -> Order:
    """Return a paid order with the state that its money and its dispute make."""
    back = returned(moved)
    if moved.dispute is Dispute.OPEN:
        status = OrderStatus.DISPUTED
    elif not back:
        status = OrderStatus.PAID
    else:
        status = OrderStatus.REFUNDED if back == moved.total_amount else OrderStatus.PARTIALLY_REFUNDED
    refunded_at = at if back > returned(before) else moved.refunded_at
    return replace(moved, status=status, refunded_at=refunded_at if back else None)

"""An order and what may happen to it, as pure functions: which step leads where, and how much quota goes back."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from enum import StrEnum

from core.entities import Dispute, Order, OrderStatus


class Step(StrEnum):
    """What happens to an order."""

    PAY = "PAY"
    FAIL = "FAIL"
    CANCEL = "CANCEL"
    REFUND = "REFUND"
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
    Step.DISPUTE: PAID_ONCE,
    Step.WIN: PAID_ONCE,
    Step.LOSE: PAID_ONCE,
}
"""From which states each step leads on. A payment that is proved counts whatever was thought of it before."""


def after(order: Order, step: Step, at: datetime, amount: int = 0) -> Order | None:
    """Return the order as a step leaves it; None where the step does not apply, or was made before.

    `amount` is, for REFUND, all that was refunded so far, and for LOSE what the dispute took. Both only grow, so that
    the same news in another order, or twice, leads to the same state.
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
        case Step.DISPUTE if order.dispute is None:
            return _told(replace(order, dispute=Dispute.OPEN), order, at)
        case Step.WIN if order.dispute in {None, Dispute.OPEN}:
            return _told(replace(order, dispute=Dispute.WON), order, at)
        case Step.LOSE if order.dispute in {None, Dispute.OPEN}:
            lost = min(amount, order.total_amount)
            return _told(replace(order, dispute=Dispute.LOST, lost=lost), order, at)
        case _:
            return None


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
    return replace(moved, status=status, refunded_at=at if back > returned(before) else moved.refunded_at)

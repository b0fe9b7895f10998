"""An order as a state machine: what leads where, in any order and any number of times; and what refunds take back."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.entities import Dispute, Order, OrderStatus, QuotaUnit, Refunds
from core.ids import uuid7
from core.order_states import PAID_ONCE, TRANSITIONS, Step, after, after_refunds, credited, returned
from tests import make

S = OrderStatus
AMOUNTS = st.integers(min_value=1, max_value=2**53 - 1)


def order(**changed: object) -> Order:
    """Return an order of 1,000 credits for 9.99 that waits for payment."""
    made = Order(
        id=uuid7(), workspace_id=make.WORKSPACE, account_id=None, product_id=uuid7(), provider=None,
        unit=QuotaUnit.CREDITS, quota_amount=1000, quantity=1, currency="EUR", total_amount=999, gateway="stripe",
        created_at=make.NOW, expires_at=make.NOW + timedelta(days=1),
    )  # fmt: skip
    return replace(made, **changed)  # type: ignore[arg-type]


def walked(*steps: tuple[Step, int]) -> Order:
    """Return an order after these steps; one that does not apply changes nothing."""
    current = order()
    for step, amount in steps:
        current = after(current, step, make.NOW, amount) or current
    return current


@pytest.mark.parametrize(
    ("steps", "status", "quota"),
    [
        ([], S.WAIT_PAY, 0),
        ([(Step.PAY, 0)], S.PAID, 1000),
        ([(Step.CANCEL, 0)], S.CANCELLED, 0),
        ([(Step.FAIL, 0)], S.FAILED, 0),
        ([(Step.CANCEL, 0), (Step.PAY, 0)], S.PAID, 1000),
        ([(Step.FAIL, 0), (Step.PAY, 0)], S.PAID, 1000),
        ([(Step.PAY, 0), (Step.CANCEL, 0)], S.PAID, 1000),
        ([(Step.PAY, 0), (Step.FAIL, 0)], S.PAID, 1000),
        ([(Step.REFUND, 999)], S.WAIT_PAY, 0),
        ([(Step.PAY, 0), (Step.REFUND, 333)], S.PARTIALLY_REFUNDED, 667),
        ([(Step.PAY, 0), (Step.REFUND, 333), (Step.REFUND, 333)], S.PARTIALLY_REFUNDED, 667),
        ([(Step.PAY, 0), (Step.REFUND, 666), (Step.REFUND, 333)], S.PARTIALLY_REFUNDED, 334),
        ([(Step.PAY, 0), (Step.REFUND, 333), (Step.REFUND, 999)], S.REFUNDED, 0),
        ([(Step.PAY, 0), (Step.REFUND, 999), (Step.PAY, 0)], S.REFUNDED, 0),
        ([(Step.PAY, 0), (Step.DISPUTE, 0)], S.DISPUTED, 1000),
        ([(Step.PAY, 0), (Step.DISPUTE, 0), (Step.WIN, 0)], S.PAID, 1000),
        ([(Step.PAY, 0), (Step.DISPUTE, 0), (Step.LOSE, 999)], S.REFUNDED, 0),
        ([(Step.PAY, 0), (Step.LOSE, 999), (Step.DISPUTE, 0)], S.REFUNDED, 0),
        ([(Step.PAY, 0), (Step.WIN, 0), (Step.DISPUTE, 0)], S.PAID, 1000),
        ([(Step.PAY, 0), (Step.DISPUTE, 0), (Step.LOSE, 999), (Step.LOSE, 999)], S.REFUNDED, 0),
        ([(Step.PAY, 0), (Step.REFUND, 500), (Step.LOSE, 600)], S.REFUNDED, 0),
        ([(Step.PAY, 0), (Step.REFUND, 333), (Step.DISPUTE, 0), (Step.WIN, 0)], S.PARTIALLY_REFUNDED, 667),
        ([(Step.RESTORE, 0)], S.WAIT_PAY, 0),
        ([(Step.PAY, 0), (Step.REFUND, 999), (Step.RESTORE, 333)], S.PARTIALLY_REFUNDED, 667),
        ([(Step.PAY, 0), (Step.REFUND, 333), (Step.RESTORE, 0)], S.PAID, 1000),
        ([(Step.PAY, 0), (Step.REFUND, 333), (Step.RESTORE, 999)], S.PARTIALLY_REFUNDED, 667),
        ([(Step.PAY, 0), (Step.REFUND, 333), (Step.DISPUTE, 0), (Step.RESTORE, 0)], S.DISPUTED, 1000),
    ],
)
def test_steps_lead_where_they_should(steps: list[tuple[Step, int]], status: OrderStatus, quota: int) -> None:
    ended = walked(*steps)

    assert (ended.status, credited(ended)) == (status, quota)


def test_every_step_leads_from_somewhere_and_times_are_told() -> None:
    assert set(TRANSITIONS) == set(Step)
    assert walked((Step.PAY, 0)).paid_at == walked((Step.FAIL, 0)).failed_at == make.NOW
    assert walked((Step.CANCEL, 0)).cancelled_at == walked((Step.PAY, 0), (Step.REFUND, 1)).refunded_at == make.NOW


@given(steps=st.lists(st.tuples(st.sampled_from(Step), st.integers(min_value=1, max_value=1500)), max_size=12))
def test_whatever_happens_money_and_quota_stay_within_bounds(steps: list[tuple[Step, int]]) -> None:
    current = order()
    for step, amount in steps:
        moved = after(current, step, make.NOW, amount)
        if moved is None:
            continue
        assert current.status in TRANSITIONS[step]
        assert moved != current
        assert (current.status in PAID_ONCE) <= (moved.status in PAID_ONCE), "what was paid stays paid"
        assert step is Step.RESTORE or returned(moved) >= returned(current), "only a refund comes back"
        assert (moved.refunded_at is None) <= (returned(moved) == 0)
        current = moved

        assert 0 <= credited(current) <= current.quota_amount
        assert 0 <= current.refunded <= current.total_amount
        assert (current.status is S.DISPUTED) == (current.dispute is Dispute.OPEN)
        assert (current.status is S.REFUNDED) <= (credited(current) == 0)
        assert (current.status is S.PAID) <= (credited(current) == current.quota_amount)


@given(steps=st.lists(st.tuples(st.sampled_from(Step), st.integers(min_value=1, max_value=1500)), max_size=8))
def test_news_told_twice_change_nothing_the_second_time(steps: list[tuple[Step, int]]) -> None:
    current = order()
    for step, amount in steps:
        current = after(current, step, make.NOW, amount) or current
        assert after(current, step, make.NOW, amount) is None


@given(st.permutations([(Step.REFUND, 100), (Step.REFUND, 400), (Step.DISPUTE, 0), (Step.LOSE, 200)]))
def test_news_in_any_order_lead_to_the_same_end(steps: list[tuple[Step, int]]) -> None:
    ended = walked((Step.PAY, 0), *steps)

    assert (ended.status, ended.refunded, ended.lost) == (S.PARTIALLY_REFUNDED, 400, 200)


@given(
    refunds=st.lists(st.tuples(st.integers(min_value=1, max_value=400), st.booleans()), max_size=5),
    lowers=st.booleans(),
    data=st.data(),
)
def test_refunds_that_are_told_in_any_order_come_to_those_that_did_not_come_back(
    refunds: list[tuple[int, bool]], *, lowers: bool, data: st.DataObject
) -> None:
    """Stripe's sum counts what came back, or does not: nobody says which."""
    news: list[tuple[int, bool | None]] = []
    in_all = 0
    for number, (amount, fails) in enumerate(refunds):
        in_all += amount
        news += [(in_all, None), (number, False)]
        if fails:
            news.append((number, True))
            in_all -= amount if lowers else 0
    whole = sum(amount for amount, fails in refunds if not fails)
    current, made, back = walked((Step.PAY, 0)), dict[int, int](), dict[int, int]()

    for what, came_back in data.draw(st.permutations(news + news)):
        before = Refunds(made=sum(made.values()), returned=sum(back.values()))
        if came_back is not None:
            made[what] = refunds[what][0]
            back |= {what: refunds[what][0]} if came_back else {}
        now = Refunds(made=sum(made.values()), returned=sum(back.values()))
        current = after_refunds(current, before, now, make.NOW, 0 if came_back is not None else what) or current

    assert current.refunded == min(whole, current.total_amount)


@given(quota=AMOUNTS, total=AMOUNTS, parts=st.lists(st.integers(min_value=1, max_value=2**53), max_size=6))
def test_partial_refunds_take_back_exactly_the_whole(quota: int, total: int, parts: list[int]) -> None:
    current = after(order(quota_amount=quota, total_amount=total), Step.PAY, make.NOW)
    assert current is not None
    taken = []
    for refunded in [*sorted(part % total for part in parts), total]:
        moved = after(current, Step.REFUND, make.NOW, refunded) or current
        taken.append(credited(current) - credited(moved))
        current = moved

    assert all(part >= 0 for part in taken)
    assert sum(taken) == quota
    assert credited(current) == 0

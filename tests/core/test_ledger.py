"""The ledger as a state machine: whatever happens in whatever order, balances are sums, and nothing is held beyond."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from core.entities import BudgetPeriod, EntryKind, Order
from core.ledger import Balance, Change, Held, opened, period_end, period_start, reserved, settled, settled_late
from core.order_states import PAID_ONCE, Step, after, credited, returned
from tests.core.test_order_states import order as an_order

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
AMOUNTS = st.integers(min_value=0, max_value=50)


class Ledger(RuleBasedStateMachine):
    """A quota that resets every day, with holds of today and of days before."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.balance = Balance(limit=100, period=period_start(BudgetPeriod.DAY, START))
        self.entries = [Change(kind=EntryKind.GRANT, limit=100)]
        self.held: list[Held] = []
        self.expired: list[tuple[Held, int]] = []
        self.orders: list[Order] = []
        self.used_today = 0

    def _book(self, changes: list[Change]) -> None:
        for change in changes:
            self.balance = self.balance.after(change)
            self.entries.append(change)

    @rule(minimum=AMOUNTS, more=AMOUNTS)
    def reserve(self, minimum: int, more: int) -> None:
        self.balance, changes = opened(self.balance, period_start(BudgetPeriod.DAY, self.now))
        self.entries += changes
        if changes:
            self.used_today = 0
        granted = reserved(self.balance, minimum, minimum + more)
        if granted is None:
            assert self.balance.room is not None
            assert self.balance.room < max(minimum, 1)
            return
        assert minimum <= granted <= minimum + more
        self._book([Change(kind=EntryKind.RESERVE, reserved=granted)])
        assert self.balance.room is not None
        assert self.balance.room >= 0
        self.held.append(Held(amount=granted, period=self.balance.period))

    @rule(which=st.integers(min_value=0), used=AMOUNTS, by_sweep=st.booleans())
    def settle(self, which: int, used: int, by_sweep: bool) -> None:
        if not self.held:
            return
        hold = self.held.pop(which % len(self.held))
        kind = EntryKind.EXPIRE if by_sweep and not used else EntryKind.SETTLE
        self._book(settled(self.balance, hold, used, kind=kind))
        if hold.period == self.balance.period:
            self.used_today += used
        if by_sweep:
            self.expired.append((hold, used))

    @rule(which=st.integers(min_value=0), used=AMOUNTS)
    def settle_late(self, which: int, used: int) -> None:
        if not self.expired:
            return
        hold, booked = self.expired.pop(which % len(self.expired))
        self._book(settled_late(self.balance, hold, booked, used))
        if hold.period == self.balance.period:
            self.used_today += used - booked

    @rule(quota=st.integers(min_value=1, max_value=60), total=st.integers(min_value=1, max_value=60))
    def order(self, quota: int, total: int) -> None:
        self.orders.append(an_order(quota_amount=quota, total_amount=total))

    @rule(which=st.integers(min_value=0), step=st.sampled_from(Step), amount=st.integers(min_value=1, max_value=70))
    def move_an_order(self, which: int, step: Step, amount: int) -> None:
        """Let a gateway tell anything of an order, whatever it told before."""
        if not self.orders:
            return
        place = which % len(self.orders)
        before = self.orders[place]
        moved = after(before, step, self.now, amount)
        if moved is None:
            return
        self.orders[place] = moved
        change = credited(moved) - credited(before)
        if change:
            gain = EntryKind.ADJUST if before.status in PAID_ONCE else EntryKind.PURCHASE
            self._book([Change(kind=gain if change > 0 else EntryKind.REFUND, limit=change)])

    @rule(hours=st.integers(min_value=1, max_value=30))
    def pass_time(self, hours: int) -> None:
        self.now += timedelta(hours=hours)

    @invariant()
    def the_balance_is_the_sum_of_its_entries(self) -> None:
        assert self.balance.limit == sum(one.limit for one in self.entries)
        assert self.balance.used == sum(one.used for one in self.entries) == self.used_today
        assert self.balance.reserved == sum(one.reserved for one in self.entries)

    @invariant()
    def the_limit_is_what_was_granted_and_what_the_orders_give(self) -> None:
        assert self.balance.limit == 100 + sum(credited(order) for order in self.orders)

    @invariant()
    def what_went_back_is_in_proportion_and_never_more_than_came(self) -> None:
        bought = sum(one.limit for one in self.entries if one.kind is EntryKind.PURCHASE)
        back = -sum(one.limit for one in self.entries if one.kind in {EntryKind.REFUND, EntryKind.ADJUST})
        assert 0 <= back <= bought
        for order in self.orders:
            is_whole = returned(order) == order.total_amount
            assert not is_whole or credited(order) == 0

    @invariant()
    def what_is_reserved_is_what_calls_of_the_period_hold(self) -> None:
        assert self.balance.reserved == sum(one.amount for one in self.held if one.period == self.balance.period)


TestLedger = Ledger.TestCase
TestLedger.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


@pytest.mark.parametrize(
    ("every", "start", "end"),
    [
        (BudgetPeriod.DAY, datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC)),
        (BudgetPeriod.WEEK, datetime(2025, 12, 29, tzinfo=UTC), datetime(2026, 1, 5, tzinfo=UTC)),
        (BudgetPeriod.MONTH, datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)),
        (BudgetPeriod.TOTAL, None, None),
        (None, None, None),
    ],
)
def test_periods_begin_and_end_in_utc(every: BudgetPeriod | None, start: datetime | None, end: datetime | None) -> None:
    assert period_start(every, START) == start
    assert period_end(every, START) == end


def test_without_a_limit_everything_is_held() -> None:
    assert reserved(Balance(limit=None, used=10**12), 5, 2048) == 2048


def test_nothing_is_held_of_what_is_used_up_even_if_nothing_is_wanted() -> None:
    assert reserved(Balance(limit=5, used=5), 0, 0) is None

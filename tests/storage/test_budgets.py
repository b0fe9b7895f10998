"""Budgets in the database: held exactly with the admission, booked once, by whoever comes first; on both engines."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from sqlalchemy import select, update

from core.budgets import workspace_budget
from core.entities import (
    Budget,
    BudgetPeriod,
    Ceiling,
    EntryKind,
    Invocation,
    InvocationStatus,
    Quota,
    QuotaType,
    QuotaUnit,
)
from core.errors import BudgetExceeded, QuotaExceeded
from core.ids import uuid7
from core.model_types import Usage
from core.ports.event_log import LogHead, LogWrite
from core.ports.invocation_log import Hold, Spend, Want
from core.ports.once import OnceKey
from core.ports.quotas import Note
from core.pricing import ATTOS, amount_of
from core.provider import Pricing
from core.settings import Settings
from storage import budgets, processes
from storage.resources import Resources, open_resources
from tests.conftest import MovableClock
from tests.storage import rows
from workers.check_ledger import check_ledger
from workers.prune import prune
from workers.sweep_holds import sweep_holds

CENT = ATTOS // 100
USED = Usage(input_tokens=3, output_tokens=5)
PRICING = Pricing(currency="USD", input=Decimal(1), output=Decimal(2))
DAY = Ceiling(limit=Decimal("0.10"), currency="USD", period=BudgetPeriod.DAY)


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[Resources]:
    async with open_resources(settings, kind="api") as opened:
        yield opened


async def _give(resources: Resources, tenant: rows.Tenant, ceiling: Ceiling | None = DAY) -> UUID | None:
    """Give the tenant's token a budget; return its id."""
    async with resources.storage.transaction() as tx:
        await tx.budgets.put(tenant.token.id, ceiling)
    found = await _budget(resources, tenant)
    return found.id if found is not None else None


async def _budget(resources: Resources, tenant: rows.Tenant) -> Budget | None:
    assert await check_ledger(resources) == 0
    async with resources.storage.read() as tx:
        return (await tx.budgets.of_tokens([tenant.token.id])).get(tenant.token.id)


async def _balance(resources: Resources, tenant: rows.Tenant) -> tuple[str, str]:
    found = await _budget(resources, tenant)
    assert found is not None
    return str(found.spent.normalize()), str(found.reserved.normalize())


def _spend(budget_id: UUID | None, cents: int, minimum: int | None = None) -> Spend:
    assert budget_id is not None
    least = cents if minimum is None else minimum
    return Spend(budget_id=budget_id, minimum=least * CENT, wanted=cents * CENT, input_tokens=1_000_000)


async def _admitted(resources: Resources, invocation: Invocation, *spends: Spend) -> Sequence[Hold]:
    return (await resources.app.invocations.admit(invocation, spends=spends)).budgets


def _ended(running: Invocation, status: InvocationStatus = InvocationStatus.SUCCEEDED) -> Invocation:
    return replace(running, status=status, usage=USED, ended_at=running.started_at)


async def test_of_200_parallel_calls_of_two_processes_exactly_those_with_room_are_served(settings: Settings) -> None:
    async with _opened(settings) as one, _opened(settings) as two:
        tenant = await rows.tenant(one.app)
        budget_id = await _give(one, tenant, replace(DAY, limit=Decimal("0.1234567891")))
        each = Spend(budget_id=budget_id, minimum=10**16, wanted=10**16, input_tokens=1)  # type: ignore[arg-type]

        async def call(resources: Resources) -> bool:
            invocation = replace(rows.invocation(one.app, tenant), owner=resources.app.process_id)
            try:
                (hold,) = await _admitted(resources, invocation, each)
            except BudgetExceeded:
                return False
            return await resources.app.invocations.settle(_ended(invocation), None, {hold.id: 10**16 - 1})

        held = [(await _admitted(one, rows.invocation(one.app, tenant), each))[0] for _ in range(5)]
        served = await asyncio.gather(*(call((one, two)[number % 2]) for number in range(200)))
        found = await _budget(one, tenant)

        assert len(held) == 5
        assert sum(served) == 7
        assert found is not None
        assert (found.spent, found.reserved) == (7 * amount_of(10**16 - 1), amount_of(5 * 10**16))


async def test_a_refused_call_leaves_no_trace(resources: Resources) -> None:
    tenant = await rows.tenant(resources.app)
    quota = Quota(
        id=uuid7(), workspace_id=tenant.id, provider="openai", type=QuotaType.TRIAL, unit=QuotaUnit.TIMES, limit=9,
        used=0, reserved=0,
    )  # fmt: skip
    async with resources.storage.transaction() as tx:
        await tx.quotas.insert(quota, EntryKind.GRANT, Note())
    budget_id = await _give(resources, tenant)
    invocation = rows.invocation(resources.app, tenant)
    want = Want(quota_id=quota.id, minimum=1, wanted=1, input_tokens=1)
    key = OnceKey(
        workspace_id=tenant.id, principal=tenant.account.id, operation="completion", key="k", input_hash=b"h" * 32,
        result_id=invocation.id,
    )  # fmt: skip

    with pytest.raises(BudgetExceeded) as refused:
        await resources.app.invocations.admit(invocation, [want], key, [_spend(budget_id, 11)])
    with pytest.raises(QuotaExceeded):
        too_much = replace(want, minimum=10, wanted=10)
        await resources.app.invocations.admit(invocation, [too_much], key, [_spend(budget_id, 1)])

    assert refused.value.retry_after is None, "no later period has room for it either"
    async with resources.storage.connect() as connection:
        held = await connection.rows(select(budgets.budget_holds.c.id))
    assert held == []
    async with resources.storage.read() as tx:
        assert await tx.invocations.get_many([tenant.id], [invocation.id]) == {}
        assert await tx.once.find(tenant.id, tenant.account.id, "completion", "k") is None
        assert (await tx.quotas.get_many([quota.id]))[quota.id].reserved == 0
    assert await _balance(resources, tenant) == ("0", "0")


async def test_a_settlement_books_once_and_frees_the_rest(resources: Resources) -> None:
    tenant = await rows.tenant(resources.app)
    budget_id = await _give(resources, tenant)
    invocation = rows.invocation(resources.app, tenant)
    (hold,) = await _admitted(resources, invocation, _spend(budget_id, 6))
    assert (hold.unit, hold.amount, hold.left) == (None, 6 * CENT, 4 * CENT)
    assert await _balance(resources, tenant) == ("0", "0.06")

    done = [await resources.app.invocations.settle(_ended(invocation), None, {hold.id: 8}) for _ in range(2)]

    assert done == [True, False]
    assert await _balance(resources, tenant) == (str(Decimal(8).scaleb(-18)), "0")


async def test_a_hold_takes_what_there_is_and_grows_until_nothing_is_left(resources: Resources) -> None:
    tenant = await rows.tenant(resources.app)
    budget_id = await _give(resources, tenant)
    invocation = rows.invocation(resources.app, tenant)
    (hold,) = await _admitted(resources, invocation, _spend(budget_id, 6, minimum=1))

    grown = [await resources.app.invocations.grow(hold, invocation.id, 3 * CENT) for _ in range(3)]

    assert grown == [3 * CENT, CENT, 0]
    assert await _balance(resources, tenant) == ("0", "0.1")
    await resources.app.invocations.settle(_ended(invocation), None, {hold.id: 13 * CENT})
    assert await _balance(resources, tenant) == ("0.13", "0")
    assert await resources.app.invocations.grow(hold, invocation.id, 1) is None
    with pytest.raises(BudgetExceeded) as refused:
        await _admitted(resources, rows.invocation(resources.app, tenant), _spend(budget_id, 1))
    assert refused.value.retry_after == (datetime(2026, 1, 3, tzinfo=UTC) - resources.app.clock.now()).total_seconds()


async def test_another_model_holds_the_difference_or_nothing(resources: Resources) -> None:
    tenant = await rows.tenant(resources.app)
    budget_id = await _give(resources, tenant)
    invocation = rows.invocation(resources.app, tenant)
    await _admitted(resources, invocation, _spend(budget_id, 3))
    log, dearer = resources.app.invocations, replace(invocation, pricing=PRICING)

    raised = await log.hold(dearer, spends=[_spend(budget_id, 7)])
    with pytest.raises(BudgetExceeded):
        await log.hold(dearer, spends=[_spend(budget_id, 11)])
    cheaper = await log.hold(dearer, spends=[_spend(budget_id, 2)])
    other = rows.invocation(resources.app, tenant)
    await _admitted(resources, other, _spend(budget_id, 3))
    as_far = await log.hold(dearer, spends=[_spend(budget_id, 9, minimum=7)])

    assert [holds.budgets[0].amount for holds in (raised, cheaper, as_far)] == [7 * CENT] * 3
    assert await _balance(resources, tenant) == ("0", "0.1")
    async with resources.storage.read() as tx:
        assert (await tx.invocations.get_many([tenant.id], [invocation.id]))[invocation.id].pricing == PRICING
    await log.settle(_ended(invocation), None, {raised.budgets[0].id: 5 * CENT})
    assert await _balance(resources, tenant) == ("0.05", "0.03")
    with pytest.raises(QuotaExceeded, match="sweep"):
        await log.hold(dearer, spends=[_spend(budget_id, 1)])


async def test_an_owner_that_comes_back_corrects_the_sweep_once(resources: Resources) -> None:
    tenant = await rows.tenant(resources.app)
    budget_id = await _give(resources, tenant)
    invocation = rows.invocation(resources.app, tenant)
    (hold,) = await _admitted(resources, invocation, _spend(budget_id, 6))
    failed = _ended(invocation, InvocationStatus.FAILED)

    swept = [await resources.log.sweep(failed, {}, {hold.id: 2 * CENT}) for _ in range(2)]
    late = [await resources.app.invocations.settle(_ended(invocation), None, {hold.id: 5 * CENT}) for _ in range(3)]

    assert (swept, late) == ([True, False], [False, False, False])
    assert await _balance(resources, tenant) == ("0.05", "0")


async def test_the_sweep_books_what_a_dead_process_held_and_no_other(resources: Resources, clock: MovableClock) -> None:
    tenant = await rows.tenant(resources.app)
    budget_id = await _give(resources, tenant, replace(DAY, limit=Decimal(100)))
    silent, spoke = (replace(rows.invocation(resources.app, tenant), owner=uuid7(), pricing=PRICING) for _ in range(2))
    for dead in (silent, spoke):
        await _admitted(resources, dead, _spend(budget_id, 500))
    head = LogHead(
        invocation_id=spoke.id, workspace_id=tenant.id, principal=tenant.account.id, token_id=tenant.token.id,
        owner=spoke.owner,
    )  # fmt: skip
    await resources.app.log.append([LogWrite(head=head, first=0, lines=b'"abcd"\n"efg"\n', count=2)])
    clock.advance(seconds=120)
    async with resources.storage.connect() as connection:
        await processes.renew(connection, resources.app.process_id, processes.Counts())
    mine = rows.invocation(resources.app, tenant)
    await _admitted(resources, mine, _spend(budget_id, 3))

    swept = [await sweep_holds(resources) for _ in range(2)]

    assert swept == [2, 0]
    assert await _balance(resources, tenant) == ("1.000004", "0.03")
    async with resources.storage.read() as tx:
        found = await tx.invocations.get_many([tenant.id], [silent.id, spoke.id, mine.id])
    assert [found[one.id].status.value for one in (silent, spoke, mine)] == ["FAILED", "FAILED", "RUNNING"]
    assert [found[one.id].cost for one in (silent, mine)] == [None, None]
    assert found[spoke.id].cost is not None


async def test_a_call_counts_in_the_period_of_its_admission(resources: Resources, clock: MovableClock) -> None:
    tenant = await rows.tenant(resources.app)
    budget_id = await _give(resources, tenant)
    yesterday, done = (rows.invocation(resources.app, tenant) for _ in range(2))
    (old,) = await _admitted(resources, yesterday, _spend(budget_id, 6))
    (ended,) = await _admitted(resources, done, _spend(budget_id, 3))
    await resources.app.invocations.settle(_ended(done), None, {ended.id: CENT})
    clock.advance(seconds=timedelta(days=1).total_seconds())
    assert await _balance(resources, tenant) == ("0", "0")

    today = rows.invocation(resources.app, tenant)
    (new,) = await _admitted(resources, today, _spend(budget_id, 10))
    goes_on = [await resources.app.invocations.grow(old, yesterday.id, 2 * CENT) for _ in range(3)]
    at_once = await asyncio.gather(*(resources.app.invocations.grow(old, yesterday.id, CENT) for _ in range(2)))
    await resources.app.invocations.settle(_ended(yesterday), None, {old.id: 11 * CENT})

    assert (goes_on, at_once) == ([2 * CENT, CENT, 0], [0, 0]), "as far as yesterday had room"
    assert await _balance(resources, tenant) == ("0", "0.1")
    await resources.app.invocations.settle(_ended(today), None, {new.id: 4 * CENT})
    assert await _balance(resources, tenant) == ("0.04", "0")


async def test_another_limit_keeps_what_is_spent_and_another_period_or_currency_begins_anew(
    resources: Resources,
) -> None:
    tenant = await rows.tenant(resources.app)
    budget_id = await _give(resources, tenant)
    done, running = (rows.invocation(resources.app, tenant) for _ in range(2))
    (spent,) = await _admitted(resources, done, _spend(budget_id, 4))
    await resources.app.invocations.settle(_ended(done), None, {spent.id: 4 * CENT})
    (held,) = await _admitted(resources, running, _spend(budget_id, 4))

    lowered = await _give(resources, tenant, replace(DAY, limit=Decimal("0.01")))
    balances = [await _balance(resources, tenant)]
    with pytest.raises(BudgetExceeded):
        await _admitted(resources, rows.invocation(resources.app, tenant), _spend(budget_id, 1))
    monthly = await _give(resources, tenant, replace(DAY, period=BudgetPeriod.MONTH))
    balances.append(await _balance(resources, tenant))
    in_euro = await _give(resources, tenant, replace(DAY, period=BudgetPeriod.MONTH, currency="EUR"))
    grown = await resources.app.invocations.grow(held, running.id, CENT)
    await resources.app.invocations.settle(_ended(running), None, {held.id: 3 * CENT})
    balances.append(await _balance(resources, tenant))
    cleared = await _give(resources, tenant, None)

    assert lowered == budget_id
    assert len({budget_id, monthly, in_euro}) == 3
    assert balances == [("0.04", "0.04"), ("0", "0"), ("0", "0")]
    assert grown == CENT, "a call under way goes on under what it was admitted with"
    assert cleared is None
    with pytest.raises(BudgetExceeded, match="changed"):
        await _admitted(resources, rows.invocation(resources.app, tenant), _spend(in_euro, 1))


async def test_a_budget_by_setting_is_opened_by_whoever_comes_first(settings: Settings) -> None:
    async with _opened(settings) as one, _opened(settings) as two:
        tenant, other = await rows.tenant(one.app), await rows.tenant(one.app, "other")

        def spend(of: UUID, limit: str = "0.05", currency: str = "USD") -> Spend:
            ceiling = Ceiling(limit=Decimal(limit), currency=currency, period=BudgetPeriod.TOTAL)
            found = workspace_budget(of, ceiling)
            return replace(_spend(found.id, 1), by_setting=found)

        async def call(resources: Resources, wanted: Spend) -> bool:
            try:
                await _admitted(resources, rows.invocation(one.app, tenant), wanted)
            except BudgetExceeded:
                return False
            return True

        served = await asyncio.gather(*(call((one, two)[number % 2], spend(tenant.id)) for number in range(40)))
        raised = [await call(one, spend(tenant.id, "0.06")) for _ in range(2)]
        in_euro = await call(one, spend(tenant.id, currency="EUR"))
        elsewhere = await call(one, spend(other.id))

        assert sum(served) == 5
        assert raised == [True, False]
        assert (in_euro, elsewhere) == (True, True)
        assert await check_ledger(one) == 0


@pytest.mark.parametrize("changed", [{"reserved": 3}, {"used": 3}, {"used": 10**35 + 4 * CENT}])
async def test_the_check_of_the_ledger_finds_a_changed_budget(resources: Resources, changed: dict[str, int]) -> None:
    tenant = await rows.tenant(resources.app)
    budget_id = await _give(resources, tenant)
    (hold,) = await _admitted(resources, done := rows.invocation(resources.app, tenant), _spend(budget_id, 4))
    await resources.app.invocations.settle(_ended(done), None, {hold.id: 4 * CENT})
    assert await check_ledger(resources) == 0

    async with resources.storage.connect() as connection:
        await connection.run(update(budgets.budgets).values(changed))

    assert await check_ledger(resources) == 1


async def test_what_is_spent_is_checked_to_the_last_atto_however_much_it_is(resources: Resources) -> None:
    tenant = await rows.tenant(resources.app)
    whole = Ceiling(limit=Decimal(10**12), currency="USD", period=BudgetPeriod.TOTAL)
    budget_id, costs = await _give(resources, tenant, whole), [1, 999_999_999 * 10**9, 10**18 + 1, 10**30 - 7]
    for cost in costs:
        (hold,) = await _admitted(resources, done := rows.invocation(resources.app, tenant), _spend(budget_id, 4))
        await resources.app.invocations.settle(_ended(done), None, {hold.id: cost})
    assert await check_ledger(resources) == 0

    async with resources.storage.connect() as connection:
        await connection.run(update(budgets.budgets).values(used=sum(costs) - 1))

    assert await check_ledger(resources) == 1


@pytest.mark.parametrize(("period", "left"), [(BudgetPeriod.TOTAL, 1), (BudgetPeriod.MONTH, 0)])
async def test_old_holds_go_and_what_their_calls_cost_is_kept_while_the_period_goes_on(
    resources: Resources, clock: MovableClock, period: BudgetPeriod, left: int
) -> None:
    tenant = await rows.tenant(resources.app)
    budget_id = await _give(resources, tenant, replace(DAY, period=period))
    running = rows.invocation(resources.app, tenant)
    await _admitted(resources, running, _spend(budget_id, 1))
    for cents in (2, 3):
        (hold,) = await _admitted(resources, done := rows.invocation(resources.app, tenant), _spend(budget_id, 4))
        await resources.app.invocations.settle(_ended(done), None, {hold.id: cents * CENT})
    (swept,) = await _admitted(resources, lost := rows.invocation(resources.app, tenant), _spend(budget_id, 4))
    await resources.log.sweep(_ended(lost, InvocationStatus.FAILED), {}, {swept.id: CENT})

    found = []
    for days in (89, 2, 400):
        clock.advance(seconds=timedelta(days=days).total_seconds())
        await _admitted(resources, rows.invocation(resources.app, tenant), _spend(budget_id, 1))
        await prune(resources)
        assert await prune(resources) == 0
        assert await check_ledger(resources) == 0
        async with resources.storage.connect() as connection:
            found.append([row.state for row in await connection.rows(select(budgets.budget_holds.c.state))])
    late = await resources.app.invocations.settle(_ended(lost), None, {swept.id: 2 * CENT})

    assert [len(states) for states in found] == [5, 3 + left, 4 + left]
    assert [states.count(budgets.SUMMED) for states in found] == [0, left, left]
    assert late is False
    if period is BudgetPeriod.TOTAL:
        assert await _balance(resources, tenant) == ("0.06", "0.04")

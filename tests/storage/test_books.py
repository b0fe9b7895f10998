"""Whatever happens to quotas and budgets, in whatever order and period: their books add up after every step."""

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from decimal import Decimal

import pytest
from sqlalchemy import func, select

from core.entities import (
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
from core.ledger import Change, period_start
from core.model_types import Usage
from core.ports.invocation_log import Holds, Spend, Want
from core.ports.quotas import Note
from storage.budgets import out_of_balance as of_budgets
from storage.holds import HELD
from storage.quotas import out_of_balance as of_quotas
from storage.quotas import quota_holds, quotas
from storage.resources import Resources
from tests.conftest import MovableClock
from tests.storage import rows
from workers.check_ledger import check_ledger
from workers.prune import prune
from workers.reset_quotas import reset_quotas

STEPS = 120
USED = Usage(input_tokens=3, output_tokens=5)
HOUR = 3600.0


class Bank:
    """Does something to two quotas and a budget, as chance will have it."""

    def __init__(self, resources: Resources, clock: MovableClock, tenant: rows.Tenant, chance: random.Random) -> None:
        self.resources = resources
        self.clock = clock
        self.tenant = tenant
        self.chance = chance
        self.quotas: list[Quota] = []
        self.running: list[tuple[Invocation, Holds]] = []
        self.swept: list[tuple[Invocation, Holds]] = []

    async def open(self) -> None:
        """Grant the quotas and set the budget."""
        now = self.resources.app.clock.now()
        for kind, every in ((QuotaType.FREE, BudgetPeriod.DAY), (QuotaType.PAID, None)):
            quota = Quota(
                id=uuid7(), workspace_id=self.tenant.id, provider="openai", type=kind, unit=QuotaUnit.TOKENS,
                limit=100, used=0, reserved=0, resets_every=every, period=period_start(every, now), created_at=now,
            )  # fmt: skip
            async with self.resources.storage.transaction() as tx:
                assert await tx.quotas.insert(quota, EntryKind.GRANT, Note())
            self.quotas.append(quota)
        await self.another_budget()

    async def admit(self) -> None:
        call = rows.invocation(self.resources.app, self.tenant)
        try:
            holds = await self.resources.app.invocations.admit(call, self._wants(), None, await self._spends())
        except (QuotaExceeded, BudgetExceeded):
            return
        self.running.append((call, holds))

    async def another_model(self) -> None:
        if not self.running:
            return
        place = self.chance.randrange(len(self.running))
        call, held = self.running[place]
        try:
            holds = await self.resources.app.invocations.hold(call, self._wants(), await self._spends())
        except (QuotaExceeded, BudgetExceeded):
            return
        self.running[place] = call, Holds(quota=holds.quota, budgets=(*held.budgets, *holds.budgets))

    async def grow(self) -> None:
        if not self.running:
            return
        call, holds = self.chance.choice(self.running)
        for hold in (*([holds.quota] if holds.quota else []), *holds.budgets):
            await self.resources.app.invocations.grow(hold, call.id, self.chance.randint(1, 20))

    async def settle(self) -> None:
        await self._end(self.running, by_sweep=False)

    async def sweep(self) -> None:
        await self._end(self.running, by_sweep=True)

    async def come_back(self) -> None:
        await self._end(self.swept, by_sweep=False)

    async def change_a_limit(self) -> None:
        quota = self.chance.choice(self.quotas)
        kind = self.chance.choice([EntryKind.ADJUST, EntryKind.PURCHASE, EntryKind.REFUND])
        change = Change(kind=kind, limit=self.chance.randint(-20, 30))
        async with self.resources.storage.transaction() as tx:
            assert await tx.quotas.change(quota.id, change, Note()) is not None

    async def another_budget(self) -> None:
        period = self.chance.choice([BudgetPeriod.DAY, BudgetPeriod.DAY, BudgetPeriod.TOTAL])
        ceiling = Ceiling(limit=Decimal(self.chance.randint(1, 9)).scaleb(-16), currency="USD", period=period)
        async with self.resources.storage.transaction() as tx:
            await tx.budgets.put(self.tenant.token.id, ceiling)

    async def pass_time(self) -> None:
        self.clock.advance(self.chance.choice([1, HOUR, 5 * HOUR, 20 * HOUR]))

    async def reset(self) -> None:
        await reset_quotas(self.resources)

    async def prune(self) -> None:
        if self.chance.random() < 0.3:
            self.clock.advance(91 * 24 * HOUR)
        await prune(self.resources)

    async def check(self) -> None:
        """Everything adds up, and what is reserved is what calls of the period hold."""
        assert await check_ledger(self.resources) == 0
        held = func.coalesce(func.sum(quota_holds.c.amount), 0)
        of_period = quota_holds.c.period.is_not_distinct_from(quotas.c.period)
        still = (quota_holds.c.quota_id == quotas.c.id, quota_holds.c.state == HELD, of_period)
        async with self.resources.storage.connect() as connection:
            statement = select(quotas.c.reserved, select(held).where(*still).scalar_subquery().label("held"))
            found = await connection.rows(statement)
        assert [row.reserved for row in found] == [row.held for row in found]

    def _wants(self) -> Sequence[Want]:
        few, many = sorted((self.chance.randint(0, 40), self.chance.randint(1, 60)))
        wanted = self.chance.sample(self.quotas, self.chance.randint(0, 2))
        return [Want(quota_id=one.id, minimum=few, wanted=many, input_tokens=7) for one in wanted]

    async def _spends(self) -> Sequence[Spend]:
        async with self.resources.storage.read() as tx:
            budget = (await tx.budgets.of_tokens([self.tenant.token.id]))[self.tenant.token.id]
        few, many = sorted((self.chance.randint(1, 200), self.chance.randint(1, 400)))
        return [Spend(budget_id=budget.id, minimum=few, wanted=many, input_tokens=7)]

    async def _end(self, calls: list[tuple[Invocation, Holds]], *, by_sweep: bool) -> None:
        if not calls:
            return
        call, holds = calls.pop(self.chance.randrange(len(calls)))
        status = InvocationStatus.FAILED if by_sweep else InvocationStatus.SUCCEEDED
        ended = replace(call, status=status, usage=USED, ended_at=self.resources.app.clock.now())
        charges = {holds.quota.id: self.chance.choice([0, 5, 50, 150])} if holds.quota is not None else {}
        spent = {hold.id: self.chance.choice([0, 7, 300, 10**19]) for hold in holds.budgets}
        if by_sweep:
            await self.resources.log.sweep(ended, charges, spent)
            self.swept.append((call, holds))
        else:
            await self.resources.app.invocations.settle(ended, charges, spent)


@pytest.mark.parametrize("seed", [0, 2])
async def test_the_books_add_up_after_every_step(resources: Resources, clock: MovableClock, seed: int) -> None:
    chance = random.Random(seed)
    bank = Bank(resources, clock, await rows.tenant(resources.app), chance)
    await bank.open()
    steps: list[Callable[[], Awaitable[None]]] = [
        bank.admit, bank.admit, bank.admit, bank.another_model, bank.grow, bank.settle, bank.settle, bank.sweep,
        bank.come_back, bank.change_a_limit, bank.another_budget, bank.pass_time, bank.reset, bank.prune,
    ]  # fmt: skip

    for _ in range(STEPS):
        await chance.choice(steps)()
        await bank.check()
    while bank.running:
        await bank.settle()
    await bank.check()

    async with resources.storage.connect() as connection:
        reserved = await connection.rows(select(quotas.c.reserved))
    assert [row.reserved for row in reserved] == [0, 0]
    async with resources.storage.read() as tx:  # as where there is so much that it takes many statements
        assert [*await of_quotas(tx.connection, window=3), *await of_budgets(tx.connection, window=3)] == []

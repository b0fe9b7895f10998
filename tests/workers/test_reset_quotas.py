"""Quotas whose period is over are shown in the new one, at midnight in UTC, and what is under way stays in the old."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select

from core.changes import channel_of, from_message
from core.entities import BudgetPeriod, EntryKind, Quota, QuotaType, QuotaUnit
from core.ledger import Change
from core.ports.quotas import Note
from storage.quotas import quotas
from storage.resources import Resources
from tests.conftest import MovableClock
from tests.storage import rows
from tests.storage.test_quotas import _admitted, _balance, _ended, _grant, _kinds, _want
from tests.waiting import LIMIT_S
from workers.reset_quotas import reset_quotas


def _move(clock: MovableClock, month: int, day: int, time: str) -> None:
    to = datetime.fromisoformat(f"2026-{month:02}-{day:02}T{time}+00:00")
    clock.advance((to - clock.now()).total_seconds())


async def _stored(resources: Resources) -> Mapping[UUID, Any]:
    async with resources.storage.connect() as connection:
        return {row.id: row for row in await connection.rows(select(quotas))}


async def _used(resources: Resources, tenant: rows.Tenant, quota: Quota, amount: int) -> None:
    invocation = rows.invocation(resources.app, tenant)
    hold = await _admitted(resources, invocation, _want(quota, amount))
    await resources.app.invocations.settle(_ended(invocation), {hold.id: amount})


async def test_each_period_ends_at_its_own_midnight(resources: Resources, clock: MovableClock) -> None:
    _move(clock, 1, 30, "12:00:00")  # a Friday
    tenant = await rows.tenant(resources.app)
    kinds = {
        BudgetPeriod.DAY: QuotaType.TRIAL,
        BudgetPeriod.WEEK: QuotaType.FREE,
        BudgetPeriod.MONTH: QuotaType.PAID,
    }
    made = {
        every: await _grant(resources, tenant.id, 10, resets_every=every, type=kind, unit=QuotaUnit.TOKENS)
        for every, kind in kinds.items()
    }
    for quota in made.values():
        await _used(resources, tenant, quota, 3)
    found = []

    for month, day, time in (
        (1, 30, "23:59:59"), (1, 31, "00:00:00"), (1, 31, "12:00:00"), (2, 1, "00:00:00"), (2, 2, "00:00:00")
    ):  # fmt: skip
        _move(clock, month, day, time)
        found.append(await reset_quotas(resources))

    assert found == [0, 1, 0, 2, 2]
    stored = await _stored(resources)
    assert {every: (stored[quota.id].used, stored[quota.id].period) for every, quota in made.items()} == {
        BudgetPeriod.DAY: (0, datetime(2026, 2, 2, tzinfo=UTC)),
        BudgetPeriod.WEEK: (0, datetime(2026, 2, 2, tzinfo=UTC)),
        BudgetPeriod.MONTH: (0, datetime(2026, 2, 1, tzinfo=UTC)),
    }
    for quota in made.values():
        assert await _balance(resources, quota) == (10, 0, 0)
        assert await _kinds(resources, quota) == ["GRANT", "RESERVE", "SETTLE", "RESET"]


async def test_a_call_of_the_old_period_is_booked_in_it(resources: Resources, clock: MovableClock) -> None:
    tenant = await rows.tenant(resources.app)
    quota = await _grant(resources, tenant.id, 10, resets_every=BudgetPeriod.DAY, unit=QuotaUnit.TOKENS)
    yesterday = rows.invocation(resources.app, tenant)
    hold = await _admitted(resources, yesterday, _want(quota, 8))
    clock.advance(24 * 60 * 60)

    assert await reset_quotas(resources) == 1
    assert await _balance(resources, quota) == (10, 0, 0)
    await resources.app.invocations.settle(_ended(yesterday), {hold.id: 9})

    assert await _balance(resources, quota) == (10, 0, 0)
    await _used(resources, tenant, quota, 10)
    assert await _balance(resources, quota) == (10, 10, 0)


async def test_what_is_archived_or_never_resets_stays(resources: Resources, clock: MovableClock) -> None:
    tenant = await rows.tenant(resources.app)
    for_ever = await _grant(resources, tenant.id, 10)
    ended = await _grant(resources, tenant.id, 10, resets_every=BudgetPeriod.DAY, type=QuotaType.FREE)
    for quota in (for_ever, ended):
        await _used(resources, tenant, quota, 1)
    async with resources.storage.transaction() as tx:
        await tx.quotas.archive(ended.id, clock.now())
    before = await _stored(resources)
    clock.advance(400 * 24 * 60 * 60)

    assert await reset_quotas(resources) == 0

    assert await _stored(resources) == before
    assert await _balance(resources, ended) == (10, 1, 0), "it is shown as the sum of its changes, as ever"


async def test_followers_are_told(resources: Resources, clock: MovableClock) -> None:
    tenant = await rows.tenant(resources.app)
    quota = await _grant(resources, tenant.id, 10, resets_every=BudgetPeriod.DAY)
    await _used(resources, tenant, quota, 1)
    clock.advance(24 * 60 * 60)
    async with resources.app.changes.listen(channel_of(tenant.id)) as messages, asyncio.timeout(LIMIT_S):
        await reset_quotas(resources)
        told = from_message(await anext(messages))

    assert told is not None
    assert (told.noun.value, told.key) == ("QUOTA", str(quota.id))


async def test_a_limit_that_is_changed_in_a_new_period_leaves_the_old_one_to_its_calls(
    resources: Resources, clock: MovableClock
) -> None:
    tenant = await rows.tenant(resources.app)
    quota = await _grant(resources, tenant.id, 10, resets_every=BudgetPeriod.DAY, unit=QuotaUnit.TOKENS)
    await _used(resources, tenant, quota, 3)
    yesterday = rows.invocation(resources.app, tenant)
    hold = await _admitted(resources, yesterday, _want(quota, 5))
    clock.advance(24 * 60 * 60)

    async with resources.storage.transaction() as tx:
        changed = await tx.quotas.change(quota.id, Change(kind=EntryKind.ADJUST, limit=-4), Note())
    balance = await _balance(resources, quota)
    await resources.app.invocations.settle(_ended(yesterday), {hold.id: 5})

    assert changed is not None
    assert (changed.limit, changed.used, changed.reserved) == balance == (6, 0, 0)
    assert await _balance(resources, quota) == (6, 0, 0)
    assert await reset_quotas(resources) == 0
    assert await _kinds(resources, quota) == [
        "GRANT", "RESERVE", "SETTLE", "RESERVE", "RESET", "ADJUST", "SETTLE", "RESET",
    ]  # fmt: skip

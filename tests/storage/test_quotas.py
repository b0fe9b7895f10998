"""Quotas in the database: held exactly, booked once, by whoever comes first; on both engines."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import Connection, Select, Update, delete, event, insert, select, update

from core.entities import BudgetPeriod, EntryKind, Invocation, InvocationStatus, Quota, QuotaType, QuotaUnit
from core.errors import AlreadyAdmitted, QuotaExceeded
from core.ids import uuid7
from core.ledger import period_start
from core.model_types import Usage
from core.model_types.llm import AssistantMessage, CompletionFinished, FinishReason
from core.operator_files import read_hosted
from core.ports.event_log import LogHead, LogWrite
from core.ports.invocation_log import Hold, Holds, Want
from core.ports.once import OnceKey, Repeated
from core.ports.paging import PageRequest
from core.ports.quotas import Note
from core.settings import Settings
from storage import once, processes
from storage.quotas import out_of_balance, quota_holds
from storage.resources import Resources, open_resources
from tests.conftest import MovableClock
from tests.storage import rows
from workers.prune import prune
from workers.roll_up_usage import roll_up_usage
from workers.sweep_holds import sweep_holds

USED = Usage(input_tokens=3, output_tokens=5)


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[Resources]:
    async with open_resources(settings, kind="api") as opened:
        yield opened


async def _grant(resources: Resources, workspace_id: UUID, limit: int | None = 10, **changed: object) -> Quota:
    now = resources.app.clock.now()
    quota = Quota(
        id=uuid7(), workspace_id=workspace_id, provider="openai", type=QuotaType.TRIAL, unit=QuotaUnit.TIMES,
        limit=limit, used=0, reserved=0, created_at=now,
    )  # fmt: skip
    quota = replace(quota, **changed)  # type: ignore[arg-type]
    quota = replace(quota, period=period_start(quota.resets_every, now))
    async with resources.storage.transaction() as tx:
        assert await tx.quotas.insert(quota, EntryKind.GRANT, Note())
    return quota


def _want(quota: Quota, amount: int = 1, minimum: int | None = None) -> Want:
    return Want(quota_id=quota.id, minimum=amount if minimum is None else minimum, wanted=amount, input_tokens=7)


async def _admitted(resources: Resources, invocation: Invocation, *wants: Want) -> Hold:
    holds = await resources.app.invocations.admit(invocation, wants)
    assert holds.quota is not None
    return holds.quota


def _ended(running: Invocation) -> Invocation:
    return replace(running, status=InvocationStatus.SUCCEEDED, usage=USED, ended_at=running.started_at)


async def _balance(resources: Resources, quota: Quota) -> tuple[int | None, int, int]:
    async with resources.storage.read() as tx:
        found = (await tx.quotas.get_many([quota.id]))[quota.id]
        assert await out_of_balance(tx.connection) == []
    return found.limit, found.used, found.reserved


async def _kinds(resources: Resources, quota: Quota) -> list[str]:
    assert quota.workspace_id is not None
    async with resources.storage.read() as tx:
        found = await tx.quotas.entries(quota.workspace_id, quota.id, PageRequest(limit=100))
    return [entry.kind.value for entry in reversed(found.items)]


async def test_of_500_parallel_calls_of_two_processes_exactly_those_with_room_are_served(settings: Settings) -> None:
    async with _opened(settings) as one, _opened(settings) as two:
        tenant = await rows.tenant(one.app)
        quota = await _grant(one, tenant.id, 37)

        async def call(resources: Resources) -> bool:
            invocation = replace(rows.invocation(one.app, tenant), owner=resources.app.process_id)
            try:
                hold = await _admitted(resources, invocation, _want(quota))
            except QuotaExceeded:
                return False
            return await resources.app.invocations.settle(_ended(invocation), {hold.id: 1})

        served = await asyncio.gather(*(call((one, two)[number % 2]) for number in range(500)))

        assert sum(served) == 37
        assert await _balance(one, quota) == (37, 37, 0)


async def test_a_refused_call_leaves_no_trace(resources: Resources) -> None:
    tenant = await rows.tenant(resources.app)
    quota = await _grant(resources, tenant.id, 4)
    invocation = rows.invocation(resources.app, tenant)
    key = OnceKey(
        workspace_id=tenant.id, principal=tenant.account.id, operation="completion", key="k", input_hash=b"h" * 32,
        result_id=invocation.id,
    )  # fmt: skip

    with pytest.raises(QuotaExceeded):
        await resources.app.invocations.admit(invocation, [_want(quota, 5)], key)

    async with resources.storage.read() as tx:
        assert await tx.invocations.get_many([tenant.id], [invocation.id]) == {}
        assert await tx.once.find(tenant.id, tenant.account.id, "completion", "k") is None
    assert await _balance(resources, quota) == (4, 0, 0)
    assert await _kinds(resources, quota) == ["GRANT"]


async def test_a_settlement_books_once_and_frees_the_rest(resources: Resources) -> None:
    tenant = await rows.tenant(resources.app)
    quota = await _grant(resources, tenant.id, 100, unit=QuotaUnit.TOKENS)
    invocation = rows.invocation(resources.app, tenant)
    hold = await _admitted(resources, invocation, _want(quota, 60))
    assert (hold.amount, hold.left) == (60, 40)
    assert await _balance(resources, quota) == (100, 0, 60)

    done = [await resources.app.invocations.settle(_ended(invocation), {hold.id: 8}) for _ in range(2)]

    assert done == [True, False]
    assert await _balance(resources, quota) == (100, 8, 0)
    assert await _kinds(resources, quota) == ["GRANT", "RESERVE", "SETTLE"]


async def test_the_ledger_is_told_in_its_order_however_many_calls_came_at_once(resources: Resources) -> None:
    tenant = await rows.tenant(resources.app)
    quota = await _grant(resources, tenant.id, 1000)
    calls = [rows.invocation(resources.app, tenant) for _ in range(60)]
    holds = await asyncio.gather(*(_admitted(resources, call, _want(quota, 3)) for call in calls))
    await asyncio.gather(
        *(resources.app.invocations.settle(_ended(call), {hold.id: 2}) for call, hold in zip(calls, holds, strict=True))
    )

    async with resources.storage.read() as tx:
        entries = (await tx.quotas.entries(tenant.id, quota.id, PageRequest(limit=200))).items

    assert len(entries) == 121
    for later, earlier in pairwise(entries):
        assert earlier.remaining is not None
        assert later.remaining == earlier.remaining - later.used_change - later.reserved_change


async def test_a_hold_takes_what_there_is_and_grows_until_nothing_is_left(resources: Resources) -> None:
    tenant = await rows.tenant(resources.app)
    quota = await _grant(resources, tenant.id, 100, unit=QuotaUnit.TOKENS)
    invocation = rows.invocation(resources.app, tenant)
    hold = await _admitted(resources, invocation, _want(quota, 60, minimum=10))

    grown = [await resources.app.invocations.grow(hold, invocation.id, 30) for _ in range(3)]

    assert grown == [30, 10, 0]
    assert await _balance(resources, quota) == (100, 0, 100)
    await resources.app.invocations.settle(_ended(invocation), {hold.id: 130})
    assert await _balance(resources, quota) == (100, 130, 0)
    assert await resources.app.invocations.grow(hold, invocation.id, 1) is None


async def test_an_owner_that_comes_back_corrects_the_sweep_once(resources: Resources) -> None:
    tenant = await rows.tenant(resources.app)
    quota = await _grant(resources, tenant.id, 100, unit=QuotaUnit.TOKENS)
    invocation = rows.invocation(resources.app, tenant)
    hold = await _admitted(resources, invocation, _want(quota, 60))
    failed = replace(_ended(invocation), status=InvocationStatus.FAILED)

    swept = [await resources.log.sweep(failed, {hold.id: 20}, {}) for _ in range(2)]
    late = [await resources.app.invocations.settle(_ended(invocation), {hold.id: 25}) for _ in range(3)]

    assert (swept, late) == ([True, False], [False, False, False])
    assert await _balance(resources, quota) == (100, 25, 0)
    assert await _kinds(resources, quota) == ["GRANT", "RESERVE", "SETTLE", "LATE_SETTLE"]


async def test_the_first_quota_with_room_pays(resources: Resources) -> None:
    tenant = await rows.tenant(resources.app)
    paid = await _grant(resources, tenant.id, 1, type=QuotaType.PAID)
    free = await _grant(resources, tenant.id, 1, type=QuotaType.FREE)
    wants = [_want(paid), _want(free)]

    holds = [await resources.app.invocations.admit(rows.invocation(resources.app, tenant), wants) for _ in range(2)]

    assert [hold.quota.balance_id for hold in holds if hold.quota is not None] == [paid.id, free.id]
    with pytest.raises(QuotaExceeded):
        await resources.app.invocations.admit(rows.invocation(resources.app, tenant), wants)


async def test_a_call_counts_in_the_period_of_its_admission(resources: Resources, clock: MovableClock) -> None:
    tenant = await rows.tenant(resources.app)
    quota = await _grant(resources, tenant.id, 10, resets_every=BudgetPeriod.DAY, unit=QuotaUnit.TOKENS)
    yesterday = rows.invocation(resources.app, tenant)
    old = await _admitted(resources, yesterday, _want(quota, 10))
    clock.advance(seconds=timedelta(days=1).total_seconds())

    today = rows.invocation(resources.app, tenant)
    new = await _admitted(resources, today, _want(quota, 10))
    await resources.app.invocations.settle(_ended(yesterday), {old.id: 9})

    assert await _balance(resources, quota) == (10, 0, 10)
    await resources.app.invocations.settle(_ended(today), {new.id: 4})
    assert await _balance(resources, quota) == (10, 4, 0)


async def test_what_a_call_holds_more_counts_in_the_period_of_its_admission_and_fits_there(
    resources: Resources, clock: MovableClock
) -> None:
    tenant = await rows.tenant(resources.app)
    quota = await _grant(resources, tenant.id, 20, resets_every=BudgetPeriod.DAY, unit=QuotaUnit.TOKENS)
    calls = [rows.invocation(resources.app, tenant) for _ in range(4)]
    one, other, done = [await _admitted(resources, call, _want(quota, 4)) for call in calls[:3]]
    await resources.app.invocations.settle(_ended(calls[2]), {done.id: 3})
    clock.advance(seconds=timedelta(days=1).total_seconds())
    today = await _admitted(resources, calls[3], _want(quota, 20))
    await resources.app.invocations.settle(_ended(calls[3]), {today.id: 25})

    grown = await asyncio.gather(
        resources.app.invocations.grow(one, calls[0].id, 5), resources.app.invocations.grow(other, calls[1].id, 9)
    )

    assert list(grown) == [5, 4], "20 less 3 that are used and 8 that are held"
    assert await _balance(resources, quota) == (20, 25, 0)
    for hold, call, used in ((one, calls[0], 9), (other, calls[1], 8)):
        assert await resources.app.invocations.grow(hold, call.id, 1) == 0
        await resources.app.invocations.settle(_ended(call), {hold.id: used})
    assert await _balance(resources, quota) == (20, 25, 0)
    async with resources.storage.read() as tx:
        changes = (await tx.quotas.entries_of([calls[0].id]))[calls[0].id]
    assert [(one.kind.value, one.used_change, one.reserved_change) for one in changes] == [
        ("RESERVE", 0, 4), ("RESERVE", 0, 5), ("RESET", 0, -5), ("SETTLE", 9, -9), ("RESET", -9, 9),
    ]  # fmt: skip


async def test_a_call_that_is_ended_while_it_asks_for_more_holds_nothing(resources: Resources) -> None:
    tenant = await rows.tenant(resources.app)
    quota = await _grant(resources, tenant.id, 10, unit=QuotaUnit.TOKENS)
    call = rows.invocation(resources.app, tenant)
    hold = await _admitted(resources, call, _want(quota, 4))
    log = resources.app.invocations

    found = await asyncio.gather(
        log.grow(hold, call.id, 1), log.hold(call, [_want(quota, 5)]), log.settle(_ended(call), {hold.id: 3}),
        return_exceptions=True,
    )  # fmt: skip

    assert (found[0], type(found[1]), found[2]) == (None, QuotaExceeded, True)
    assert await _balance(resources, quota) == (10, 3, 0)


async def test_of_a_quota_that_has_ended_nothing_more_is_held_and_calls_under_way_are_booked(
    resources: Resources, clock: MovableClock
) -> None:
    tenant = await rows.tenant(resources.app)
    quota = await _grant(resources, tenant.id, 10, unit=QuotaUnit.TOKENS)
    call = rows.invocation(resources.app, tenant)
    hold = await _admitted(resources, call, _want(quota, 4))
    async with resources.storage.transaction() as tx:
        assert await tx.quotas.archive(quota.id, clock.now())

    assert await resources.app.invocations.grow(hold, call.id, 1) == 0
    with pytest.raises(QuotaExceeded):
        await _admitted(resources, rows.invocation(resources.app, tenant), _want(quota, 1))
    await resources.app.invocations.settle(_ended(call), {hold.id: 3})

    assert await _balance(resources, quota) == (10, 3, 0)
    assert await _kinds(resources, quota) == ["GRANT", "RESERVE", "SETTLE"]


async def test_a_key_stands_for_one_call_for_a_day(resources: Resources, clock: MovableClock) -> None:
    tenant = await rows.tenant(resources.app)
    calls = [rows.invocation(resources.app, tenant) for _ in range(20)]

    def key(of: Invocation) -> OnceKey:
        return OnceKey(
            workspace_id=tenant.id, principal=tenant.account.id, operation="completion", key="k", input_hash=b"h" * 32,
            result_id=of.id,
        )  # fmt: skip

    found = await asyncio.gather(
        *(resources.app.invocations.admit(call, (), key(call)) for call in calls), return_exceptions=True
    )

    refused = [one for one in found if isinstance(one, AlreadyAdmitted)]
    (first,) = {one.repeats for one in refused}
    assert (len(refused), found.count(Holds())) == (19, 1)
    async with resources.storage.read() as tx:
        assert list(await tx.invocations.get_many([tenant.id], [call.id for call in calls])) == [first]
    clock.advance(seconds=timedelta(days=1, seconds=1).total_seconds())
    await resources.app.invocations.admit(call := rows.invocation(resources.app, tenant), (), key(call))


async def test_configured_grants_are_given_at_start_to_whoever_never_had_them_and_once(
    settings: Settings, tmp_path: Path
) -> None:
    def hosting(*grants: str) -> Settings:
        path = tmp_path / "hosted.toml"
        listed = ", ".join(f'{{ type = "{kind}", unit = "TIMES", limit = 5 }}' for kind in grants)
        path.write_text(f'[providers.openai]\nvalues = {{ api_key = "sk-hosted" }}\ngrants = [{listed}]\n')
        return replace(settings, hosted=read_hosted(path, {}))

    async def start(hosts: Settings) -> None:
        async with _opened(hosts):
            pass

    async with _opened(settings) as before:
        tenants = [await rows.tenant(before.app, f"one{number}") for number in range(3)]

    async def given() -> list[list[str]]:
        async with _opened(settings) as opened, opened.storage.read() as tx:
            found = [await tx.quotas.of_workspace(tenant.id, include_archived=True) for tenant in tenants]
        return [[quota.type.value for quota in quotas] for quotas in found]

    async with _opened(hosting("TRIAL")) as one, _opened(hosting("TRIAL")):
        first = await given()
        async with one.storage.transaction() as tx:
            for quota in await tx.quotas.of_workspace(tenants[0].id):
                assert await tx.quotas.archive(quota.id, one.app.clock.now())
    hosts = hosting("TRIAL", "FREE")
    await asyncio.gather(start(hosts), start(hosts))

    assert first == [["TRIAL"]] * 3
    assert await given() == [["TRIAL", "FREE"]] * 3


async def test_the_twins_of_a_refused_call_join_nothing(resources: Resources) -> None:
    tenant = await rows.tenant(resources.app)
    quota = await _grant(resources, tenant.id, 4)
    refused, twin, other = (rows.invocation(resources.app, tenant) for _ in range(3))

    def admit(call: Invocation, amount: int, given: bytes) -> Coroutine[None, None, Holds]:
        key = OnceKey(
            workspace_id=tenant.id, principal=tenant.account.id, operation="completion", key="k", input_hash=given * 32,
            result_id=call.id,
        )  # fmt: skip
        return resources.app.invocations.admit(call, [_want(quota, amount)], key)

    found = await asyncio.gather(
        admit(refused, 5, b"h"), admit(twin, 5, b"h"), admit(other, 2, b"o"), return_exceptions=True
    )

    assert [type(one) for one in found] == [QuotaExceeded, QuotaExceeded, Holds]
    assert await _balance(resources, quota) == (4, 0, 2)
    async with resources.storage.read() as tx:
        assert list(await tx.invocations.get_many([tenant.id], [refused.id, twin.id, other.id])) == [other.id]
        repeated = await tx.once.find(tenant.id, tenant.account.id, "completion", "k")
    assert repeated == Repeated(input_hash=b"o" * 32, result_id=other.id)


async def test_a_key_that_is_forgotten_as_it_is_claimed_is_claimed_anew(resources: Resources) -> None:
    tenant = await rows.tenant(resources.app)
    first, second = (
        OnceKey(
            workspace_id=tenant.id, principal=tenant.account.id, operation="completion", key="k", input_hash=b"h" * 32,
            result_id=uuid7(),
        )
        for _ in range(2)
    )  # fmt: skip

    def claimed(connection: Connection) -> Repeated | None:
        now = resources.app.clock.now()
        assert once.claim(connection, first, now) is None
        is_looked_up = False

        @event.listens_for(connection, "before_execute")
        def forget(connection: Connection, statement: object, *_: object) -> None:
            nonlocal is_looked_up
            if isinstance(statement, Select) and not is_looked_up:
                is_looked_up = True
                connection.execute(delete(once.idempotency_keys))

        return once.claim(connection, second, now)

    assert await resources.storage.write_hot(claimed) is None

    async with resources.storage.read() as tx:
        found = await tx.once.find(tenant.id, tenant.account.id, "completion", "k")
    assert found == Repeated(input_hash=b"h" * 32, result_id=second.result_id)


async def test_the_check_of_the_ledger_finds_a_changed_balance(resources: Resources, tmp_path: Path) -> None:
    from storage.quotas import quota_entries, quotas
    from workers.check_ledger import check_ledger

    tenant = await rows.tenant(resources.app)
    quota = await _grant(resources, tenant.id)
    assert await check_ledger(resources) == 0

    async with resources.storage.connect() as connection:
        await connection.run(update(quotas).values(used=3))

    assert await check_ledger(resources) == 1
    assert quota.used == 0
    async with resources.storage.connect() as connection:
        await connection.run(update(quotas).values(used=0))
        await connection.run(delete(quota_entries))
    assert await check_ledger(resources) == 1, "not even its beginning is there"


async def test_holds_that_have_ended_go_in_time_and_the_ledger_stays(resources: Resources, clock: MovableClock) -> None:
    tenant = await rows.tenant(resources.app)
    quota = await _grant(resources, tenant.id, 100, unit=QuotaUnit.TOKENS)
    running, done, lost = (rows.invocation(resources.app, tenant) for _ in range(3))
    await _admitted(resources, running, _want(quota, 1))
    hold = await _admitted(resources, done, _want(quota, 20))
    await resources.app.invocations.settle(_ended(done), {hold.id: 2})
    swept = await _admitted(resources, lost, _want(quota, 20))
    await resources.log.sweep(replace(_ended(lost), status=InvocationStatus.FAILED), {swept.id: 3}, {})
    kinds = await _kinds(resources, quota)

    clock.advance(seconds=timedelta(days=89).total_seconds())
    await prune(resources)
    await resources.app.invocations.settle(_ended(lost), {swept.id: 4})
    clock.advance(seconds=timedelta(days=2).total_seconds())
    await prune(resources)

    async with resources.storage.connect() as connection:
        left = [row.invocation_id for row in await connection.rows(select(quota_holds.c.invocation_id))]
    assert left == [running.id]
    assert await _kinds(resources, quota) == [*kinds, "LATE_SETTLE"]
    assert await _balance(resources, quota) == (100, 6, 1)
    assert await prune(resources) == 0


async def test_holds_outlive_a_short_retention_of_records(settings: Settings, clock: MovableClock) -> None:
    async with open_resources(replace(settings, retention_days=1), kind="api", clock=clock) as resources:
        tenant = await rows.tenant(resources.app)
        quota = await _grant(resources, tenant.id, 100, unit=QuotaUnit.TOKENS)
        swept = await _admitted(resources, lost := rows.invocation(resources.app, tenant), _want(quota, 20))
        await resources.log.sweep(replace(_ended(lost), status=InvocationStatus.FAILED), {swept.id: 3}, {})

        clock.advance(seconds=timedelta(days=29).total_seconds())
        await roll_up_usage(resources)
        assert await prune(resources) > 0
        await resources.app.invocations.settle(_ended(lost), {swept.id: 4})

        assert await _balance(resources, quota) == (100, 4, 0)


@pytest.mark.parametrize(
    ("is_over", "noted", "status", "used"),
    [(True, 9, "SUCCEEDED", 8), (False, 0, "FAILED", 9), (False, 5, "FAILED", 12)],
)
async def test_the_sweep_books_what_the_log_of_a_dead_process_says(
    resources: Resources, clock: MovableClock, is_over: bool, noted: int, status: str, used: int
) -> None:
    tenant = await rows.tenant(resources.app)
    quota = await _grant(resources, tenant.id, 100, unit=QuotaUnit.TOKENS)
    dead = replace(rows.invocation(resources.app, tenant), owner=uuid7())
    await resources.app.invocations.admit(dead, [_want(quota, 50)])
    head = LogHead(
        invocation_id=dead.id,
        workspace_id=tenant.id,
        principal=dead.principal,
        token_id=dead.token_id,
        owner=dead.owner,
    )
    end = CompletionFinished(
        invocation_id=str(dead.id), sequence=2, finish_reason=FinishReason.STOP,
        message=AssistantMessage(text="abcdefg"), usage=USED, cost=None,
    )  # fmt: skip
    lines = b'"abcd"\n"efg"\n'
    await resources.app.log.append([LogWrite(head=head, first=0, lines=lines, count=2, end=end if is_over else None)])
    await resources.app.invocations.note_output({dead.id: noted})
    clock.advance(seconds=120)

    await sweep_holds(resources)

    assert await _balance(resources, quota) == (100, used, 0)
    async with resources.storage.read() as tx:
        found = (await tx.invocations.get_many([tenant.id], [dead.id]))[dead.id]
    assert found.usage is not None
    assert (found.status.value, found.usage.total_tokens, found.usage.estimated) == (status, used, not is_over)


async def test_a_call_that_cannot_be_swept_holds_up_no_other(resources: Resources, clock: MovableClock) -> None:
    tenant = await rows.tenant(resources.app)
    quota = await _grant(resources, tenant.id, 10)
    broken, other = (replace(rows.invocation(resources.app, tenant), owner=uuid7()) for _ in range(2))
    for dead in (broken, other):
        await resources.app.invocations.admit(dead, [_want(quota)])
    head = LogHead(
        invocation_id=broken.id, workspace_id=tenant.id, principal=broken.principal, token_id=broken.token_id,
        owner=broken.owner,
    )  # fmt: skip
    await resources.app.log.append([LogWrite(head=head, first=0, lines=b"{\n", count=1)])
    clock.advance(seconds=120)

    assert await sweep_holds(resources) == 1

    assert await _balance(resources, quota) == (10, 0, 1)
    async with resources.storage.read() as tx:
        found = await tx.invocations.get_many([tenant.id], [broken.id, other.id])
    assert [found[one.id].status.value for one in (broken, other)] == ["RUNNING", "FAILED"]


async def test_a_call_that_begins_to_hold_as_it_is_taken_for_dead_is_left_to_the_sweep_of_holds(
    resources: Resources, clock: MovableClock
) -> None:
    tenant = await rows.tenant(resources.app)
    quota = await _grant(resources, tenant.id, 10)
    call = replace(rows.invocation(resources.app, tenant), owner=uuid7())
    await resources.app.invocations.admit(call)
    clock.advance(seconds=120)
    now, hold_id = clock.now(), uuid7()
    held = {
        "id": hold_id, "quota_id": quota.id, "invocation_id": call.id, "owner": call.owner, "amount": 1, "used": 0,
        "input_tokens": 7, "state": "HELD", "period": None, "created_at": now, "updated_at": now,
    }  # fmt: skip

    async with resources.storage.connect() as connection:

        def hold(connection: Connection, statement: object, *_: object) -> None:
            if isinstance(statement, Update):
                connection.execute(insert(quota_holds).values(held))

        event.listen(connection.raw.sync_connection, "before_execute", hold)
        ended = await processes.fail_left_behind(connection, limit=10)

    assert ended == 0
    async with resources.storage.connect() as connection:
        (left,) = await processes.holding_left_behind(connection, limit=10)
    assert (left.id, [one.id for one in left.holds]) == (call.id, [hold_id])


async def test_the_sweep_frees_what_a_dead_process_held_and_no_other(resources: Resources, clock: MovableClock) -> None:
    tenant = await rows.tenant(resources.app)
    quota = await _grant(resources, tenant.id, 10)
    dead = replace(rows.invocation(resources.app, tenant), owner=uuid7())
    await resources.app.invocations.admit(dead, [_want(quota)])
    clock.advance(seconds=120)
    async with resources.storage.connect() as connection:
        await processes.renew(connection, resources.app.process_id, processes.Counts())
    mine = replace(rows.invocation(resources.app, tenant), owner=resources.app.process_id)
    await resources.app.invocations.admit(mine, [_want(quota)])

    swept = [await sweep_holds(resources) for _ in range(2)]

    assert swept == [1, 0]
    assert await _balance(resources, quota) == (10, 0, 1)
    assert await _kinds(resources, quota) == ["GRANT", "RESERVE", "RESERVE", "EXPIRE"]
    async with resources.storage.read() as tx:
        found = await tx.invocations.get_many([tenant.id], [dead.id, mine.id])
    assert [found[one.id].status.value for one in (dead, mine)] == ["FAILED", "RUNNING"]

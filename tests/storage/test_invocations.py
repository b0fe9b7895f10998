"""Records of calls: written in groups, ended once, found by what they hold."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import event, func, select

from core.app import App
from core.entities import Invocation, InvocationStatus
from core.errors import Conflict, ErrorCode, ModelyardError, Problem
from core.ids import uuid7
from core.model_types import ModelKey, ModelType, Usage
from core.model_types.llm import Attempt, Cost, ProviderType
from core.ports.invocations import InvocationQuery
from core.ports.paging import PageRequest
from core.provider import Pricing
from storage.invocations import attempts, invocations
from storage.resources import Resources
from tests.conftest import MovableClock
from tests.storage import rows

USAGE = Usage(input_tokens=3, output_tokens=5, cached_input_tokens=1, seconds=0.5, estimated=True)
ALL = PageRequest(limit=100)


def _ended(running: Invocation, **changed: Any) -> Invocation:
    made = replace(
        running,
        status=InvocationStatus.SUCCEEDED,
        usage=USAGE,
        cost=Cost(amount="0.000123", currency="USD"),
        pricing=Pricing(currency="USD", input=Decimal("1.5")),
        attempts=(
            Attempt(
                model=running.model,
                credential_id=str(running.token_id),
                credential_name="a",
                started_at=12.5,
                duration=0.25,
                error=Problem(code=ErrorCode.UPSTREAM_TIMEOUT, message="late", retryable=True),
            ),
            Attempt(model=running.model, started_at=13.0, duration=1.0),
        ),
        ended_at=running.started_at + timedelta(seconds=2),
        time_to_first_token=0.3,
    )
    return replace(made, **changed)


async def _find(app: App, tenant: rows.Tenant, query: InvocationQuery, page: PageRequest = ALL) -> list[Invocation]:
    async with app.storage.read() as tx:
        return list((await tx.invocations.page(tenant.id, page, query)).items)


async def test_an_admitted_invocation_is_found_running_and_its_end_with_all_it_holds(app: App) -> None:
    tenant = await rows.tenant(app)
    running = rows.invocation(
        app, tenant, tags={"team": 'a"b', "": "x"}, end_user="née", credential_id=uuid7(), credential_name="main"
    )

    await app.invocations.admit(running)
    assert await _find(app, tenant, InvocationQuery()) == [running]
    ended = _ended(running)
    assert await app.invocations.settle(ended) is True

    assert await _find(app, tenant, InvocationQuery()) == [ended]
    async with app.storage.read() as tx:
        assert await tx.invocations.get_many([tenant.id], [running.id, uuid7()]) == {running.id: ended}


async def test_an_end_is_written_once(app: App) -> None:
    tenant = await rows.tenant(app)
    running = rows.invocation(app, tenant)
    await app.invocations.admit(running)
    first = _ended(running)

    written = await asyncio.gather(*(app.invocations.settle(_ended(running)) for _ in range(10)))
    late = await app.invocations.settle(_ended(running, status=InvocationStatus.FAILED))

    assert sorted(written) == [False] * 9 + [True]
    assert late is False
    assert await _find(app, tenant, InvocationQuery()) == [first]
    assert await app.invocations.settle(_ended(rows.invocation(app, tenant))) is False, "never admitted"


async def test_many_at_once_share_few_transactions(app: App, resources: Resources) -> None:
    tenant = await rows.tenant(app)
    running = [rows.invocation(app, tenant) for _ in range(200)]
    commits: list[object] = []
    event.listen(resources.storage.engines.writer.sync_engine, "commit", commits.append)

    await asyncio.gather(*(app.invocations.admit(one) for one in running))
    settled = await asyncio.gather(*(app.invocations.settle(_ended(one)) for one in running))

    assert all(settled)
    assert len(commits) <= 6
    async with resources.storage.connect() as connection:
        ended = await connection.row(
            select(func.count()).select_from(invocations).where(invocations.c.status == "SUCCEEDED")
        )
        tries = await connection.row(select(func.count()).select_from(attempts))
    assert (ended, tries) == ((200,), (400,))


async def test_a_bad_row_fails_alone(app: App) -> None:
    tenant = await rows.tenant(app)
    good = [rows.invocation(app, tenant) for _ in range(20)]
    homeless = rows.invocation(app, tenant, workspace_id=uuid7())
    twice = good[3]

    results = await asyncio.gather(
        *(app.invocations.admit(one) for one in (*good[:10], homeless, *good[10:], twice)), return_exceptions=True
    )

    assert isinstance(results[10], Conflict)
    assert isinstance(results[-1], ModelyardError)
    assert [one for one in results if isinstance(one, BaseException)] == [results[10], results[-1]]
    assert {one.id for one in await _find(app, tenant, InvocationQuery())} == {one.id for one in good}


async def test_a_caller_that_is_cancelled_takes_nobody_along(app: App) -> None:
    tenant = await rows.tenant(app)
    running = [rows.invocation(app, tenant) for _ in range(20)]
    tasks = [asyncio.create_task(app.invocations.admit(one)) for one in running]
    await asyncio.sleep(0)
    tasks[0].cancel()

    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert isinstance(results[0], asyncio.CancelledError)
    assert not any(isinstance(one, BaseException) for one in results[1:])
    found = {one.id for one in await _find(app, tenant, InvocationQuery())}
    assert {one.id for one in running[1:]} <= found


@pytest.mark.parametrize(
    "query",
    [
        {"provider": "openai", "model_name": "gpt-4o", "type": ModelType.LLM},
        {"provider_type": "CUSTOM"},
        {"status": ("SUCCEEDED", "CANCELLED")},
        {"end_user": "jo"},
        {"tags": {"team": "blue", 'od"d': "y'z"}},
        {"tags": {}},
    ],
)
async def test_a_filter_finds_what_holds_it_and_nothing_else(app: App, query: Mapping[str, Any]) -> None:
    tenant = await rows.tenant(app)
    wanted = rows.invocation(app, tenant, end_user="jo", tags={"team": "blue", 'od"d': "y'z", "more": "1"})
    other = rows.invocation(
        app,
        tenant,
        model=ModelKey(provider="echo", name="echo", type=ModelType.LLM),
        provider_type=ProviderType.SYSTEM,
        end_user="joe",
        tags={"team": "red", "blue": "team"},
    )
    await app.invocations.admit(wanted)
    await app.invocations.admit(other)
    await app.invocations.settle(_ended(wanted))

    found = await _find(app, tenant, InvocationQuery(**query))

    expected = {wanted.id, other.id} if query == {"tags": {}} else {wanted.id}
    assert {one.id for one in found} == expected


async def test_a_principal_sees_its_own_calls_and_a_time_its_own_span(app: App, clock: MovableClock) -> None:
    tenant = await rows.tenant(app)
    by_person = rows.invocation(app, tenant)
    clock.advance(60)
    by_service = rows.invocation(app, tenant, account_id=None, token_id=uuid7())
    for one in (by_person, by_service):
        await app.invocations.admit(one)

    assert await _find(app, tenant, InvocationQuery(principal=tenant.account.id)) == [by_person]
    assert await _find(app, tenant, InvocationQuery(principal=by_service.token_id)) == [by_service]
    assert await _find(app, tenant, InvocationQuery(principal=by_person.token_id)) == []
    assert await _find(app, tenant, InvocationQuery(since=clock.now())) == [by_service]
    assert await _find(app, tenant, InvocationQuery(until=clock.now())) == [by_person]


async def test_no_workspace_shows_anothers_calls(app: App) -> None:
    tenant, stranger = await rows.tenant(app), await rows.tenant(app, "stranger")
    theirs = rows.invocation(app, stranger)
    await app.invocations.admit(theirs)

    assert await _find(app, tenant, InvocationQuery()) == []
    async with app.storage.read() as tx:
        assert await tx.invocations.get_many([tenant.id], [theirs.id]) == {}


async def test_pages_follow_each_other_both_ways_without_gap_or_repeat(app: App) -> None:
    tenant = await rows.tenant(app)
    made = [rows.invocation(app, tenant, id=uuid7(1_700_000_000_000 + number)) for number in range(7)]
    for one in made:
        await app.invocations.admit(one)
    newest_first = [one.id for one in reversed(made)]

    async with app.storage.read() as tx:
        first = await tx.invocations.page(tenant.id, PageRequest(limit=3), InvocationQuery())
        second = await tx.invocations.page(tenant.id, PageRequest(limit=3, after=newest_first[2]), InvocationQuery())
        third = await tx.invocations.page(tenant.id, PageRequest(limit=3, after=newest_first[5]), InvocationQuery())
        last = await tx.invocations.page(tenant.id, PageRequest(limit=3, backwards=True), InvocationQuery())
        before = await tx.invocations.page(
            tenant.id, PageRequest(limit=3, before=newest_first[4], backwards=True), InvocationQuery()
        )

    pages = (first, second, third, last, before)
    assert [[one.id for one in page.items] for page in pages] == [
        newest_first[0:3],
        newest_first[3:6],
        newest_first[6:7],
        newest_first[4:7],
        newest_first[1:4],
    ]
    assert [(page.has_previous, page.has_next) for page in pages] == [
        (False, True),
        (True, True),
        (True, False),
        (True, False),
        (True, True),
    ]
    assert {page.total for page in pages} == {7}

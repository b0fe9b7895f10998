"""Usage: exactly what the records say, however much of them is added up already, and whatever dies meanwhile."""

import asyncio
import os
import random
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Table, func, select

from core.app import App
from core.entities import Invocation, InvocationStatus, UsageBucket, UsageDimension, UsageInterval
from core.ids import uuid7
from core.model_types import ModelKey, ModelType, Usage
from core.model_types.llm import Cost, ProviderType
from core.ports.invocations import InvocationQuery
from core.ports.usage import UsageQuery
from core.settings import Settings
from core.usage import usage as usage_of
from storage import usage
from storage.invocations import INSERT, invocations, to_row
from storage.resources import Resources
from storage.usage import usage_rollups
from tests import make
from tests.conftest import KEY, MovableClock
from tests.storage import rows
from tests.waiting import LIMIT_S
from workers.prune import prune
from workers.roll_up_usage import roll_up_usage

BEGIN = datetime(2026, 1, 31, 21, 30, tzinfo=UTC)
END = datetime(2026, 2, 1, 3, 15, tzinfo=UTC)
NAMES = {
    UsageDimension.PROVIDER: "provider",
    UsageDimension.MODEL: "model_name",
    UsageDimension.TYPE: "type",
    UsageDimension.PROVIDER_TYPE: "provider_type",
    UsageDimension.CREDENTIAL: "credential_id",
    UsageDimension.ACCOUNT: "account_id",
    UsageDimension.TOKEN: "token_id",
    UsageDimension.END_USER: "end_user",
    UsageDimension.STATUS: "status",
    UsageDimension.TAG: "tag_value",
}
BEGINNINGS: Mapping[UsageInterval, Any] = {
    UsageInterval.HOUR: {"minute": 0, "second": 0, "microsecond": 0},
    UsageInterval.DAY: {"hour": 0, "minute": 0, "second": 0, "microsecond": 0},
    UsageInterval.MONTH: {"day": 1, "hour": 0, "minute": 0, "second": 0, "microsecond": 0},
}


def _calls(app: App, tenant: rows.Tenant, count: int, seed: int = 7) -> list[Invocation]:
    """Return ended calls and a few running ones of all kinds, before, within and after the time that is asked for."""
    chance = random.Random(seed)
    keys = [(uuid7(), f"key {number}") for number in range(2)]
    tokens = [uuid7(), uuid7()]
    made = []
    for _ in range(count):
        at = BEGIN + timedelta(seconds=chance.randrange(-7200, 30_000), microseconds=chance.randrange(1_000_000))
        status = chance.choice(list(InvocationStatus))
        credential = chance.choice([*keys, (None, None)])
        is_known = status is not InvocationStatus.RUNNING and chance.random() < 0.8
        cost = f"{chance.randrange(10**8)}.{chance.randrange(10**16):016}".rstrip("0").rstrip(".")
        made.append(
            rows.invocation(
                app,
                tenant,
                started_at=at,
                status=status,
                model=ModelKey(
                    provider=chance.choice(["openai", "echo"]),
                    name=chance.choice(["small", "large"]),
                    type=chance.choice([ModelType.LLM, ModelType.TTS]),
                ),
                provider_type=chance.choice(list(ProviderType)),
                credential_id=credential[0],
                credential_name=credential[1],
                token_id=chance.choice(tokens),
                account_id=chance.choice([tenant.account.id, None]),
                end_user=chance.choice(["jo", "née 'o\"", None]),
                tags=chance.choice([{}, {"team": "blue"}, {"more": "1", "team": "red", 'o"d': "x"}, {"more": "2"}]),
                usage=Usage(
                    input_tokens=chance.randrange(10**6),
                    output_tokens=chance.randrange(1000),
                    cached_input_tokens=chance.randrange(100),
                    cache_write_tokens=chance.randrange(100),
                    reasoning_tokens=chance.randrange(100),
                    characters=chance.randrange(100),
                    seconds=chance.randrange(100) / 4,
                    estimated=chance.random() < 0.1,
                )
                if is_known
                else None,
                cost=Cost(amount=cost, currency=chance.choice(["USD", "EUR"]))
                if is_known and chance.random() < 0.8
                else None,
                ended_at=at if status is not InvocationStatus.RUNNING else None,
            )
        )
    return made


async def _insert(resources: Resources, calls: Iterable[Invocation]) -> None:
    async with resources.storage.connect() as connection:
        await connection.run(INSERT, [to_row(call) for call in calls])


async def _buckets(app: App, tenant: rows.Tenant, **asked: Any) -> Sequence[UsageBucket]:
    query: dict[str, Any] = {
        "since": BEGIN,
        "until": END,
        "interval": None,
        "by": (),
        "tag": "",
        "calls": InvocationQuery(),
        "limit": 10_000,
    }
    async with app.storage.read() as tx:
        return await tx.usage.buckets(tenant.id, UsageQuery(**query | asked))


def _expected(
    calls: Iterable[Invocation], since: datetime, until: datetime, interval: UsageInterval | None, *by: UsageDimension
) -> Mapping[tuple[Any, ...], Any]:
    """Add calls up one by one."""
    found: dict[tuple[Any, ...], Any] = {}
    for call in calls:
        if call.status is InvocationStatus.RUNNING or not since <= call.started_at < until:
            continue
        at = call.started_at.replace(**BEGINNINGS[interval]) if interval is not None else since
        bucket = found.setdefault((max(at, since), *(_key(call, one) for one in by)), defaultdict(Decimal))
        bucket["calls"] += 1
        bucket["failures"] += call.status is InvocationStatus.FAILED
        counted = call.usage if call.usage is not None else Usage(requests=0)
        for name in ("input_tokens", "output_tokens", "cached_input_tokens", "cache_write_tokens"):
            bucket[name] += getattr(counted, name)
        for name in ("reasoning_tokens", "characters", "requests", "estimated"):
            bucket[name] += getattr(counted, name)
        bucket["seconds"] += Decimal(counted.seconds)
        if call.cost is not None:
            bucket[call.cost.currency] += Decimal(call.cost.amount)
    return found


def _key(call: Invocation, dimension: UsageDimension) -> Any:
    match dimension:
        case UsageDimension.PROVIDER | UsageDimension.TYPE:
            return getattr(call.model, NAMES[dimension])
        case UsageDimension.MODEL:
            return call.model.name
        case UsageDimension.TAG:
            return call.tags.get("team")
        case _:
            return getattr(call, NAMES[dimension])


def _found(buckets: Iterable[UsageBucket], *by: UsageDimension) -> Mapping[tuple[Any, ...], Any]:
    return {
        (bucket.since, *(getattr(bucket.key, NAMES[one]) for one in by)): {
            "calls": bucket.calls,
            "failures": bucket.failures,
            **{
                name: getattr(bucket.usage, name)
                for name in (
                    "input_tokens", "output_tokens", "cached_input_tokens", "cache_write_tokens", "reasoning_tokens",
                    "characters", "requests", "seconds", "estimated",
                )
            },
            **{cost.currency: Decimal(cost.amount) for cost in bucket.costs},
        }
        for bucket in buckets
    }  # fmt: skip


async def _count(resources: Resources, table: Table) -> int:
    async with resources.storage.connect() as connection:
        row = await connection.row(select(func.count()).select_from(table))
    assert row is not None
    return int(row[0])


def _same(found: Mapping[tuple[Any, ...], Any], expected: Mapping[tuple[Any, ...], Any]) -> bool:
    plain = {key: {**sums, "estimated": sums["estimated"] > 0} for key, sums in expected.items()}
    return found == plain


async def test_usage_is_what_the_records_say_whatever_of_it_is_added_up(app: App, resources: Resources) -> None:
    tenant, stranger = await rows.tenant(app), await rows.tenant(app, "stranger")
    calls = _calls(app, tenant, 600)
    await _insert(resources, calls)
    await _insert(resources, _calls(app, stranger, 50))
    cuts: list[tuple[UsageInterval | None, tuple[UsageDimension, ...]]] = [(None, ())]
    cuts += [(None, (one,)) for one in UsageDimension]
    cuts += [(one, (UsageDimension.TAG, UsageDimension.PROVIDER, UsageDimension.STATUS)) for one in UsageInterval]
    spans = [
        (BEGIN, END),
        (BEGIN.replace(minute=0), END.replace(minute=0)),
        (BEGIN, BEGIN + timedelta(minutes=7)),
        (BEGIN, BEGIN + timedelta(minutes=45)),
        (BEGIN.replace(minute=0), BEGIN),
    ]

    for limit in (0, 250, 1000):
        async with resources.storage.connect() as connection:
            assert await usage.roll_up(connection, limit=limit) <= limit
        for interval, by in cuts:
            buckets = await _buckets(app, tenant, interval=interval, by=by, tag="team")
            assert _same(_found(buckets, *by), _expected(calls, BEGIN, END, interval, *by)), (limit, interval, by)
        for since, until in spans:
            buckets = await _buckets(app, tenant, since=since, until=until)
            assert _same(_found(buckets), _expected(calls, since, until, None)), (limit, since, until)


@pytest.mark.parametrize(
    ("query", "holds"),
    [
        ({"provider": "echo", "type": ModelType.TTS}, lambda one: one.model.provider == "echo" and one.model.type == "TTS"),
        ({"status": ("FAILED", "RUNNING")}, lambda one: one.status == "FAILED"),
        ({"end_user": "jo", "provider_type": "SYSTEM"}, lambda one: one.end_user == "jo" and one.provider_type == "SYSTEM"),
        ({"tags": {"team": "red", 'o"d': "x"}}, lambda one: one.tags.get("team") == "red"),
        ({"model_name": "gone"}, lambda one: False),
    ],
)  # fmt: skip
async def test_a_filter_counts_what_matches_and_nothing_else(
    app: App, resources: Resources, query: Mapping[str, Any], holds: Any
) -> None:
    tenant = await rows.tenant(app)
    calls = _calls(app, tenant, 200)
    await _insert(resources, calls)
    expected = _expected(filter(holds, calls), BEGIN, END, None)

    before = await _buckets(app, tenant, calls=InvocationQuery(**query))
    await roll_up_usage(resources)
    after = await _buckets(app, tenant, calls=InvocationQuery(**query))

    assert _same(_found(before), expected)
    assert _same(_found(after), expected)


async def test_buckets_come_by_time_then_by_key_and_no_more_than_are_asked_for(app: App, resources: Resources) -> None:
    tenant = await rows.tenant(app)
    await _insert(resources, _calls(app, tenant, 300))
    await roll_up_usage(resources)
    asked: dict[str, Any] = {"interval": UsageInterval.HOUR, "by": (UsageDimension.TAG,), "tag": "team"}

    every = await _buckets(app, tenant, **asked)
    some = await _buckets(app, tenant, **asked, limit=7)

    assert some == every[:7]
    assert [(one.since, one.key.tag_value or "") for one in every] == sorted(
        (one.since, one.key.tag_value or "") for one in every
    )
    assert (every[0].since, every[-1].until) == (BEGIN, END), "an interval is shown as far as it was asked for"
    assert {cost.currency for cost in every[0].costs} == {"EUR", "USD"}, "never added across currencies"


async def test_a_provider_that_reports_nonsense_does_not_stop_the_rest(app: App, resources: Resources) -> None:
    tenant = await rows.tenant(app)
    ended = {"status": InvocationStatus.SUCCEEDED, "ended_at": BEGIN, "started_at": BEGIN}
    absurd = Usage(input_tokens=2**62, output_tokens=1)
    await _insert(resources, [rows.invocation(app, tenant, **ended, usage=absurd) for _ in range(20)])

    assert await roll_up_usage(resources) == 20
    assert await _count(resources, usage_rollups) == 1, "calls that are alike share a row"

    (bucket,) = await _buckets(app, tenant, since=BEGIN.replace(minute=0), until=END.replace(minute=0))
    assert (bucket.calls, bucket.usage.output_tokens) == (20, 20)


async def test_an_end_is_counted_when_it_comes_and_a_late_second_one_never(
    app: App, resources: Resources, clock: MovableClock
) -> None:
    tenant = await rows.tenant(app)
    running = rows.invocation(app, tenant)
    await app.invocations.admit(running)
    hour = {"since": clock.now() - timedelta(hours=2), "until": clock.now() + timedelta(hours=2)}
    assert await roll_up_usage(resources) == 0
    assert await _buckets(app, tenant, **hour) == []
    end = replace(
        running, status=InvocationStatus.SUCCEEDED, usage=Usage(input_tokens=5), ended_at=clock.now(), attempts=()
    )

    await app.invocations.settle(end)
    at_once = await _buckets(app, tenant, **hour)
    assert [await roll_up_usage(resources) for _ in range(3)] == [1, 0, 0]
    await app.invocations.settle(end)
    assert await roll_up_usage(resources) == 0

    later = await _buckets(app, tenant, **hour)
    assert later == at_once
    assert (later[0].calls, later[0].usage.input_tokens) == (1, 5)


async def test_usage_outlives_the_records_and_goes_by_its_own_time(
    app: App, resources: Resources, clock: MovableClock
) -> None:
    tenant = await rows.tenant(app)
    calls = _calls(app, tenant, 100)
    await _insert(resources, calls)
    clock.advance((END - clock.now()).total_seconds() + 91 * 86_400)
    expected = _expected(calls, BEGIN, END, None)
    viewer = make.viewer(workspace=tenant.id)
    running = sum(call.status is InvocationStatus.RUNNING for call in calls)

    async def ask() -> Sequence[UsageBucket]:
        return await usage_of(app, viewer, tenant.id, since=BEGIN, until=END, calls=InvocationQuery(), first=10)

    await prune(resources)
    assert await _count(resources, invocations) == 100, "what is not added up is kept"
    assert _same(_found(await _buckets(app, tenant)), expected)
    await roll_up_usage(resources)
    await prune(resources)
    assert await _count(resources, invocations) == running
    (bucket,) = await ask()
    whole = BEGIN.replace(minute=0), END.replace(hour=4, minute=0)
    assert (bucket.since, bucket.until) == whole, "of hours without records all is counted"
    assert _same(_found([bucket]), _expected(calls, *whole, None))

    clock.advance(640 * 86_400)
    assert await _count(resources, usage_rollups) > 0
    await prune(resources)
    assert await _count(resources, usage_rollups) == 0
    assert list(await ask()) == []


_WORKER = """
import asyncio, os
from core.settings import load_settings
from storage import usage
from storage.resources import open_resources

async def work():
    async with open_resources(load_settings(os.environ), kind="worker") as resources:
        for _ in range(5):
            async with resources.storage.connect() as connection:
                await usage.roll_up(connection, limit=10)
        async with resources.storage.connect() as connection:
            await usage.roll_up(connection, limit=10)
            print("amid its work", flush=True)
            await asyncio.Event().wait()

asyncio.run(work())
"""


async def test_every_call_is_counted_once_though_a_worker_is_killed_and_two_work_at_once(
    app: App, resources: Resources, settings: Settings
) -> None:
    tenant = await rows.tenant(app)
    calls = _calls(app, tenant, 1000)
    await _insert(resources, calls)
    environment = os.environ | {
        "MODELYARD_DATABASE_URL": settings.database_url,
        "MODELYARD_REDIS_URL": settings.redis_url,
        "MODELYARD_DATA": str(settings.data),
        "MODELYARD_ENCRYPTION_KEYS": KEY,
    }

    async def counted() -> int:
        async with resources.storage.single() as connection:
            row = await connection.row(select(func.coalesce(func.sum(usage_rollups.c.calls), 0)))
        return int(row[0]) if row is not None else 0

    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _WORKER, env=environment, stdout=asyncio.subprocess.PIPE
    )
    assert worker.stdout is not None
    try:
        assert await asyncio.wait_for(worker.stdout.readline(), LIMIT_S) == b"amid its work\n"
    finally:
        worker.kill()
        await worker.wait()
    before = await counted()
    ended = sum(call.status is not InvocationStatus.RUNNING for call in calls)
    assert before == 50 < ended, "it was killed amid its work"
    async with asyncio.timeout(LIMIT_S):
        while await counted() < ended:  # PostgreSQL takes a moment to miss the dead
            await asyncio.gather(*(roll_up_usage(resources) for _ in range(2)))
            await asyncio.sleep(0.02)

    whole = BEGIN.replace(minute=0) - timedelta(days=1), END.replace(minute=0) + timedelta(days=1)
    found = await _buckets(app, tenant, since=whole[0], until=whole[1], by=(UsageDimension.TOKEN,))
    assert _same(_found(found, UsageDimension.TOKEN), _expected(calls, *whole, None, UsageDimension.TOKEN))

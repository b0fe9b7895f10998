"""What calls have used is booked as it was, though the database was away when they ended and their process is gone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from core.ports.invocations import InvocationQuery
from core.ports.paging import PageRequest
from storage.migrate import migrate
from storage.quotas import out_of_balance
from storage.redis import open_pool
from storage.resources import open_resources
from storage.unsettled import RedisUnsettled
from tests.conftest import settings_for
from tests.end_to_end.apis import Api, Installation, installation
from tests.end_to_end.hosted import grant, hosted_file, late_worker
from tests.engines import Postgres, scratch
from tests.fake_provider import FakeProvider
from tests.product import chat, completion, model
from tests.waiting import LIMIT_S
from workers.settle_invocation import settle_invocation
from workers.sweep_holds import sweep_holds


@dataclass(slots=True, kw_only=True)
class Place:
    installed: Installation
    database: Postgres


@pytest.fixture
async def place(tmp_path: Path, provider: FakeProvider) -> AsyncIterator[Place]:
    database = Postgres(scratch("my-settling-"), durable=True)
    await asyncio.to_thread(database.start)
    try:
        url = database.url.format("postgres")
        await migrate(url)
        settings = settings_for(url, "unix:///nowhere", tmp_path)
        hosted = hosted_file(tmp_path, provider)
        async with installation(settings, HOSTED=hosted, GRACE_SECONDS="5", DRAIN_SECONDS="1") as installed:
            yield Place(installed=installed, database=database)
    finally:
        await asyncio.to_thread(database.kill)


async def _kept(place: Place, count: int) -> None:
    """Wait until so many settlements are kept in Redis."""
    pool = open_pool(place.installed.settings.redis_url)
    async with asyncio.timeout(LIMIT_S):
        while len(await RedisUnsettled(pool).all()) < count:
            await asyncio.sleep(0.05)
    await pool.aclose()


async def test_settlements_outlive_the_database_and_the_processes_that_owe_them(
    place: Place, provider: FakeProvider
) -> None:
    apis = await place.installed.pair()
    await grant(apis[0], "TOKENS", 10_000)
    provider.answers(text="0123456 " * 2400, pieces=20, halts_after=10)  # more than is held to begin with
    begun = asyncio.Semaphore(0)

    async def finished(api: Api) -> Any:
        async with api.socket() as ws, aclosing(completion(ws, chat(model=model("llm")))) as source:
            await anext(source)
            begun.release()
            return [event async for event in source][-1]

    reading = [asyncio.create_task(finished(api)) for api in apis]
    for _ in apis:
        await begun.acquire()
    await asyncio.to_thread(place.database.kill)
    provider.go_on()
    ends = await asyncio.gather(*reading)
    await _kept(place, 2)
    apis[0].kill()
    await apis[1].stop()
    await asyncio.to_thread(place.database.start)
    async with open_resources(place.installed.settings, kind="worker") as worker:
        booked = [await settle_invocation(worker) for _ in range(2)]
    async with late_worker(place.installed.settings) as worker:
        swept = await sweep_holds(worker)
        async with worker.storage.read() as tx:
            (workspace,) = (await tx.workspaces.page(PageRequest(limit=2), among=None, search=None)).items
            (quota,) = await tx.quotas.of_workspace(workspace.id)
            calls = (await tx.invocations.page(workspace.id, PageRequest(limit=5), InvocationQuery())).items
            assert await out_of_balance(tx.connection) == []

    assert [end["__typename"] for end in ends] == ["CompletionFinished"] * 2
    assert (booked, swept) == ([2, 0], 0)
    assert (quota.used, quota.reserved) == (2 * (11 + 20), 0)
    assert [(one.status.value, one.usage is not None and one.usage.estimated) for one in calls] == [
        ("SUCCEEDED", False),
        ("SUCCEEDED", False),
    ]

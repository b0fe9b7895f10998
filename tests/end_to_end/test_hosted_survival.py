"""Hosted calls of several processes: charged once for their key, and booked by the sweep when their process is killed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import settings_for, sqlite_in
from tests.end_to_end.apis import Installation, installation
from tests.end_to_end.hosted import ARCHIVE, balance, grant, hosted_file, late_worker
from tests.end_to_end.test_hosted_calls import BOUND
from tests.end_to_end.test_once import call
from tests.fake_provider import FakeProvider, Scenario
from tests.product import INVOCATIONS, chat, check_sequence, completion, model, text_of
from tests.waiting import wait_for
from workers.sweep_holds import sweep_holds


@pytest.fixture(scope="module")
async def installed(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory, shared_provider: FakeProvider
) -> AsyncIterator[Installation]:
    folder = tmp_path_factory.mktemp("hosted")
    settings = settings_for(sqlite_in(folder, sqlite_template), "unix:///nowhere", folder)
    async with installation(settings, HOSTED=hosted_file(folder, shared_provider)) as started:
        yield started


async def test_the_same_key_in_two_processes_is_one_call_charged_once(
    installed: Installation, provider: FakeProvider
) -> None:
    apis = await installed.pair()
    quota = await grant(apis[0], "TIMES", 10, type="FREE")
    provider.answers(first_delay_s=0.2)
    given: dict[str, Any] = {"model": model("llm"), "idempotencyKey": "twins"}

    streams = await asyncio.gather(*(api.stream(**given) for api in apis * 3))
    answers = await asyncio.gather(*(call(api, "vectors", "twins") for api in apis * 3))

    check_sequence(streams[0])
    assert {str(events) for events in streams} == {str(streams[0])}
    assert streams[0][-1]["__typename"] == "CompletionFinished"
    assert [answer["errors"] for answer in answers] == [[]] * 6
    assert {str(answer) for answer in answers} == {str(answers[0])}
    assert len(provider.requests) == 2
    assert await balance(apis[1], quota) == (2, 0, ["GRANT", "RESERVE", "SETTLE", "RESERVE", "SETTLE"])
    await apis[1].changed(ARCHIVE, id=quota)


async def test_what_a_killed_process_had_produced_is_charged_and_its_twins_are_told(
    installed: Installation, provider: FakeProvider
) -> None:
    one, two = await installed.pair()
    tokens = await grant(one, "TOKENS", 10_000, type="PAID", restrictedTo=["llm"])
    times = await grant(one, "TIMES", 10, type="TRIAL")
    piece = "0123456 "
    provider.answers(Scenario(text=piece * 500, pieces=500, delay_s=0.02), model="llm")
    provider.answers(Scenario(never_answers=True), model="judge")
    twin = asyncio.create_task(call(one, "judge", "killed"))
    async with one.socket() as ws, aclosing(completion(ws, chat(model=model("llm")))) as source:
        delivered = [await anext(source) for _ in range(20)]
        await wait_for(lambda: any(request.model == "judge" for request in provider.requests))
        one.kill()
    with pytest.raises(httpx.TransportError):
        await twin

    told = await call(two, "judge", "killed")
    async with late_worker(installed.settings) as worker:
        swept = await sweep_holds(worker)
    later = await call(two, "judge", "killed")

    for payload in (told, later):
        assert [(error["code"], error["retryable"]) for error in payload["errors"]] == [("SERVER_UNAVAILABLE", True)]
    assert swept == 2
    used, reserved, kinds = await balance(two, tokens)
    assert (reserved, kinds) == (0, ["GRANT", "RESERVE", "SETTLE"])
    assert len(text_of(delivered)) // 4 < used < BOUND + 500 * len(piece) // 4
    assert (await balance(two, times))[1:] == (0, ["GRANT", "RESERVE", "EXPIRE"])
    records = (await two.data(INVOCATIONS))["workspace"]["invocations"]["nodes"]
    (cut,) = [record for record in records if record["model"]["name"] == "llm" and record["status"] == "FAILED"]
    assert (cut["usage"]["estimated"], cut["usage"]["totalTokens"]) == (True, used)
    assert cut["error"]["code"] == "SERVER_UNAVAILABLE"

"""Streams survive what happens to connections, processes and Valkey; seen by the client that the documentation gives."""

import asyncio
import importlib.util
import json
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_socket

from tests.conftest import settings_for, sqlite_in
from tests.end_to_end.apis import Api, Installation, installation
from tests.end_to_end.test_pools import HELLO, calls, members, pooled
from tests.fake_provider import FakeProvider
from tests.product import COMPLETE, COMPLETION, NO_TLS, chat, check_sequence, completion, model, text_of
from tests.waiting import LIMIT_S, wait_for

CLIENT = Path(__file__).resolve().parents[2] / "docs" / "clients" / "python" / "modelyard.py"
CLIENTS = 24
PIECES = 50
STOPPED = {0, -signal.SIGTERM}


def _client() -> ModuleType:
    spec = importlib.util.spec_from_file_location("modelyard_client", CLIENT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


modelyard = _client()


@pytest.fixture(scope="module")
async def installed(
    sqlite_template: Path, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Installation]:
    folder = tmp_path_factory.mktemp("survival")
    settings = settings_for(sqlite_in(folder, sqlite_template), redis_url, folder)
    async with installation(settings, GRACE_SECONDS="20", DRAIN_SECONDS="10") as started:
        yield started


class Cutter:
    """Opens sockets whose connection is aborted after some messages, as often as it has cuts left."""

    def __init__(self, chance: random.Random, cuts: int) -> None:
        self.chance = chance
        self.left = cuts

    @asynccontextmanager
    async def __call__(self, url: str, **options: Any) -> AsyncIterator["CutSocket"]:
        async with open_socket(url, proxy=None, **options) as socket:
            messages = self.chance.randint(2, PIECES // 4) if self.left else None
            self.left = max(self.left - 1, 0)
            yield CutSocket(socket, messages)


class CutSocket:
    def __init__(self, socket: ClientConnection, messages: int | None) -> None:
        self._socket = socket
        self._messages = messages
        self.send, self.recv = socket.send, socket.recv

    async def __aiter__(self) -> AsyncIterator[Any]:
        async for text in self._socket:
            if self._messages is not None:
                self._messages -= 1
                if self._messages < 0:
                    self._socket.transport.abort()
                    raise ConnectionError("cut")
            yield text


async def read(apis: list[Api], number: int, cuts: int, urls: list[str] | None = None, **given: Any) -> list[Any]:
    """Return all events that one client gets which is cut so often."""
    chance = random.Random(number)
    cutter = Cutter(chance, cuts)
    urls = urls or [api.url for api in apis[number % 2 :] + apis[: number % 2]]
    source = modelyard.completion(urls, apis[0].token, chat(**given), connect=cutter, patience_s=LIMIT_S)
    events = [event async for event in source]
    assert cutter.left == 0
    return events


def check_whole(events: list[Any], text: str) -> None:
    check_sequence(events)
    assert events[-1]["__typename"] == "CompletionFinished"
    assert text_of(events) == text
    assert events[-1]["message"]["text"] == text


def told(provider: FakeProvider, name: str, delay_s: float) -> str:
    """Let a model of this name say a text that shows every loss and repeat, and return it."""
    text = "".join(f"{number:03} ☂ " for number in range(PIECES))
    provider.answers(model=name, text=text, pieces=PIECES, delay_s=delay_s)
    return text


async def test_clients_that_are_cut_again_and_again_get_every_byte_once(
    installed: Installation, provider: FakeProvider
) -> None:
    apis = await installed.pair()
    text = told(provider, "cut", 0.02)
    await apis[0].add_model("cut", provider.url)

    found = await asyncio.gather(*(read(apis, number, 3, model=model("cut")) for number in range(CLIENTS)))

    for events in found:
        check_whole(events, text)
    assert len(provider.calls) == CLIENTS


async def test_a_client_whose_token_nobody_knows_is_told_so_at_once(installed: Installation) -> None:
    api, _ = await installed.pair()
    tries: list[str] = []

    def once(url: str, **options: Any) -> Any:
        tries.append(url)
        return open_socket(url, proxy=None, **options)

    with pytest.raises(modelyard.RequestRefused, match="unknown, revoked or expired"):
        _ = [event async for event in modelyard.completion([api.url], "my_wrong", chat(), connect=once)]

    assert len(tries) == 1


async def test_the_same_while_valkey_is_killed_and_started_again(
    installed: Installation, provider: FakeProvider
) -> None:
    apis = await installed.pair()
    text = told(provider, "away", 0.05)
    await apis[0].add_model("away", provider.url)

    async def trouble() -> None:
        await wait_for(lambda: len(provider.calls) == CLIENTS)
        await asyncio.sleep(0.5)
        installed.kill_valkey()
        await asyncio.sleep(0.7)
        await asyncio.to_thread(installed.start_valkey)

    reading = [asyncio.create_task(read(apis, number, 3, model=model("away"))) for number in range(CLIENTS)]
    await trouble()

    for events in await asyncio.gather(*reading):
        check_whole(events, text)
    assert len(provider.calls) == CLIENTS


async def test_an_end_that_valkey_has_lost_is_read_in_another_process_all_the_same(
    installed: Installation, provider: FakeProvider
) -> None:
    apis = await installed.pair()
    await apis[0].add_model("lost", provider.url)

    events = await apis[0].stream(model=model("lost"))
    installed.kill_valkey()
    for lost in (installed.settings.data / "appendonlydir").iterdir():
        lost.unlink()
    await asyncio.to_thread(installed.start_valkey)
    again = await apis[1].rejoin(events[0]["invocationId"])

    check_whole(events, HELLO)
    assert again == events


async def test_a_rolling_restart_loses_no_event(installed: Installation, provider: FakeProvider) -> None:
    apis = await installed.pair()
    text = told(provider, "rolled", 0.08)
    await apis[0].add_model("rolled", provider.url)
    urls = [api.url for api in apis]

    async def restart() -> None:
        await wait_for(lambda: len(provider.calls) == CLIENTS)
        stopped, fresh = await asyncio.gather(apis[0].stop(), installed.start())
        urls.append(fresh.url)
        assert stopped in STOPPED
        assert await apis[1].stop() in STOPPED

    reading = [asyncio.create_task(read(apis, number, 0, urls, model=model("rolled"))) for number in range(CLIENTS)]
    await restart()

    for events in await asyncio.gather(*reading):
        check_whole(events, text)
    assert len(provider.calls) == CLIENTS


async def test_readers_are_sent_elsewhere_with_a_proper_end_before_the_socket_closes(
    installed: Installation, provider: FakeProvider
) -> None:
    one, two = await installed.pair()
    text = told(provider, "sent", 0.05)
    await one.add_model("sent", provider.url)

    async with one.socket() as ws:
        source = completion(ws, chat(model=model("sent")))
        before = [await anext(source) for _ in range(5)]
        stopping = asyncio.create_task(one.stop())
        before += [event async for event in source]  # ends by `complete`, or the socket's end would raise
        interrupted = before.pop()
        await ws.wait_closed()
    after = await two.rejoin(before[0]["invocationId"], interrupted["resumeAfter"])

    assert (interrupted["__typename"], interrupted["reason"]) == ("CompletionInterrupted", "SHUTDOWN")
    assert interrupted["sequence"] == interrupted["resumeAfter"] == before[-1]["sequence"]
    assert interrupted["retryAfter"] is not None
    assert ws.close_code == 1012
    check_whole(before + after, text)
    assert await stopping in STOPPED


async def test_what_does_not_end_in_time_fails_for_everybody(installed: Installation, provider: FakeProvider) -> None:
    two, _ = await installed.pair()
    one = await installed.start(DRAIN_SECONDS="3", GRACE_SECONDS="0")
    await two.add_model("late:endless", provider.url)
    await two.add_model("late:silent", provider.url)
    async with one.socket() as ws:
        source = completion(ws, chat(model=model("late:endless")))
        first = await anext(source)
        unanswered = {"query": COMPLETE, "variables": {"input": chat(model=model("late:silent"))}}
        await ws.send(json.dumps({"id": "2", "type": "subscribe", "payload": unanswered}))
        await wait_for(lambda: any(call.model == "late:silent" for call in provider.calls))
        stopping = asyncio.create_task(one.stop())
        interrupted = [event async for event in source][-1]
        (refused,) = [event async for event in completion(ws, chat(model=model("late:endless")), operation="3")]
        ended = json.loads(await ws.recv())

    after = await two.rejoin(first["invocationId"], interrupted["resumeAfter"])

    assert interrupted["reason"] == "SHUTDOWN"
    assert (refused["invocationId"], refused["error"]["code"]) == (None, "SERVER_UNAVAILABLE")
    assert ended["id"] == "2"
    assert ended["payload"]["data"]["complete"]["errors"][0]["code"] == "SERVER_UNAVAILABLE"
    assert after[-1]["__typename"] == "CompletionFailed"
    assert (after[-1]["error"]["code"], after[-1]["error"]["retryable"]) == ("SERVER_UNAVAILABLE", True)
    assert await stopping in STOPPED


async def test_readers_of_a_killed_process_are_told_so_once_they_come_back(
    installed: Installation, provider: FakeProvider
) -> None:
    one, two = await installed.pair()
    await one.add_model("killed:endless", provider.url)
    before = []
    async with one.socket() as ws:
        async for event in completion(ws, chat(model=model("killed:endless"))):
            before.append(event)
            if len(before) == 30:
                break
        one.kill()
    killed = time.monotonic()

    after, again = await asyncio.gather(
        two.rejoin(before[0]["invocationId"], before[-1]["sequence"]), two.rejoin(before[0]["invocationId"])
    )

    assert time.monotonic() - killed < 10
    check_sequence(before + after)
    check_sequence(again)
    for end in (after[-1], again[-1]):
        assert (end["__typename"], end["error"]["code"], end["error"]["retryable"]) == (
            "CompletionFailed",
            "SERVER_UNAVAILABLE",
            True,
        )
    assert await two.rejoin(before[0]["invocationId"], 0) == again[1:]


async def test_calls_of_a_killed_process_are_soon_not_counted_as_under_way(
    installed: Installation, provider: FakeProvider
) -> None:
    first, second = await asyncio.gather(installed.start(), installed.start())
    pool = await pooled(second, provider, "silent", "silent")

    async def under_way() -> list[int]:
        return [one["inFlight"] for one in await members(second, pool)]

    async with first.socket() as one, second.socket() as other, asyncio.timeout(2 * LIMIT_S):
        for number in range(100):
            payload = {"query": COMPLETION, "variables": {"input": chat(model=model("pooled"))}}
            message = {"id": str(number), "type": "subscribe", "payload": payload}
            await (one if number % 2 else other).send(json.dumps(message))
        while await under_way() != [50, 50]:
            await asyncio.sleep(0.1)

        first.kill()
        began = time.monotonic()
        while sum(await under_way()) != 50:
            await asyncio.sleep(0.1)
        took = time.monotonic() - began
        second.kill()
        for socket in (one, other):
            socket.transport.abort()

    assert took < 15


async def test_pools_go_on_without_valkey_and_are_shared_again_when_it_is_back(
    installed: Installation, provider: FakeProvider
) -> None:
    one, other = await installed.pair()
    pool = await pooled(one, provider, "text", "text", label="alone")
    await calls(one, 4)
    assert await redis_of(one) == (200, True, None)

    installed.kill_valkey()
    async with asyncio.timeout(LIMIT_S):
        without = [answer for api in (one, other) for answer in await calls(api, 10)]
        status, is_there, problem = await redis_of(one)
        provider.answers("rate_limited", key="sk-0:text", headers={"retry-after": "300"})
        without += await calls(one, 4)
    known = [[member["health"] for member in await members(api, pool)] for api in (one, other)]
    await asyncio.to_thread(installed.start_valkey)
    async with asyncio.timeout(LIMIT_S):
        while (await members(other, pool))[0]["health"] != "COOLING_DOWN":
            await asyncio.sleep(0.1)
        while not (await redis_of(other))[1]:
            await asyncio.sleep(0.1)
        while any(member["inFlight"] for member in await members(other, pool)):
            await asyncio.sleep(0.1)
    before = len(provider.calls)
    after = [answer for api in (one, other) for answer in await calls(api, 4)]

    assert {answer["message"]["text"] for answer in (*without, *after)} == {HELLO}
    assert (status, is_there) == (200, False)
    assert "pools" in problem
    assert known == [["COOLING_DOWN", "HEALTHY"], ["HEALTHY", "HEALTHY"]]
    assert len(provider.calls) == before + 8, "both processes know who rests"


async def redis_of(api: Api) -> tuple[int, bool, Any]:
    """Return the status of a process's readiness, and what it says of Redis."""
    async with httpx.AsyncClient(timeout=LIMIT_S, trust_env=False, verify=NO_TLS) as client:
        answer = await client.get(f"{api.url}/health/ready")
    told = answer.json()["redis"]
    return answer.status_code, told["ok"], told["problem"]

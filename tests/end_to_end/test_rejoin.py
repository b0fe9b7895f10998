"""A completion outlives its connection: whoever began it finds it again, in any process, and nothing is lost."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any
from uuid import UUID

import pytest
from redis.asyncio import Redis

from core.settings import Settings
from graph import ids
from storage.redis import absolute
from tests.end_to_end.test_completion import names, settled, wait_for
from tests.fake_provider import FakeProvider
from tests.product import Product, chat, check_sequence, completion, model, rejoined, serving, text_of

CREATE_TOKEN = """mutation($input:CreateApiTokenInput!){createApiToken(input:$input){
  secret apiToken{id} errors{code message}}}"""
CANCEL = "mutation($input:CancelInvocationInput!){cancelInvocation(input:$input){invocation{status} errors{code path}}}"


@pytest.fixture
async def other(product: Product, product_settings: Settings) -> AsyncIterator[Product]:
    """Return another API process of the same installation."""
    async with serving(product_settings, product.token) as started:
        yield started


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(absolute(redis_url)) as client:
        yield client


async def cut_after(product: Product, count: int, **given: Any) -> list[Any]:
    """Return the first events of a completion whose connection is then lost."""
    async with product.socket() as ws:
        async with aclosing(completion(ws, chat(**given))) as events:
            found = [await anext(events) for _ in range(count)]
        ws.transport.abort()
    return found


def log_of(events: list[Any]) -> str:
    parts = ids.decode(events[0]["invocationId"])
    assert parts is not None
    return f"modelyard:log:{UUID(parts[1][0]).hex}"


@pytest.mark.parametrize("where", ["owner", "other"])
async def test_a_lost_reader_goes_on_where_it_was(
    product: Product, other: Product, provider: FakeProvider, where: str
) -> None:
    await names(product, provider, "slow")
    before = await cut_after(product, 4, model=model("slow"))

    again = product if where == "owner" else other
    after = await again.rejoin(before[0]["invocationId"], before[-1]["sequence"])

    check_sequence(before + after)
    assert text_of(before + after) == "Hello from the fake provider."
    assert after[-1]["message"]["text"] == "Hello from the fake provider."
    assert after[-1]["usage"]["estimated"] is False
    assert len(provider.calls) == 1


async def test_a_finished_completion_is_read_again_from_anywhere(
    product: Product, other: Product, provider: FakeProvider
) -> None:
    await names(product, provider, "tools", "reasoning")

    for name in ("tools", "reasoning"):
        events = await product.stream(model=model(name))
        again = await other.rejoin(events[0]["invocationId"])
        tail = await other.rejoin(events[0]["invocationId"], events[-2]["sequence"])
        nothing = await other.rejoin(events[0]["invocationId"], events[-1]["sequence"])

        assert again == events
        assert tail == events[-1:]
        assert nothing == []


async def test_events_are_kept_for_ten_minutes_after_the_end(
    product: Product, other: Product, provider: FakeProvider, redis: Redis
) -> None:
    await names(product, provider, "text")
    events = await product.stream(model=model("text"))
    log = log_of(events)

    assert 590 < await redis.ttl(log) <= 600
    assert 590 < await redis.ttl(f"{log}:meta") <= 600
    await redis.delete(log, f"{log}:meta")
    (refused,) = await other.rejoin(events[0]["invocationId"], 2)

    assert (refused["__typename"], refused["invocationId"], refused["sequence"]) == ("CompletionFailed", None, 3)
    assert (refused["error"]["code"], refused["error"]["path"]) == ("NOT_FOUND", ["invocationId"])
    assert "10 minutes" in refused["error"]["message"]


async def test_text_is_for_who_began_it_alone(product: Product, other: Product, provider: FakeProvider) -> None:
    await names(product, provider, "text")
    workspace = (await product.data("{workspace{id}}"))["workspace"]["id"]
    made = await product.changed(CREATE_TOKEN, name="service", role="ADMIN", workspaceId=workspace, service=True)
    events = await product.stream(model=model("text"))
    unknown = ids.encode("Invocation", UUID(int=7))

    for api in (product, other):
        foreign = await api.rejoin(events[0]["invocationId"], token=made["secret"])
        nobody = await api.rejoin(unknown, token=made["secret"])
        garbage = await api.rejoin("garbage", token=made["secret"])

        assert foreign == nobody == garbage
        assert foreign[0]["error"]["code"] == "NOT_FOUND"


async def test_a_number_below_the_first_is_refused(product: Product, provider: FakeProvider) -> None:
    await names(product, provider, "text")
    events = await product.stream(model=model("text"))

    (refused,) = await product.rejoin(events[0]["invocationId"], -2)

    assert (refused["error"]["code"], refused["error"]["path"]) == ("INVALID_INPUT", ["after"])


async def test_several_readers_of_one_stream_get_the_same(
    product: Product, other: Product, provider: FakeProvider
) -> None:
    await names(product, provider, "slow")

    async with product.socket() as ws:
        events = completion(ws, chat(model=model("slow")))
        first = await anext(events)
        readers = [asyncio.create_task(api.rejoin(first["invocationId"])) for api in (product, other) for _ in range(3)]
        whole = [first, *[event async for event in events]]

    for found in await asyncio.gather(*readers):
        assert found == whole
    assert len(provider.calls) == 1


async def test_who_reads_elsewhere_keeps_the_call_alive(
    product: Product, other: Product, provider: FakeProvider
) -> None:
    await names(product, provider, "endless")
    before = await cut_after(product, 3, model=model("endless"))

    async with other.socket() as ws:
        events = rejoined(ws, before[0]["invocationId"], before[-1]["sequence"])
        for _ in range(60):  # longer than the grace time
            await anext(events)
        assert provider.answering == 1
        await events.aclose()
        await ws.send(json.dumps({"id": "1", "type": "complete"}))
        await wait_for(lambda: provider.answering == 0)

    await settled(product, "CANCELLED")


async def test_cancelling_in_another_process_ends_every_reader(
    product: Product, other: Product, provider: FakeProvider
) -> None:
    await names(product, provider, "endless")

    async with product.socket() as ws:
        events = completion(ws, chat(model=model("endless")))
        found = [await anext(events) for _ in range(3)]
        elsewhere = asyncio.create_task(other.rejoin(found[0]["invocationId"]))
        cancelled = await other.changed(CANCEL, id=found[0]["invocationId"])
        found += [event async for event in events]

    assert cancelled["invocation"]["status"] == "CANCELLED"
    check_sequence(found)
    assert found[-1]["error"]["code"] == "CANCELLED"
    assert await elsewhere == found
    await asyncio.to_thread(provider.wait_until_quiet)

"""The same key gives the same call, of every type and from every process: made once, charged once, answered again."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from storage.redis import absolute
from tests.conftest import sqlite_in
from tests.end_to_end.hosted import balance, grant, hosting
from tests.end_to_end.test_hosted_calls import OTHERS
from tests.end_to_end.test_invoke import CANCEL, SPEECH, heard
from tests.fake_provider import FakeProvider, Scenario
from tests.product import Client, Product, model, serving
from tests.waiting import wait_for

ANSWERS = {
    "vectors": "embeddings",
    "order": "hits { index score text }",
    "words": "text",
    "judge": "flagged categories",
}


@pytest.fixture
def grace_s() -> str:
    """Return how long a call goes on that nobody waits for."""
    return "60"


@pytest.fixture
async def product(
    sqlite_template: Path, redis_url: str, tmp_path: Path, provider: FakeProvider, grace_s: str
) -> AsyncIterator[Product]:
    url = sqlite_in(tmp_path, sqlite_template)
    async with hosting(url, redis_url, tmp_path, provider, GRACE_SECONDS=grace_s) as started:
        yield started


@pytest.fixture
async def other(product: Product) -> AsyncIterator[Product]:
    """Another process, as far as two Apps on the same engines are."""
    async with serving(product.app.settings, product.token) as beside:
        yield beside


async def call(client: Client, name: str, key: str = "k", **more: Any) -> Any:
    """Return the payload of a call of a hosted model with a key."""
    query, given = OTHERS[name]
    query = query.replace("invocation {", "invocation { id", 1)
    data = await client.data(query, input={"model": model(name), "idempotencyKey": key, **given, **more})
    (payload,) = data.values()
    return payload


async def said(client: Product, key: str = "k", text: str = "Hello", **more: Any) -> list[Any]:
    """Return the events of speech with a key."""
    given = {"model": model("voice"), "voice": "alloy", "text": text, "idempotencyKey": key, **more}
    return [event async for event in heard(client, **given)]


def sound_of(events: list[Any]) -> bytes:
    assert [event["sequence"] for event in events] == list(range(len(events)))
    return b"".join(base64.b64decode(event["audio"]) for event in events if event["__typename"] == "SpeechChunk")


@pytest.mark.parametrize("name", list(OTHERS))
async def test_a_repeat_is_given_the_same_answer_and_charged_once(
    product: Product, other: Product, provider: FakeProvider, name: str
) -> None:
    quota = await grant(product, "TIMES", 5)
    provider.answers(first_delay_s=0.2)

    first, twin, elsewhere = await asyncio.gather(call(product, name), call(product, name), call(other, name))
    again = [await call(client, name) for client in (product, other)]

    assert first["errors"] == []
    assert first["invocation"]["status"] == "SUCCEEDED"
    assert twin == elsewhere == again[0] == again[1] == first
    assert len(provider.requests) == 1
    assert await balance(product, quota) == (1, 0, ["GRANT", "RESERVE", "SETTLE"])


async def test_a_key_with_another_input_is_a_conflict(product: Product, provider: FakeProvider) -> None:
    await grant(product, "TIMES", None)
    await call(product, "judge")

    other_text = await call(product, "judge", text="something else")
    other_operation = await call(product, "vectors")
    spoken = [await said(product, "s", text=text) for text in ("one", "two")]

    assert [(error["code"], error["path"]) for error in other_text["errors"]] == [("CONFLICT", ["idempotencyKey"])]
    assert other_text["invocation"] is None
    assert other_operation["errors"] == []
    assert [event["error"]["code"] for event in spoken[1]] == ["CONFLICT"]
    assert len(provider.requests) == 3


async def test_an_object_whose_fields_come_in_another_order_is_the_same_input(
    product: Product, provider: FakeProvider
) -> None:
    await grant(product, "TIMES", None)
    options = {"one": 1, "more": {"two": [{"a": 2, "b": 3}], "three": None}}
    turned = {"more": {"three": None, "two": [{"b": 3, "a": 2}]}, "one": 1}

    first = await call(product, "judge", providerOptions=options)
    again = await call(product, "judge", providerOptions=turned)
    other = await call(product, "judge", providerOptions=turned | {"one": 2})

    assert (again, first["errors"]) == (first, [])
    assert [error["code"] for error in other["errors"]] == ["CONFLICT"]
    assert len(provider.requests) == 1


async def test_a_failure_is_told_again(product: Product, other: Product, provider: FakeProvider) -> None:
    quota = await grant(product, "TIMES", 5)
    provider.answers("server_error")

    first = await call(product, "judge")
    spoken = await said(product, "s")
    provider.answers("text")
    again = [await call(client, "judge") for client in (product, other)]
    repeated = [await said(client, "s") for client in (product, other)]

    assert [error["code"] for error in first["errors"]] == ["UPSTREAM_UNAVAILABLE"]
    assert again == [first, first]
    assert spoken[-1]["error"]["code"] == "UPSTREAM_UNAVAILABLE"
    assert repeated == [spoken, spoken]
    assert len(provider.requests) == 2
    assert (await balance(product, quota))[:2] == (0, 0)


async def test_a_call_that_was_refused_is_not_remembered(product: Product, provider: FakeProvider) -> None:
    quota = await grant(product, "TOKENS", 1)

    refused = await call(product, "vectors", texts=["a text of more than one token"])
    adjust = "mutation ($input: AdjustQuotaInput!) { adjustQuota(input: $input) { quota { id } errors { message } } }"
    await product.changed(adjust, id=quota, amount=1000, note="more", idempotencyKey="a")
    served = await call(product, "vectors", texts=["a text of more than one token"])

    assert ([error["code"] for error in refused["errors"]], refused["invocation"]) == (["QUOTA_EXCEEDED"], None)
    assert served["errors"] == []


async def test_an_answer_that_is_no_longer_kept_is_a_conflict_that_names_the_call(
    product: Product, provider: FakeProvider, redis_url: str
) -> None:
    quota = await grant(product, "TIMES", 5)
    async with Redis.from_url(absolute(redis_url)) as redis:
        before = {key async for key in redis.scan_iter("modelyard:result:*")}
        first = await call(product, "judge")
        heard_first = await said(product, "s")
        kept = {key async for key in redis.scan_iter("modelyard:result:*")} - before
        assert [590 < await redis.ttl(key) <= 600 for key in kept] == [True, True]
        await redis.delete(*kept)

    late = await call(product, "judge")
    (spoken,) = await said(product, "s")

    assert [(error["code"], error["path"]) for error in late["errors"]] == [("CONFLICT", ["idempotencyKey"])]
    assert first["invocation"]["id"] in late["errors"][0]["message"]
    assert spoken["error"]["code"] == "CONFLICT"
    assert heard_first[0]["invocationId"] in spoken["error"]["message"]
    assert len(provider.requests) == 2
    assert (await balance(product, quota))[0] == 2


async def test_speech_is_heard_again(product: Product, other: Product, provider: FakeProvider) -> None:
    quota = await grant(product, "TIMES", 5)
    provider.answers(pieces=4, delay_s=0.05)

    first, twin, elsewhere = await asyncio.gather(said(product), said(product), said(other))
    again = await said(other)

    assert sound_of(first) == b"<alloy>Hello"
    for events in (first, twin, elsewhere, again):
        assert sound_of(events) == sound_of(first)
        assert (events[0], events[-1] | {"sequence": 0}) == (first[0], first[-1] | {"sequence": 0})
    assert len(provider.requests) == 1
    assert await balance(product, quota) == (1, 0, ["GRANT", "RESERVE", "SETTLE"])


async def test_speech_that_is_left_goes_on_for_who_comes_back(product: Product, provider: FakeProvider) -> None:
    await grant(product, "TIMES", 5)
    provider.answers(pieces=8, delay_s=0.05)
    given = {"model": model("voice"), "voice": "alloy", "text": "Hello again", "idempotencyKey": "k"}
    async with product.socket() as ws:
        await ws.send(
            json.dumps({"id": "1", "type": "subscribe", "payload": {"query": SPEECH, "variables": {"input": given}}})
        )
        await ws.recv()

    events = await said(product, text="Hello again")

    assert sound_of(events) == b"<alloy>Hello again"
    assert events[-1]["__typename"] == "SpeechFinished"
    assert len(provider.requests) == 1


@pytest.mark.parametrize("grace_s", ["0.3"])
async def test_who_waits_elsewhere_keeps_the_call_going(
    product: Product, other: Product, provider: FakeProvider
) -> None:
    await grant(product, "TIMES", 5)
    provider.answers(halts_after=0)
    given = {"model": model("judge"), "idempotencyKey": "k", **OTHERS["judge"][1]}
    payload = {"query": OTHERS["judge"][0], "variables": {"input": given}}
    async with product.socket() as ws:
        await ws.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))
        await wait_for(lambda: provider.requests)
        twin = asyncio.create_task(call(other, "judge"))
        (owned,) = product.app.running.all()
        await wait_for(lambda: owned.elsewhere)

    await asyncio.sleep(0.6)  # longer than the grace time
    provider.go_on()
    answered = await twin

    assert answered["errors"] == []
    assert answered["flagged"] is False


async def test_a_twin_is_told_that_the_call_was_cancelled(product: Product, provider: FakeProvider) -> None:
    await grant(product, "TIMES", 5)
    provider.answers(Scenario(never_answers=True))
    twins = [asyncio.create_task(call(product, "judge")) for _ in range(2)]
    await wait_for(lambda: provider.requests)

    await product.changed(CANCEL, id=(await product.last_invocation())["id"])

    for payload in [*await asyncio.gather(*twins), await call(product, "judge")]:
        assert [error["code"] for error in payload["errors"]] == ["CANCELLED"]
    assert len(provider.requests) == 1


async def test_more_sound_than_is_kept_is_heard_once(product: Product, provider: FakeProvider) -> None:
    await grant(product, "TIMES", 5)
    sent = 9 * 1024 * 1024
    provider.answers(Scenario(body=b"\xff" * sent, content_type="audio/mpeg"))

    first = await said(product)
    (again,) = await said(product)

    assert len(sound_of(first)) == sent
    assert again["error"]["code"] == "CONFLICT"

"""A completion outlives its connection: whoever began it finds it again, in any process, and nothing is lost."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any
from uuid import UUID

import httpx
import pytest
from redis.asyncio import Redis

from core.completion import logged
from core.model_types import Usage
from core.ports.event_log import Takeover
from core.recorder import taken_over
from core.settings import Settings
from graph import ids
from storage.redis import absolute
from tests.end_to_end.test_completion import names, settled
from tests.fake_dialects.base import sse
from tests.fake_provider import FakeProvider, Scenario
from tests.product import (
    COMPLETION,
    EVENTS,
    NO_TLS,
    Product,
    chat,
    check_sequence,
    completion,
    model,
    rejoined,
    serving,
    text_of,
)
from tests.waiting import LIMIT_S, wait_for

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


def invocation_of(events: list[Any]) -> UUID:
    key = ids.key_of(events[0]["invocationId"], "Invocation")
    assert key is not None
    return key


def log_of(events: list[Any]) -> str:
    return f"modelyard:log:{invocation_of(events).hex}"


@pytest.mark.parametrize("grace_s", ["60"])
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

    async with other.socket() as ws:
        async with product.socket() as lost, aclosing(completion(lost, chat(model=model("endless")))) as source:
            before = [await anext(source) for _ in range(3)]
            events = rejoined(ws, before[0]["invocationId"], before[-1]["sequence"])
            await anext(events)
            (owned,) = product.app.running.all()
            await wait_for(lambda: owned.elsewhere)
            lost.transport.abort()
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


async def server_sent(
    product: Product, body: dict[str, Any], *, last: str | None = None, count: int | None = None
) -> tuple[int, list[tuple[str, Any]]]:
    """Return the status and the events of a stream with their ids; `count` of them, then the connection is dropped."""
    headers = {**product.headers(), "accept": "text/event-stream"} | ({"last-event-id": last} if last else {})
    found: list[tuple[str, Any]] = []
    async with (
        httpx.AsyncClient(timeout=LIMIT_S, trust_env=False, verify=NO_TLS) as client,
        client.stream("POST", f"{product.url}/graphql", json=body, headers=headers) as answer,
    ):
        mark = ""
        async for line in answer.aiter_lines():
            if line.startswith("id: "):
                mark = line[4:]
            elif line.startswith("data: {"):
                ((_, event),) = json.loads(line[6:])["data"].items()
                found.append((mark, event))
                mark = ""
                if len(found) == count:
                    break
    return answer.status_code, found


@pytest.mark.parametrize("grace_s", ["60"])
async def test_a_client_of_server_sent_events_goes_on_where_it_was(
    product: Product, other: Product, provider: FakeProvider
) -> None:
    await names(product, provider, "slow")
    body = {"query": COMPLETION, "variables": {"input": chat(model=model("slow"))}}

    _, before = await server_sent(product, body, count=4)
    _, between = await server_sent(other, body, last=before[-1][0], count=3)
    _, after = await server_sent(product, body, last=between[-1][0])
    status, nothing = await server_sent(product, body, last=after[-1][0])

    events = [event for _, event in before + between + after]
    check_sequence(events)
    assert text_of(events) == "Hello from the fake provider."
    assert (status, nothing) == (204, [])
    assert len({mark for mark, _ in before + between + after}) == len(events)
    assert len(provider.calls) == 1


async def test_the_last_event_id_goes_before_after_and_must_be_of_the_completion(
    product: Product, provider: FakeProvider
) -> None:
    await names(product, provider, "text")
    events, foreign = [await product.stream(model=model("text")) for _ in range(2)]
    body = {"query": EVENTS, "variables": {"id": events[0]["invocationId"], "after": 0}}

    _, found = await server_sent(product, body, last=f"{events[0]['invocationId']}:2")
    _, ((_, of_another),) = await server_sent(product, body, last=f"{foreign[0]['invocationId']}:2")
    _, ((_, garbage),) = await server_sent(product, body, last="garbage")

    assert [event for _, event in found] == events[3:]
    for refused in (of_another, garbage):
        assert (refused["error"]["code"], refused["invocationId"]) == ("INVALID_INPUT", None)


REVOKE = "mutation($input:RevokeApiTokenInput!){revokeApiToken(input:$input){apiToken{revokedAt} errors{code}}}"


async def test_a_revoked_token_loses_its_streams_in_every_process(
    product: Product, other: Product, provider: FakeProvider
) -> None:
    await names(product, provider, "endless")
    workspace = (await product.data("{workspace{id}}"))["workspace"]["id"]
    made = await product.changed(CREATE_TOKEN, name="service", role="MEMBER", workspaceId=workspace, service=True)

    async with product.socket(token=made["secret"]) as ws:
        events = completion(ws, chat(model=model("endless")))
        found = [await anext(events) for _ in range(3)]
        elsewhere = asyncio.create_task(other.rejoin(found[0]["invocationId"], token=made["secret"]))
        (owned,) = product.app.running.all()
        await wait_for(lambda: owned.elsewhere)
        async with asyncio.timeout(LIMIT_S):
            await product.changed(REVOKE, id=made["apiToken"]["id"])
            here = [event async for event in events][-1]
            there = (await elsewhere)[-1]

    for last in (here, there):
        assert (last["__typename"], last.get("reason")) in {
            ("CompletionInterrupted", "UNAUTHORIZED"),
            ("CompletionFailed", None),
        }
    assert here["__typename"] == "CompletionInterrupted"
    await settled(product, "CANCELLED")
    await asyncio.to_thread(provider.wait_until_quiet)


def _flood(texts: list[str]) -> tuple[bytes, ...]:
    """Return the events of a stream in which no two of the same kind follow each other, which would go on as one."""

    def chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
        return sse({"id": "1", "model": "flood", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

    said = [event for text in texts for event in (chunk({"reasoning_content": "m"}), chunk({"content": text}))]
    return (*said, chunk({}, "stop"), b"data: [DONE]\n\n")


async def test_a_reader_who_stops_reading_is_sent_away_and_loses_nothing(
    product: Product, product_settings: Settings, provider: FakeProvider
) -> None:
    async with serving(replace(product_settings, grace_seconds=60), product.token, send_buffer=16_384) as patient:
        texts = [f"{number:06} " * 10 for number in range(6000)]
        text = "".join(texts)
        provider.answers(Scenario(text="", events=_flood(texts)), model="flood")
        await product.add_model("flood", provider.url)
        body = {"query": COMPLETION, "variables": {"input": chat(model=model("flood"))}}
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", int(patient.url.rpartition(":")[2])))
        content = json.dumps(body).encode()
        head = (
            f"POST /graphql HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {product.token}\r\naccept: text/event-stream\r\n"
            f"content-type: application/json\r\ncontent-length: {len(content)}\r\nconnection: close\r\n\r\n"
        )

        reader, writer = await asyncio.open_connection(sock=sock, limit=2**24)
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(head.encode() + content)
        await wait_for(lambda: provider.calls)
        await settled(patient, "SUCCEEDED")
        reader._transport.resume_reading()  # type: ignore[attr-defined]
        lines = (await reader.read(-1)).split(b"\n")
        writer.close()

        events = [json.loads(line[6:])["data"]["completion"] for line in lines if line.startswith(b"data: {")]
        last = events.pop()
        assert (last["__typename"], last["reason"], last["resumeAfter"]) == (
            "CompletionInterrupted",
            "LAGGED",
            events[-1]["sequence"],
        )
        assert last["sequence"] == last["resumeAfter"]
        again = {"query": EVENTS, "variables": {"id": events[0]["invocationId"], "after": last["resumeAfter"]}}
        events += [event for _, event in (await server_sent(patient, again))[1]]
        check_sequence(events)
        assert text_of(events) == text == events[-1]["message"]["text"]


async def test_the_log_says_what_a_completion_has_produced(
    product: Product, other: Product, provider: FakeProvider
) -> None:
    await names(product, provider, "tools", "unauthorized")
    produced, failed = [await product.stream(model=model(name)) for name in ("tools", "unauthorized")]

    found, refused = [await logged(other.app, invocation_of(events)) for events in (produced, failed)]

    assert found is not None
    assert found.end is not None
    assert found.end.usage == Usage(input_tokens=11, output_tokens=6, cached_input_tokens=4)
    assert found.written.text == "I will look."
    assert found.written.produced == 'I will look.get_weather{"city": "Paris"}get_time{"zone": "Europe/Paris"}'
    assert refused is not None
    assert (refused.written.produced, refused.end and refused.end.usage) == ("", None)
    assert await logged(other.app, UUID(int=7)) is None


async def test_a_log_that_redis_has_lost_is_written_again(
    product: Product, other: Product, provider: FakeProvider, redis: Redis
) -> None:
    await names(product, provider, "slow")

    async with product.socket() as ws:
        source = completion(ws, chat(model=model("slow")))
        events = [await anext(source) for _ in range(8)]
        await wait_for_log(redis, events)
        assert await redis.delete(log_of(events), f"{log_of(events)}:meta") == 2
        elsewhere = asyncio.create_task(other.rejoin(events[0]["invocationId"], 3))
        events += [event async for event in source]

    assert await elsewhere == events[4:]
    assert await other.rejoin(events[0]["invocationId"]) == events


async def test_an_owner_that_was_taken_for_dead_ends_its_call(
    product: Product, other: Product, provider: FakeProvider, redis: Redis
) -> None:
    await names(product, provider, "endless")

    async with product.socket() as ws:
        source = completion(ws, chat(model=model("endless")))
        events = [await anext(source) for _ in range(3)]
        await wait_for_log(redis, events)
        head = await product.app.log.head(invocation_of(events))
        assert head is not None
        came = Takeover.ALIVE
        while came is Takeover.ALIVE:  # it says again and again that it lives
            await product.app.log.leave(product.app.process_id)
            came = await other.app.log.take_over(head, taken_over(head.invocation_id, 0))
        events += [event async for event in source]

    elsewhere = await other.rejoin(events[0]["invocationId"])
    assert came is Takeover.TAKEN
    check_sequence(events)
    check_sequence(elsewhere)
    assert events[-1]["error"] == elsewhere[-1]["error"]
    assert events[-1]["error"]["code"] == "SERVER_UNAVAILABLE"
    await asyncio.to_thread(provider.wait_until_quiet)
    assert (await settled(product, "FAILED"))["error"]["code"] == "SERVER_UNAVAILABLE"


async def wait_for_log(redis: Redis, events: list[Any]) -> None:
    while await redis.exists(log_of(events), f"{log_of(events)}:meta") < 2:
        await asyncio.sleep(0.01)

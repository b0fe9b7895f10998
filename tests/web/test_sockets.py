"""The view over WebSocket: the protocol's rules with their close codes, many operations at once, and leaving."""

import asyncio
import json
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

import web.sockets
from tests.waiting import LIMIT_S, wait_for
from tests.web.view import TOKEN, View, contexts, hear, say, streams, subscribe
from web.sockets import PROTOCOL

TICKS = "subscription { ticks }"


async def closed_with(ws: Any) -> int:
    """Return the code that the server closes with."""
    with pytest.raises(ConnectionClosed):
        while True:
            await asyncio.wait_for(ws.recv(), LIMIT_S)
    assert ws.close_code is not None
    return int(ws.close_code)


async def test_operations_of_every_kind_run_side_by_side(view: View) -> None:
    async with view.socket() as ws:
        await subscribe(ws, "subscription ($n: Int!) { count(end: $n) }", "s", n=3)
        await subscribe(ws, "{ hello }", "q")
        await subscribe(ws, "mutation { change }", "m")
        heard: dict[str, list[Any]] = {"s": [], "q": [], "m": []}
        for _ in range(8):
            message = await hear(ws)
            heard[message["id"]].append(message.get("payload", message["type"]))
    assert heard == {
        "s": [{"data": {"count": number}} for number in range(3)] + ["complete"],
        "q": [{"data": {"hello": "hello you"}}, "complete"],
        "m": [{"data": {"change": "changed"}}, "complete"],
    }


async def test_frames_are_text(view: View) -> None:
    async with view.socket() as ws:
        await subscribe(ws, "{ hello }")
        assert isinstance(await ws.recv(), str)


@pytest.mark.parametrize(
    "query", ["{", "{ nope }", "query A { hello } query B { hello }", "query ($n: Int!) { hello }"]
)
async def test_a_request_that_cannot_run_is_an_error_of_its_id_alone(view: View, query: str) -> None:
    async with view.socket() as ws:
        await subscribe(ws, query, "bad")
        message = await hear(ws)
        assert (message["id"], message["type"]) == ("bad", "error")
        assert message["payload"][0]["extensions"]["code"] == "BAD_REQUEST"
        await subscribe(ws, "{ hello }", "good")
        assert (await hear(ws))["payload"] == {"data": {"hello": "hello you"}}


@pytest.mark.parametrize(
    "text",
    ["", "no json", "null", "1", '"x"', "[]", "{}", '{"type": 5}', '{"type": "nope"}', '{"type": "subscribe", "id": 5}',
     '{"type": "subscribe", "id": "", "payload": {"query": "{ hello }"}}', '{"type": "subscribe", "id": "1"}',
     '{"type": "subscribe", "id": "1", "payload": {"query": 5}}', '{"type": "complete"}', b"{}", b"\xff"],
)  # fmt: skip
async def test_a_message_that_is_none_closes_with_4400(view: View, text: str | bytes) -> None:
    async with view.socket() as ws:
        await ws.send(text)
        assert await closed_with(ws) == 4400


async def test_the_codes_of_the_handshake(view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    async with view.socket(init=False) as ws:
        await subscribe(ws, "{ hello }")
        assert await closed_with(ws) == 4401
    async with view.socket() as ws:
        await say(ws, type="connection_init")
        assert await closed_with(ws) == 4429
    async with view.socket(init=False) as ws:
        await say(ws, type="connection_init", payload={"authorization": "Bearer my_wrong"})
        assert await closed_with(ws) == 4403
    async with view.socket(init=False) as ws:
        await say(ws, type="connection_init", payload=[])
        assert await closed_with(ws) == 4400
    monkeypatch.setattr(web.sockets, "INIT_SECONDS", 0.05)
    async with view.socket(init=False) as ws:
        assert await closed_with(ws) == 4408


async def test_an_id_that_runs_is_4409_and_one_that_ended_is_free(view: View) -> None:
    async with view.socket() as ws:
        for _ in range(2):
            await subscribe(ws, "{ hello }", "a")
            assert [(await hear(ws))["type"] for _ in range(2)] == ["next", "complete"]
        await subscribe(ws, TICKS, "a")
        await subscribe(ws, TICKS, "a")
        assert await closed_with(ws) == 4409
    await wait_for(lambda: streams.active == 0)


@pytest.mark.parametrize("protocol", ["graphql-ws", "nope"])
async def test_only_one_protocol_is_spoken(view: View, protocol: str) -> None:
    url = f"ws://127.0.0.1:{view.port}/graphql"
    async with connect(url, subprotocols=None, proxy=None) as ws:
        assert await closed_with(ws) == 4406
    async with connect(url, subprotocols=[Subprotocol(protocol), Subprotocol(PROTOCOL)], proxy=None) as ws:
        assert ws.subprotocol == PROTOCOL


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
async def test_pages_of_other_origins_get_no_socket(view: View, origin: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with view.socket(origin=origin):
            pass
    assert refused.value.response.status_code == 403
    async with view.socket(origin="https://friend.example"):
        pass


async def test_pings_are_answered_with_their_payload(view: View) -> None:
    async with view.socket() as ws:
        await say(ws, type="ping", payload={"a": 1})
        assert await hear(ws) == {"type": "pong", "payload": {"a": 1}}
        await say(ws, type="pong")
        await say(ws, type="ping")
        assert await hear(ws) == {"type": "pong"}


async def test_who_asks_is_looked_up_for_each_operation(view: View) -> None:
    async with view.socket() as ws:
        await subscribe(ws, "{ known }", "1")
        assert (await hear(ws))["payload"] == {"data": {"known": True}}
        assert (await hear(ws))["type"] == "complete"
        view.identity.revoked = True
        await subscribe(ws, "{ known }", "2")
        message = await hear(ws)
        assert (message["type"], message["payload"][0]["extensions"]["code"]) == ("error", "UNAUTHENTICATED")
    async with view.socket(token=None) as ws:
        await subscribe(ws, "{ known }")
        assert (await hear(ws))["payload"] == {"data": {"known": False}}


async def test_the_token_may_come_with_the_upgrade(view: View) -> None:
    url = f"ws://127.0.0.1:{view.port}/graphql"
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with connect(url, subprotocols=[Subprotocol(PROTOCOL)], proxy=None, additional_headers=headers) as ws:
        await say(ws, type="connection_init")
        await hear(ws)
        await subscribe(ws, "{ known }")
        assert (await hear(ws))["payload"] == {"data": {"known": True}}


async def test_operations_of_one_socket_share_no_context(view: View) -> None:
    async with view.socket() as ws:
        for number in range(2):
            await subscribe(ws, "{ context }", str(number))
            await hear(ws)
            await hear(ws)
    first, second = contexts
    assert first is not second


async def test_a_connection_runs_so_many_operations_and_no_more(view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.sockets, "MAX_OPERATIONS", 3)
    async with view.socket() as ws:
        for number in range(4):
            await subscribe(ws, "subscription { ticks(every: 30) }", str(number))
        heard = [await hear(ws) for _ in range(4)]
        refused = [message for message in heard if message["type"] == "error"]
        assert [message["id"] for message in refused] == ["3"]
        assert refused[0]["payload"][0]["extensions"]["code"] == "RATE_LIMITED"
    await wait_for(lambda: streams.active == 0)


@pytest.mark.parametrize(("token", "other"), [(TOKEN, None), (None, TOKEN)])
async def test_a_token_opens_so_many_sockets_and_no_more_and_so_does_none(
    view: View, monkeypatch: pytest.MonkeyPatch, token: str | None, other: str | None
) -> None:
    monkeypatch.setattr(web.sockets, "MAX_SOCKETS_PER_TOKEN", 1)
    payload = {"authorization": f"Bearer {token}"} if token is not None else None
    async with view.socket(token=token), view.socket(token=other):
        async with view.socket(init=False) as second:
            await say(second, type="connection_init", payload=payload)
            assert await closed_with(second) == 1013
    await wait_for(lambda: not view.endpoint.open)
    async with view.socket() as ws:
        await subscribe(ws, "{ hello }")
        assert (await hear(ws))["type"] == "next"


async def test_a_message_that_is_too_big_closes(view: View) -> None:
    async with view.socket() as ws:
        await ws.send(json.dumps({"type": "ping", "payload": {"a": "x" * 300_000}}))
        assert await closed_with(ws) == 1009


@pytest.mark.parametrize("query", [TICKS, "subscription { rush }"])
@pytest.mark.parametrize("way", ["complete", "close", "abort"])
async def test_who_leaves_leaves_nothing_behind(view: View, query: str, way: str) -> None:
    async with view.socket() as ws:
        for number in range(10):
            await subscribe(ws, query, str(number))
        await wait_for(lambda: streams.active == 10)
        if way == "complete":
            for number in range(10):
                await say(ws, id=str(number), type="complete")
            await wait_for(lambda: streams.active == 0)
        elif way == "abort":
            ws.transport.abort()
    await wait_for(lambda: streams.active == 0)
    assert streams.cleaned == 10
    await wait_for(lambda: not view.endpoint.open)


async def test_what_is_completed_is_heard_of_no_more(view: View) -> None:
    async with view.socket() as ws:
        await subscribe(ws, TICKS, "gone")
        assert (await hear(ws))["id"] == "gone"
        await say(ws, id="gone", type="complete")
        await say(ws, id="never", type="complete")
        await wait_for(lambda: streams.active == 0)
        await say(ws, type="ping")
        while (message := await hear(ws))["type"] != "pong":
            assert message["id"] == "gone"
            assert message["type"] == "next"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ws.recv(), 0.2)


async def test_a_stream_that_breaks_says_so_and_the_socket_stays(view: View) -> None:
    async with view.socket() as ws:
        await subscribe(ws, "subscription { broken }")
        first, second, third = [await hear(ws) for _ in range(3)]
        assert first["payload"] == {"data": {"broken": 0}}
        assert second["payload"]["errors"][0]["extensions"]["code"] == "INTERNAL"
        assert "canary" not in json.dumps(second)
        assert third == {"id": "1", "type": "complete"}
        await subscribe(ws, "{ hello }")
        assert (await hear(ws))["payload"] == {"data": {"hello": "hello you"}}


async def test_a_fault_outside_of_resolvers_is_masked_too(view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    async with view.socket() as ws:

        def broken(*_: object) -> None:
            raise RuntimeError("canary")

        monkeypatch.setattr(web.sockets, "make_context", broken)
        await subscribe(ws, "{ hello }")
        message = await hear(ws)
        assert (message["type"], message["payload"][0]["extensions"]["code"]) == ("error", "INTERNAL")
        assert "canary" not in json.dumps(message)


async def test_a_query_that_takes_too_long_is_stopped(view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.sockets, "QUERY_SECONDS", 0.1)
    async with view.socket() as ws:
        await subscribe(ws, "{ forever }")
        message = await hear(ws)
        assert (message["type"], message["payload"][0]["extensions"]["code"]) == ("error", "TIMEOUT")

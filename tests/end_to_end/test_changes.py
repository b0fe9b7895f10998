"""Following changes over the transports that stream: WebSocket and Server-Sent Events."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.product import NO_TLS, Product
from tests.waiting import LIMIT_S

FOLLOW = (
    'subscription { providerChanged(provider: "echo") { kind provider { customStatus credentials { totalCount } } } }'
)
CREATE = """mutation ($input: CreateCredentialInput!) { createCredential(input: $input) {
  credential { id } errors { code message path } } }"""
NEW = {"provider": "echo", "name": "main", "values": [{"field": "prefix", "value": "so"}]}
REFUSED = 'subscription { providerChanged(provider: "nothing") { kind } }'


def shown(payload: Any) -> tuple[str, int]:
    change = payload["data"]["providerChanged"]
    return change["kind"], change["provider"]["credentials"]["totalCount"]


async def test_changes_are_followed_over_a_socket_beside_other_operations(product: Product) -> None:
    async with product.socket() as ws, asyncio.timeout(LIMIT_S):
        await ws.send(json.dumps({"id": "follow", "type": "subscribe", "payload": {"query": FOLLOW}}))
        first = json.loads(await ws.recv())
        create = {"query": CREATE, "variables": {"input": NEW}}
        await ws.send(json.dumps({"id": "create", "type": "subscribe", "payload": create}))
        then = [json.loads(await ws.recv()) for _ in range(3)]
        await ws.send(json.dumps({"id": "refused", "type": "subscribe", "payload": {"query": REFUSED}}))
        refused = json.loads(await ws.recv())

    assert shown(first["payload"]) == ("CURRENT", 0)
    assert [shown(one["payload"]) for one in then if one["id"] == "follow"] == [("UPDATED", 1)]
    assert (refused["type"], refused["payload"][0]["extensions"]["code"]) == ("error", "NOT_FOUND")


async def test_changes_are_followed_by_events_sent_from_the_server(product: Product) -> None:
    async with (
        httpx.AsyncClient(timeout=LIMIT_S, trust_env=False, verify=NO_TLS) as client,
        client.stream(
            "POST",
            f"{product.url}/graphql",
            json={"query": FOLLOW},
            headers={**product.headers(), "accept": "text/event-stream"},
        ) as answer,
    ):
        lines = answer.aiter_lines()
        first = await _data(lines)
        await product.changed(CREATE, **NEW)
        then = await _data(lines)

    assert shown(first) == ("CURRENT", 0)
    assert shown(then) == ("UPDATED", 1)


@pytest.mark.parametrize("accept", ["text/event-stream", "multipart/mixed;subscriptionSpec=1.0"])
async def test_what_may_not_be_followed_is_refused_over_http(product: Product, accept: str) -> None:
    answer = await product.post({"query": REFUSED}, accept=accept)

    assert '"code":"NOT_FOUND"' in answer.text


async def _data(lines: Any) -> Any:
    async for line in lines:
        if line.startswith("data: {"):
            return json.loads(line[6:])
    raise AssertionError("the stream has ended")

"""A completion of Modelyard that survives lost connections and restarted servers. Needs `pip install websockets`.

    async for event in completion(["https://one.example", "https://two.example"], token, {"messages": [...]}):
        if event["__typename"] == "TextDelta":
            print(event["text"], end="")

The events are those of the subscription `completion`, each once and in order, however often the connection is lost. The
last one is CompletionFinished or CompletionFailed; CompletionInterrupted comes only where the token is no longer valid.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

_EVENT = """{
  __typename invocationId sequence
  ... on TextDelta { text }
  ... on ReasoningDelta { text }
  ... on ToolCallDelta { index id name arguments }
  ... on CompletionFinished { finishReason message { text reasoning continuation toolCalls { id name arguments } }
    usage { inputTokens outputTokens } }
  ... on CompletionFailed { error { code message path retryable retryAfter } }
  ... on CompletionInterrupted { reason retryAfter }
}"""
BEGIN = f"subscription ($input: CompletionInput!) {{ event: completion(input: $input) {_EVENT} }}"
REJOIN = (
    "subscription ($id: ID!, $after: Int) { event: completionEvents(invocationId: $id, after: $after) " + _EVENT + " }"
)
_LOST = (OSError, ConnectionClosed, InvalidHandshake, TimeoutError)


_RESTARTS = 1012
"""The code by which a server that stops closes a connection on which nothing runs."""

_UNKNOWN_TOKEN = 4403
"""The code by which a server closes the connection of whom it does not know."""


class RequestRefused(Exception):
    """The server does not take the request, or does not know the token; its errors say why."""


class ConnectionLost(Exception):
    """The connection is lost. `may_have_begun`: what was asked for may be under way."""

    def __init__(self, *, may_have_begun: bool) -> None:
        super().__init__("The connection to the server was lost.")
        self.may_have_begun = may_have_begun


async def completion(
    urls: Sequence[str], token: str, given: dict[str, Any], *, patience_s: float = 60.0, connect: Any = open_socket
) -> AsyncIterator[dict[str, Any]]:
    """Yield the events of a new completion. `urls` are the API processes, or the one that stands before them.

    Raises:
        RequestRefused: the request is no good.
        ConnectionLost: for `patience_s` no server was to be had; or the connection was lost before the first event, so
            that nobody knows whether the call is made.
    """
    query, variables = BEGIN, {"input": given}
    loop = asyncio.get_running_loop()
    invocation_id, last, heard_at, turn = None, -1, loop.time(), 0
    while True:
        pause = min(0.1 * 2**turn, 2.0)
        try:
            async with aclosing(_events(connect, urls[turn % len(urls)], token, query, variables)) as events:
                async for event in events:
                    if event["invocationId"] is None:
                        if not event["error"]["retryable"] or loop.time() - heard_at > patience_s:
                            yield event
                            return
                        pause = event["error"]["retryAfter"] or pause
                        break
                    if event["__typename"] == "CompletionInterrupted" and event["reason"] != "UNAUTHORIZED":
                        pause = event["retryAfter"] or 0.0
                        break
                    invocation_id, last, heard_at, turn = event["invocationId"], event["sequence"], loop.time(), 0
                    yield event
                    if event["__typename"] in {"CompletionFinished", "CompletionFailed", "CompletionInterrupted"}:
                        return
        except ConnectionLost as lost:
            if (invocation_id is None and lost.may_have_begun) or loop.time() - heard_at > patience_s:
                raise
        turn += 1
        if invocation_id is not None:
            query, variables = REJOIN, {"id": invocation_id, "after": last}
        await asyncio.sleep(pause)


async def _events(
    connect: Any, url: str, token: str, query: str, variables: dict[str, Any]
) -> AsyncIterator[dict[str, Any]]:
    """Yield the events of one subscription on a socket of its own."""
    address, protocols, sent = url.replace("http", "ws", 1) + "/graphql", [Subprotocol("graphql-transport-ws")], False
    try:
        async with connect(address, subprotocols=protocols, open_timeout=10, max_size=None) as socket:
            await socket.send(json.dumps({"type": "connection_init", "payload": {"authorization": f"Bearer {token}"}}))
            await socket.recv()  # the acknowledgement
            payload, sent = {"query": query, "variables": variables}, True
            await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))
            async for text in socket:
                message = json.loads(text)
                if message["type"] == "complete":
                    return
                if message["type"] == "error" or (message["type"] == "next" and "errors" in message["payload"]):
                    raise RequestRefused(message["payload"])
                if message["type"] == "next":
                    yield message["payload"]["data"]["event"]
        raise ConnectionLost(may_have_begun=True)
    except _LOST as error:
        closing = error.rcvd if isinstance(error, ConnectionClosed) else None
        code = closing.code if closing is not None else None
        if closing is not None and code == _UNKNOWN_TOKEN:
            raise RequestRefused([{"message": closing.reason, "extensions": {"code": "UNAUTHENTICATED"}}]) from error
        raise ConnectionLost(may_have_begun=sent and code != _RESTARTS) from error

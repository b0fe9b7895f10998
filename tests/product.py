"""The whole API for tests: a real server on real engines, with clients that speak each transport."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from core.app import App
from core.settings import Settings
from storage.bootstrap import bootstrap
from tests.waiting import LIMIT_S
from web.app import create_app
from web.protocol import SocketProtocol
from web.sockets import MAX_MESSAGE, PROTOCOL

LLM = "openai_compatible"
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients of servers on this machine: without it each would load the certificates of the world anew."""

COMPLETION = """subscription ($input: CompletionInput!) { completion(input: $input) {
  __typename invocationId sequence
  ... on CompletionStarted { model { provider name } providerType credentialName }
  ... on CompletionRerouted { failed { model { name } error { code } } model { name } }
  ... on TextDelta { text }
  ... on ReasoningDelta { text }
  ... on ToolCallDelta { index id name arguments }
  ... on CompletionFinished { finishReason message { text reasoning toolCalls { id name arguments } continuation }
    usage { inputTokens outputTokens totalTokens cachedInputTokens reasoningTokens requests estimated } cost { amount currency } }
  ... on CompletionFailed { error { code message path retryable retryAfter }
    spent: usage { inputTokens outputTokens cachedInputTokens reasoningTokens estimated } }
  ... on CompletionInterrupted { reason resumeAfter retryAfter }
} }"""
COMPLETE = """mutation ($input: CompletionInput!) { complete(input: $input) {
  message { text reasoning toolCalls { id name arguments } } finishReason
  invocation { id status usage { inputTokens outputTokens } error { code message } attempts { error { code } } }
  errors { code message path retryable retryAfter }
} }"""
EVENTS = (
    "subscription ($id: ID!, $after: Int) { completionEvents(invocationId: $id, after: $after) "
    + COMPLETION.split("completion(input: $input) ", 1)[1]
)
ADD_MODEL = """mutation ($input: AddModelInput!) { addModel(input: $input) {
  model { id name status problem { code } } errors { code message path } } }"""
SET_DEFAULT = """mutation ($input: SetDefaultModelsInput!) { setDefaultModels(input: $input) {
  defaultModels { type model { name } } errors { code message path } } }"""
INVOCATIONS = """{ workspace { invocations(first: 5) { nodes {
  id status model { name } credentialName usage { inputTokens outputTokens totalTokens estimated requests }
  error { code message } attempts { error { code } duration } endedAt timeToFirstToken duration cost { amount } } } } }"""


@dataclass(slots=True, kw_only=True)
class Client:
    """One who asks a running API."""

    url: str
    token: str = field(repr=False)
    seen: list[str] = field(default_factory=list, repr=False)

    def headers(self, token: str | None = None) -> dict[str, str]:
        """Return the headers that carry the token; "" sends none."""
        token = self.token if token is None else token
        return {"authorization": f"Bearer {token}"} if token else {}

    async def post(self, body: Any, *, token: str | None = None, **headers: str) -> httpx.Response:
        """Send a body as it is and return the whole answer."""
        async with httpx.AsyncClient(timeout=LIMIT_S, trust_env=False, verify=NO_TLS) as client:
            answer = await client.post(
                f"{self.url}/graphql",
                content=body if isinstance(body, bytes) else json.dumps(body).encode(),
                headers={"content-type": "application/json", **self.headers(token), **headers},
            )
        self.seen.append(answer.text)
        return answer

    async def ask(self, query: str, *, token: str | None = None, **variables: Any) -> Any:
        """Return the payload of a query or mutation, errors included."""
        return (await self.post({"query": query, "variables": variables}, token=token)).json()

    async def data(self, query: str, **variables: Any) -> Any:
        """Return the data of a query or mutation that has no errors."""
        payload = await self.ask(query, **variables)
        assert "errors" not in payload, payload["errors"]
        return payload["data"]

    async def changed(self, query: str, /, **given: Any) -> Any:
        """Return the one payload of a mutation that has no errors of its own either."""
        (payload,) = (await self.data(query, input=given)).values()
        assert payload["errors"] == [], payload["errors"]
        return payload

    async def add_model(
        self,
        name: str,
        base_url: str,
        key: str = "sk-test-0123456789abcdef",
        *,
        provider: str = LLM,
        kind: str = "LLM",
        **more: str,
    ) -> Any:
        """Add a custom model, of an OpenAI-compatible server unless `provider` says otherwise."""
        values = {"base_url": base_url, "api_key": key, **more}
        return await self.changed(
            ADD_MODEL,
            model={"provider": provider, "name": name, "type": kind},
            credential={"new": {"values": [{"field": field, "value": value} for field, value in values.items()]}},
        )

    async def stream(self, text: str = "hi", *, token: str | None = None, **more: Any) -> list[Any]:
        """Return all events of a completion over graphql-transport-ws."""
        async with self.socket(token=token) as ws:
            return [event async for event in completion(ws, chat(text, **more), self.seen)]

    @asynccontextmanager
    async def socket(self, *, token: str | None = None) -> AsyncIterator[ClientConnection]:
        """Open an acknowledged socket."""
        url = f"{self.url.replace('http', 'ws', 1)}/graphql"
        async with connect(url, subprotocols=[Subprotocol(PROTOCOL)], proxy=None) as ws:
            payload = {"authorization": self.headers(token).get("authorization")}
            await ws.send(json.dumps({"type": "connection_init", "payload": payload}))
            assert json.loads(await ws.recv()) == {"type": "connection_ack"}
            yield ws

    async def stream_events(self, text: str = "hi", *, accept: str = "text/event-stream", **more: Any) -> list[Any]:
        """Return all events of a completion over SSE or multipart."""
        body = {"query": COMPLETION, "variables": {"input": chat(text, **more)}}
        headers = {**self.headers(), "accept": accept}
        async with (
            httpx.AsyncClient(timeout=LIMIT_S, trust_env=False, verify=NO_TLS) as client,
            client.stream("POST", f"{self.url}/graphql", json=body, headers=headers) as answer,
        ):
            content = (await answer.aread()).decode()
        assert answer.status_code == 200, content
        if accept == "text/event-stream":
            found = [line[6:] for line in content.split("\n") if line.startswith("data: {")]
            assert "event: complete" in content
            return [json.loads(text)["data"]["completion"] for text in found]
        parts = [part.split("\r\n\r\n", 1)[1] for part in content.split("\r\n--graphql") if "\r\n\r\n" in part]
        payloads = [json.loads(part) for part in parts]
        return [payload["payload"]["data"]["completion"] for payload in payloads if "payload" in payload]

    async def rejoin(self, invocation_id: str, after: int | None = None, *, token: str | None = None) -> list[Any]:
        """Return all events of a completion that follow one, over graphql-transport-ws."""
        async with self.socket(token=token) as ws:
            return [event async for event in rejoined(ws, invocation_id, after)]

    async def last_invocation(self) -> Any:
        """Return the record of the newest call."""
        data = await self.data(INVOCATIONS)
        return data["workspace"]["invocations"]["nodes"][0]


@dataclass(slots=True, kw_only=True)
class Product(Client):
    """A running API of this process, and one who asks it."""

    app: App


def chat(text: str = "hi", **more: Any) -> dict[str, Any]:
    """Return a CompletionInput of one user message."""
    return {"messages": [{"role": "USER", "text": text}], **more}


def model(name: str, provider: str = LLM) -> dict[str, str]:
    """Return a ModelReferenceInput."""
    return {"provider": provider, "name": name}


async def completion(
    ws: ClientConnection, given: Mapping[str, Any], seen: list[str] | None = None, operation: str = "1"
) -> AsyncGenerator[Any, None]:
    """Yield the events of a completion that begins on an open socket."""
    payload = {"query": COMPLETION, "variables": {"input": given}}
    async for data in subscribed(ws, payload, seen, operation):
        yield data["completion"]


async def rejoined(
    ws: ClientConnection, invocation_id: str, after: int | None = None, operation: str = "1"
) -> AsyncGenerator[Any, None]:
    """Yield the events of a completion that follow one, on an open socket."""
    payload = {"query": EVENTS, "variables": {"id": invocation_id, "after": after}}
    async for data in subscribed(ws, payload, None, operation):
        yield data["completionEvents"]


async def subscribed(
    ws: ClientConnection, payload: Mapping[str, Any], seen: list[str] | None = None, operation: str = "1"
) -> AsyncGenerator[Any, None]:
    """Yield the data of a subscription on an open socket."""
    await ws.send(json.dumps({"id": operation, "type": "subscribe", "payload": payload}))
    async for text in ws:
        message = json.loads(text)
        if seen is not None:
            seen.append(str(text))
        if message.get("id") != operation:
            continue
        if message["type"] == "complete":
            return
        assert message["type"] == "next", message
        assert "errors" not in message["payload"], message
        yield message["payload"]["data"]


def text_of(events: list[Any]) -> str:
    """Return the joined text of the deltas."""
    return "".join(event["text"] for event in events if event["__typename"] == "TextDelta")


def check_sequence(events: list[Any]) -> None:
    """Check that the numbers have no gap and that one terminal event stands at the end."""
    assert [event["sequence"] for event in events] == list(range(len(events)))
    ends = [event["__typename"] in {"CompletionFinished", "CompletionFailed"} for event in events]
    assert ends == [False] * (len(events) - 1) + [True]


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Product]:
    """Run the API on a free port, with a first account, until the block ends."""
    secret = await bootstrap(settings)
    assert secret is not None
    async with serving(settings, secret.reveal()) as product:
        yield product


@asynccontextmanager
async def serving(settings: Settings, token: str, *, send_buffer: int | None = None) -> AsyncIterator[Product]:
    """Run an API of an installation that has its first account already; beside another, if one runs.

    `send_buffer` bounds the bytes that the kernel takes for clients who do not read; it takes megabytes else.
    """
    application = create_app(settings)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        if send_buffer is not None:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        server = _Server(
            uvicorn.Config(
                application, lifespan="on", log_config=None, ws=SocketProtocol, ws_max_size=MAX_MESSAGE,
                ws_per_message_deflate=False, timeout_graceful_shutdown=2,
            )
        )  # fmt: skip
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            while not server.started:
                assert not serving.done(), "the server ended at once"
                await asyncio.sleep(0.01)
            url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            yield Product(url=url, token=token, app=application.state.app)
        finally:
            server.should_exit = True
            with suppress(asyncio.CancelledError):
                await serving


class _Server(uvicorn.Server):
    """A server that leaves the signals to pytest."""

    def capture_signals(self) -> Any:
        return nullcontext()

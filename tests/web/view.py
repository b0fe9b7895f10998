"""The view on a small schema of its own, served by the real server: its streams count who is in them."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import httpx
import strawberry
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route, WebSocketRoute
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from core.access import Viewer
from core.app import App
from core.errors import Forbidden, ServerUnavailable
from core.secret import hash_secret
from graph.context import Context, Info
from graph.execution import Engine
from tests import make
from tests.waiting import LIMIT_S, wait_for
from web.app import GraphQLRoute
from web.endpoint import HttpEndpoint
from web.sockets import MAX_MESSAGE, PROTOCOL, SocketEndpoint

TOKEN = "my_0123456789"
CANARY = "postgresql://user:canary@host"


@dataclass(slots=True)
class Streams:
    """How many streams are open, and how many have cleaned up to their end."""

    active: int = 0
    cleaned: int = 0


streams = Streams()
contexts: list[Context] = []
"""The contexts of the operations that asked for `context`."""


async def counted(source: AsyncGenerator[int, None]) -> AsyncGenerator[int, None]:
    streams.active += 1
    try:
        async for number in source:
            yield number
    finally:
        await asyncio.sleep(0.01)  # a cleanup that waits, as closing a connection does
        streams.active -= 1
        streams.cleaned += 1


async def _ticks(every: float) -> AsyncGenerator[int, None]:
    number = 0
    while True:
        yield number
        number += 1
        await asyncio.sleep(every)


async def _rush() -> AsyncGenerator[int, None]:
    number = 0
    while True:
        yield number
        number += 1


async def _up_to(end: int) -> AsyncGenerator[int, None]:
    for number in range(end):
        yield number


async def _broken() -> AsyncGenerator[int, None]:
    yield 0
    raise ValueError(CANARY)


@strawberry.type
class Query:
    @strawberry.field
    async def hello(self, name: str = "you") -> str:
        return f"hello {name}"

    @strawberry.field
    async def broken(self) -> str:
        raise ValueError(CANARY)

    @strawberry.field
    async def forbidden(self) -> str | None:
        raise Forbidden("Not for you.", path=("a",))

    @strawberry.field
    async def forever(self) -> str:
        await asyncio.Event().wait()
        return "never"

    @strawberry.field
    async def context(self, info: Info) -> str:
        contexts.append(info.context)
        return "seen"

    @strawberry.field
    async def known(self, info: Info) -> bool:
        return info.context.viewer is not None


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def change(self) -> str:
        return "changed"


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def ticks(self, every: float = 0.05) -> AsyncGenerator[int, None]:
        async for number in counted(_ticks(every)):
            yield number

    @strawberry.subscription
    async def rush(self) -> AsyncGenerator[int, None]:
        async for number in counted(_rush()):
            yield number

    @strawberry.subscription
    async def count(self, end: int) -> AsyncGenerator[int, None]:
        async for number in counted(_up_to(end)):
            yield number

    @strawberry.subscription
    async def broken(self) -> AsyncGenerator[int, None]:
        async for number in counted(_broken()):
            yield number


class Identity:
    """Knows one token, until it is revoked."""

    def __init__(self) -> None:
        self.revoked = False
        self.away = False

    async def viewer(self, token_hash: bytes) -> Viewer | None:
        if self.away:
            raise ServerUnavailable("The database does not answer.")
        known = token_hash == hash_secret(TOKEN) and not self.revoked
        return make.viewer() if known else None


@dataclass(slots=True, kw_only=True)
class View:
    """A running view and its clients."""

    port: int
    identity: Identity
    endpoint: SocketEndpoint
    client: httpx.AsyncClient
    log: list[str] = field(default_factory=list)

    async def post(self, body: Any, *, token: str | None = TOKEN, **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"content-type": "application/json", **{name.replace("_", "-"): one for name, one in headers.items()}}
        if token is not None:
            given["authorization"] = f"Bearer {token}"
        return await self.client.post("/graphql", content=content, headers=given)

    async def get(self, *, token: str | None = TOKEN, accept: str = "*/*", **parameters: str) -> httpx.Response:
        headers = {"accept": accept} | ({"authorization": f"Bearer {token}"} if token else {})
        return await self.client.get("/graphql", params=parameters, headers=headers)

    @asynccontextmanager
    async def socket(
        self, *, token: str | None = TOKEN, init: bool = True, **more: Any
    ) -> AsyncIterator[ClientConnection]:
        origin = Origin(more["origin"]) if "origin" in more else None
        url = f"ws://127.0.0.1:{self.port}/graphql"
        async with connect(url, subprotocols=[Subprotocol(PROTOCOL)], proxy=None, origin=origin, close_timeout=1) as ws:
            if init:
                payload = {"authorization": f"Bearer {token}"} if token is not None else None
                await say(ws, type="connection_init", payload=payload)
                assert await hear(ws) == {"type": "connection_ack"}
            yield ws


async def say(ws: ClientConnection, **message: Any) -> None:
    await ws.send(json.dumps(message))


async def hear(ws: ClientConnection) -> Any:
    return json.loads(await asyncio.wait_for(ws.recv(), LIMIT_S))


async def subscribe(ws: ClientConnection, query: str, id: str = "1", **variables: Any) -> None:
    await say(ws, id=id, type="subscribe", payload={"query": query, "variables": variables})


class _Server(uvicorn.Server):
    """A server that leaves the signals to pytest."""

    def capture_signals(self) -> Any:
        return nullcontext()


@asynccontextmanager
async def serving() -> AsyncIterator[View]:
    """Serve the view until the block ends."""
    identity = Identity()
    settings = SimpleNamespace(allowed_origins=("https://friend.example",), call_seconds=60.0)
    app = cast("App", SimpleNamespace(identity=identity, settings=settings))
    engine = Engine(strawberry.Schema(query=Query, mutation=Mutation, subscription=Subscription))
    route = GraphQLRoute()
    route.http, route.socket = HttpEndpoint(app, engine), SocketEndpoint(app, engine)
    streams.active = streams.cleaned = 0
    contexts.clear()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        server = _Server(
            uvicorn.Config(
                Starlette(routes=[Route("/graphql", route), WebSocketRoute("/graphql", route)]),
                log_config=None, ws="websockets-sansio", ws_max_size=MAX_MESSAGE, timeout_graceful_shutdown=2,
            )
        )  # fmt: skip
        running = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            await wait_for(lambda: server.started)
            async with httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{port}",
                trust_env=False,
                timeout=LIMIT_S,
                verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            ) as client:
                yield View(port=port, identity=identity, endpoint=route.socket, client=client)
        finally:
            server.should_exit = True
            with suppress(asyncio.CancelledError):
                await running

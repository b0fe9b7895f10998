"""The API as an ASGI application: its routes, and the resources that it holds while it runs."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from core.ports.clock import Clock
from core.settings import Settings
from core.watch import watch
from graph.execution import Engine
from graph.schema import schema
from storage.resources import open_app
from web import explorer, health, webhooks
from web.endpoint import HttpEndpoint
from web.sockets import SocketEndpoint


def spare_long_collections() -> None:
    """Keep what lives as long as the process out of garbage collection.

    Modules and the schema are hundreds of thousands of objects: walking them again and again holds up every stream for
    tens of milliseconds. New garbage in circles is rare here, and collected less often.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


class GraphQLRoute:
    """Hands a request to the view of its kind, once the resources are open."""

    def __init__(self) -> None:
        self.http: HttpEndpoint | None = None
        self.socket: SocketEndpoint | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        serve = self.http if scope["type"] == "http" else self.socket
        assert serve is not None, "the application has not started"
        await serve(scope, receive, send)


def create_app(settings: Settings, *, clock: Clock | None = None) -> Starlette:
    """Return the application; its resources open with its lifespan and close with it."""
    route = GraphQLRoute()

    @asynccontextmanager
    async def lifespan(starlette: Starlette) -> AsyncIterator[None]:
        async with open_app(settings, clock=clock) as app:
            engine = Engine(schema)
            route.http, route.socket = HttpEndpoint(app, engine), SocketEndpoint(app, engine)
            starlette.state.app, starlette.state.sockets = app, route.socket
            watch(app)
            spare_long_collections()
            yield

    return Starlette(
        routes=[
            Route("/graphql", route),
            WebSocketRoute("/graphql", route),
            Route("/health/live", health.live),
            Route("/health/ready", health.ready),
            *webhooks.routes(),
            *explorer.routes(),
        ],
        lifespan=lifespan,
    )

"""The floor: the smallest streaming pass-through on Starlette and aiohttp. It checks, parses and counts nothing."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

HEADERS = {"content-type": "application/json"}


@asynccontextmanager
async def _lifespan(floor: Starlette) -> AsyncIterator[None]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(os.environ["UPSTREAM"], connector=connector) as floor.state.upstream:
        yield


async def _chat(request: Request) -> Response:
    body = await request.body()
    answer = await request.app.state.upstream.post("/v1/chat/completions", data=body, headers=HEADERS)
    if answer.content_type == "application/json":
        async with answer:
            return Response(await answer.read(), answer.status, media_type="application/json")

    async def chunks() -> AsyncIterator[bytes]:
        async with answer:
            async for chunk in answer.content.iter_any():
                yield chunk

    return StreamingResponse(chunks(), media_type="text/event-stream")


async def _ready(request: Request) -> Response:
    return Response("ok")


app = Starlette(
    routes=[Route("/v1/chat/completions", _chat, methods=["POST"]), Route("/health/ready", _ready)], lifespan=_lifespan
)

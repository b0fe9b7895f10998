"""Streams over HTTP: Server-Sent Events (graphql-sse, distinct connections) and Apollo's multipart subscriptions."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from starlette.types import Receive, Scope, Send

from graph.batches import EventPayloads
from web.negotiation import EVENTS, MIXED

_BOUNDARY = b"graphql"
_PART = b"\r\nContent-Type: application/json\r\n\r\n"
_RESUME_SECONDS = 1.0
"""How long it may take to see that a stream which is resumed has nothing more."""

_UNBUFFERED = (b"x-accel-buffering", b"no")
"""What keeps nginx from gathering a stream before it passes it on."""

_BEAT_SECONDS = {EVENTS: 15.0, MIXED: 5.0}


@dataclass(frozen=True, slots=True)
class Framing:
    """How payloads stand in a body."""

    content_type: str
    one: Callable[[bytes], bytes]
    beat: bytes
    end: bytes
    start: bytes = b""
    marks: bool = False


FRAMINGS = {
    EVENTS: Framing(
        content_type="text/event-stream; charset=utf-8",
        start=b":\n\n",
        marks=True,
        one=lambda payload: b"event: next\ndata: " + payload + b"\n\n",
        beat=b":\n\n",
        end=b"event: complete\ndata: \n\n",
    ),
    MIXED: Framing(
        content_type=f'multipart/mixed; boundary="{_BOUNDARY.decode()}"; subscriptionSpec=1.0',
        # A reader has a part only once the boundary after it is there: so that goes with the part.
        start=b"\r\n--" + _BOUNDARY,
        one=lambda payload: _PART + b'{"payload":' + payload + b"}\r\n--" + _BOUNDARY,
        beat=_PART + b"{}\r\n--" + _BOUNDARY,
        end=b"--\r\n",
    ),
}


class StreamingAnswer:
    """Sends a stream of payloads as one response, and closes its source whoever ends it.

    The client's leaving is noticed even while the source never waits, and the source's cleanup is never cut short.
    """

    def __init__(
        self,
        payloads: AsyncGenerator[Sequence[bytes], None],
        media: str,
        headers: Sequence[tuple[bytes, bytes]],
        *,
        resumes: bool = False,
    ) -> None:
        self._payloads = payloads
        self._framing = FRAMINGS[media]
        self._beat = _BEAT_SECONDS[media]
        self._headers = headers
        self._wrote = 0.0
        self._resumes = resumes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.ensure_future(left(receive))
        pump = asyncio.ensure_future(self._pump(send))
        try:
            await asyncio.wait({gone, pump}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            await asyncio.shield(asyncio.ensure_future(_closed(pump, self._payloads)))

    async def _pump(self, send: Send) -> None:
        if not self._resumes:
            await self._stream(send, self._payloads)
            return
        first = asyncio.ensure_future(anext(self._payloads, None))
        try:
            await asyncio.wait({first}, timeout=_RESUME_SECONDS)
            if first.done() and first.result() is None:
                # The client has everything: this status keeps an EventSource from asking again and again.
                await send({"type": "http.response.start", "status": 204, "headers": list(self._headers)})
                await _write(send, b"", more=False)
                return
            async with aclosing(_with_first(first, self._payloads)) as payloads:
                await self._stream(send, payloads)
        finally:
            first.cancel()
            await asyncio.wait({first})

    async def _stream(self, send: Send, payloads: AsyncGenerator[Sequence[bytes], None]) -> None:
        framing = self._framing
        headers = [(b"content-type", framing.content_type.encode()), _UNBUFFERED, *self._headers]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await _write(send, framing.start)
        loop = asyncio.get_running_loop()
        beating = asyncio.ensure_future(self._beats(send, loop))
        try:
            async for batch in payloads:
                await _write(send, b"".join(self._framed(batch)))
                self._wrote = loop.time()
                # A source that never waits would leave no turn to whoever watches for the client's leaving.
                await asyncio.sleep(0)
        finally:
            beating.cancel()
        await _write(send, framing.end, more=False)

    def _framed(self, batch: Sequence[bytes]) -> list[bytes]:
        one = self._framing.one
        if not self._framing.marks or not isinstance(batch, EventPayloads):
            return [one(payload) for payload in batch]
        marked = zip(batch, batch.marks(), strict=True)
        return [
            one(payload) if mark is None else b"id: %s\n" % mark.encode() + one(payload) for payload, mark in marked
        ]

    async def _beats(self, send: Send, loop: asyncio.AbstractEventLoop) -> None:
        """Write something whenever nothing was written for a while, so that nobody on the way gives up."""
        while True:
            await asyncio.sleep(self._beat)
            if loop.time() - self._wrote >= self._beat * 0.9:
                await _write(send, self._framing.beat)


async def _with_first(
    first: "asyncio.Future[Sequence[bytes] | None]", rest: AsyncGenerator[Sequence[bytes], None]
) -> AsyncGenerator[Sequence[bytes], None]:
    """Yield what a first step gave, and then the rest."""
    batch = await first
    if batch is None:
        return
    yield batch
    async for batch in rest:
        yield batch


async def left(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _closed(pump: "asyncio.Future[None]", payloads: AsyncGenerator[Sequence[bytes], None]) -> None:
    if not pump.done():
        pump.cancel()
    (result,) = await asyncio.gather(pump, return_exceptions=True)
    await payloads.aclose()
    if isinstance(result, Exception) and not isinstance(result, OSError):
        raise result


async def _write(send: Send, data: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": more})

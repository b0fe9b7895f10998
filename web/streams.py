"""Streams over HTTP: Server-Sent Events (graphql-sse, distinct connections) and Apollo's multipart subscriptions."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass

from starlette.types import Receive, Scope, Send

from web.negotiation import EVENTS, MIXED

_BOUNDARY = b"graphql"
_PART = b"\r\nContent-Type: application/json\r\n\r\n"
_BEAT_SECONDS = {EVENTS: 15.0, MIXED: 5.0}


@dataclass(frozen=True, slots=True)
class Framing:
    """How payloads stand in a body."""

    content_type: str
    one: Callable[[bytes], bytes]
    beat: bytes
    end: bytes
    start: bytes = b""


FRAMINGS = {
    EVENTS: Framing(
        content_type="text/event-stream; charset=utf-8",
        start=b":\n\n",
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
    ) -> None:
        self._payloads = payloads
        self._framing = FRAMINGS[media]
        self._beat = _BEAT_SECONDS[media]
        self._headers = headers
        self._wrote = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.ensure_future(_left(receive))
        pump = asyncio.ensure_future(self._pump(send))
        try:
            await asyncio.wait({gone, pump}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            await asyncio.shield(asyncio.ensure_future(_closed(pump, self._payloads)))

    async def _pump(self, send: Send) -> None:
        framing = self._framing
        headers = [(b"content-type", framing.content_type.encode()), *self._headers]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await _write(send, framing.start)
        loop = asyncio.get_running_loop()
        beating = asyncio.ensure_future(self._beats(send, loop))
        try:
            async for batch in self._payloads:
                await _write(send, b"".join([framing.one(payload) for payload in batch]))
                self._wrote = loop.time()
                # A source that never waits would leave no turn to whoever watches for the client's leaving.
                await asyncio.sleep(0)
        finally:
            beating.cancel()
        await _write(send, framing.end, more=False)

    async def _beats(self, send: Send, loop: asyncio.AbstractEventLoop) -> None:
        """Write something whenever nothing was written for a while, so that nobody on the way gives up."""
        while True:
            await asyncio.sleep(self._beat)
            if loop.time() - self._wrote >= self._beat * 0.9:
                await _write(send, self._framing.beat)


async def _left(receive: Receive) -> None:
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

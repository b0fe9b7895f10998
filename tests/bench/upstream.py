"""A provider for benchmarks, far faster than any gateway: `python -m tests.bench.upstream PORT`.

The model's name says how it answers: `unary`, or `CHUNKSxDELAY` for a stream of that many chunks, that many milliseconds
apart. A chunk of a stream with a delay holds the time at which it was sent, so that its way can be measured.
"""

import asyncio
import json
import re
import sys
import time
from typing import Any

import uvloop

TEXT = "word "
_UNARY = json.dumps(
    {
        "id": "x",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
).encode()
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Connection(asyncio.Protocol):
    """Answers the requests of one connection."""

    def __init__(self) -> None:
        self._buffer = b""
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        found = _LENGTH.search(head)
        if not separator or len(body) < (length := int(found[1]) if found else 0):
            return
        self._buffer = body[length:]
        model = str(json.loads(body[:length])["model"]) if length else "models"
        chunks, by, delay = model.partition("x")
        if by:
            self._task = asyncio.ensure_future(self._stream(int(chunks), int(delay) / 1000))
            return
        answer = _UNARY if length else b'{"data":[]}'
        start = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(answer)
        self._transport.write(start + answer)

    async def _stream(self, chunks: int, delay: float) -> None:
        self._transport.write(_HEAD)
        for number in range(chunks):
            if delay:
                await asyncio.sleep(delay if number else 0)
            else:
                await asyncio.sleep(0)
            text = f"{time.monotonic():016.6f} " if delay else TEXT
            self._event(b'{"id":"x","choices":[{"index":0,"delta":{"content":"%s"}}]}' % text.encode())
        self._event(b'{"id":"x","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}')
        self._event(b'{"id":"x","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":%d}}' % chunks)
        self._event(b"[DONE]")
        self._transport.write(b"0\r\n\r\n")

    def _event(self, data: bytes) -> None:
        self._transport.write(b"%x\r\ndata: %b\n\n\r\n" % (len(data) + 8, data))


async def serve(port: int) -> None:
    """Serve until cancelled."""
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))

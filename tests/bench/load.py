"""The load generator, a process of its own: reads one job as JSON from standard input, prints what it measured.

Clients are bare sockets over asyncio streams, so that the generator is not what is measured.
"""

import asyncio
import base64
import json
import os
import re
import struct
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import uvloop

_STAMP = re.compile(rb"(\d{9}\.\d{6}) ")
_WORD = b"word "
_READ = 2**16


@dataclass(slots=True)
class Seen:
    """What one call saw: times in seconds. `rest` is the piece of an event whose end has not come yet."""

    first: float | None = None
    chunks: int = 0
    gaps: list[float] = field(default_factory=list)
    ways: list[float] = field(default_factory=list)
    last: float = 0.0
    rest: bytes = b""

    def take(self, data: bytes, began: float) -> None:
        """Count the chunks in what has come; what may be half a chunk waits for more."""
        data = self.rest + data
        cut = data.rfind(b"}") + 1
        data, self.rest = data[:cut], data[cut:]
        stamps = _STAMP.findall(data)
        count = len(stamps) or data.count(_WORD)
        if not count:
            return
        now = time.monotonic()
        if self.first is None:
            self.first = now - began
        else:
            self.gaps.append(now - self.last)
        self.last = now
        self.chunks += count
        self.ways += [now - float(stamp) for stamp in stamps]


@dataclass(slots=True)
class Client:
    """One kept connection of a worker, which makes its calls one after the other."""

    job: dict[str, Any]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    calls: int = 0

    @classmethod
    async def connect(cls, job: dict[str, Any]) -> "Client":
        """Connect; over WebSocket up to the acknowledgement of the client's introduction."""
        client = cls(job, *await asyncio.open_connection("127.0.0.1", job["port"], limit=2**20))
        if job["kind"] == "socket":
            await client._introduce()
        return client

    async def call(self) -> Seen:
        """Make one call and read it to its end."""
        self.calls += 1
        return await {"unary": self._unary, "sse": self._sse, "socket": self._socket}[self.job["kind"]]()

    async def _unary(self) -> Seen:
        seen, began = Seen(), time.monotonic()
        self._request("application/json")
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)[1])  # type: ignore[index]
        data = await self.reader.readexactly(length)
        seen.take(data, began)
        if not seen.chunks:
            raise RuntimeError(f"unexpected answer: {data[:300]!r}")
        return seen

    async def _sse(self) -> Seen:
        seen, began, tail = Seen(), time.monotonic(), b""
        self._request("text/event-stream")
        while not tail.endswith(b"\r\n0\r\n\r\n") and (data := await self.reader.read(_READ)):
            seen.take(data, began)
            tail = (tail + data)[-8:]
        return seen

    async def _socket(self) -> Seen:
        seen, began, tail = Seen(), time.monotonic(), b""
        name = str(self.calls)
        end = json.dumps({"id": name, "type": "complete"}, separators=(",", ":")).encode()
        self.writer.write(_frame({"id": name, "type": "subscribe", "payload": self.job["body"]}))
        while not tail.endswith(end) and (data := await self.reader.read(_READ)):
            seen.take(data, began)
            tail = (tail + data)[-len(end) :]
        return seen

    def _request(self, accept: str) -> None:
        job, content = self.job, json.dumps(self.job["body"]).encode()
        token = f"authorization: Bearer {job['token']}\r\n" if job.get("token") else ""
        head = (
            f"POST {job['path']} HTTP/1.1\r\nhost: 127.0.0.1:{job['port']}\r\ncontent-type: application/json\r\n"
            f"accept: {accept}\r\n{token}content-length: {len(content)}\r\n\r\n"
        )
        self.writer.write(head.encode() + content)

    async def _introduce(self) -> None:
        job, key = self.job, base64.b64encode(os.urandom(16)).decode()
        self.writer.write(
            f"GET {job['path']} HTTP/1.1\r\nhost: 127.0.0.1:{job['port']}\r\nconnection: Upgrade\r\n"
            f"upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n"
            "sec-websocket-protocol: graphql-transport-ws\r\n\r\n".encode()
        )
        await self.reader.readuntil(b"\r\n\r\n")
        self.writer.write(_frame({"type": "connection_init", "payload": {"authorization": f"Bearer {job['token']}"}}))
        await self.reader.readuntil(b"connection_ack")
        await self.reader.readuntil(b"}")


def _frame(message: Any) -> bytes:
    """Return a masked text frame; the mask is zero, which the protocol allows and which costs nothing."""
    data = json.dumps(message).encode()
    size = bytes([0x80 | len(data)]) if len(data) < 126 else bytes([0xFE]) + struct.pack("!H", len(data))
    return b"\x81" + size + bytes(4) + data


async def run(job: dict[str, Any]) -> dict[str, Any]:
    """Make `calls` calls, `at_once` at a time, begun evenly over `ramp_s` on connections that are open already."""
    seen: list[Seen] = []
    waiting = iter(range(job["calls"]))

    async def worker(number: int) -> None:
        await asyncio.sleep(job["ramp_s"] * number / job["at_once"])
        seen.extend([await clients[number].call() for _ in waiting])
        clients[number].writer.close()

    clients = [await Client.connect(job) for _ in range(job["at_once"])]
    began = time.monotonic()
    await asyncio.gather(*(worker(number) for number in range(job["at_once"])))
    seconds = time.monotonic() - began
    return {
        "calls": len(seen),
        "failed": sum(one.chunks < job["chunks"] for one in seen),
        "seconds": seconds,
        "chunks": sum(one.chunks for one in seen),
        "first": percentiles([one.first or 0.0 for one in seen]),
        "gap": percentiles([gap for one in seen for gap in one.gaps]),
        "way": percentiles([way for one in seen for way in one.ways]),
    }


def percentiles(values: list[float]) -> dict[str, float]:
    """Return the median and the 99th percentile in milliseconds."""
    ordered = sorted(values) or [0.0]
    return {name: ordered[int((len(ordered) - 1) * share)] * 1000 for name, share in (("p50", 0.5), ("p99", 0.99))}


if __name__ == "__main__":
    print(json.dumps(uvloop.run(run(json.loads(sys.stdin.read())))))

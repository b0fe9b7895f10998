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


@dataclass(slots=True)
class Seen:
    """What one call saw: times in seconds."""

    first: float | None = None
    chunks: int = 0
    gaps: list[float] = field(default_factory=list)
    ways: list[float] = field(default_factory=list)
    last: float = 0.0

    def take(self, data: bytes, began: float) -> None:
        """Count the chunks in what has come."""
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


def request(job: dict[str, Any], body: Any, accept: str) -> bytes:
    """Return an HTTP request as bytes."""
    content = json.dumps(body).encode()
    token = f"authorization: Bearer {job['token']}\r\n" if job.get("token") else ""
    head = (
        f"POST {job['path']} HTTP/1.1\r\nhost: 127.0.0.1:{job['port']}\r\ncontent-type: application/json\r\n"
        f"accept: {accept}\r\n{token}content-length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


async def unary(job: dict[str, Any], connection: Any) -> Seen:
    """Make one call that is answered as a whole, on a connection that is kept."""
    reader, writer = connection
    seen, began = Seen(), time.monotonic()
    writer.write(request(job, job["body"], "application/json"))
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)[1])  # type: ignore[index]
    data = await reader.readexactly(length)
    seen.take(data, began)
    if not seen.chunks:
        raise RuntimeError(f"unexpected answer: {data[:300]!r}")
    return seen


async def sse(job: dict[str, Any]) -> Seen:
    """Read one stream of server-sent events."""
    reader, writer = await asyncio.open_connection("127.0.0.1", job["port"], limit=2**20)
    seen, began = Seen(), time.monotonic()
    writer.write(request(job, job["body"], "text/event-stream"))
    while seen.chunks < job["chunks"]:
        data = await reader.read(2**16)
        if not data:
            break
        seen.take(data, began)
    writer.close()
    return seen


async def socket(job: dict[str, Any]) -> Seen:
    """Read one subscription over graphql-transport-ws."""
    reader, writer = await asyncio.open_connection("127.0.0.1", job["port"], limit=2**20)
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET {job['path']} HTTP/1.1\r\nhost: 127.0.0.1:{job['port']}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
        f"sec-websocket-version: 13\r\nsec-websocket-key: {key}\r\nsec-websocket-protocol: graphql-transport-ws\r\n\r\n".encode()
    )
    await reader.readuntil(b"\r\n\r\n")
    writer.write(_frame({"type": "connection_init", "payload": {"authorization": f"Bearer {job['token']}"}}))
    await reader.read(2**16)
    seen, began = Seen(), time.monotonic()
    writer.write(_frame({"id": "1", "type": "subscribe", "payload": job["body"]}))
    while seen.chunks < job["chunks"]:
        data = await reader.read(2**16)
        if not data:
            break
        seen.take(data, began)
    writer.close()
    return seen


def _frame(message: Any) -> bytes:
    """Return a masked text frame; the mask is zero, which the protocol allows and which costs nothing."""
    data = json.dumps(message).encode()
    size = bytes([0x80 | len(data)]) if len(data) < 126 else bytes([0xFE]) + struct.pack("!H", len(data))
    return b"\x81" + size + bytes(4) + data


async def run(job: dict[str, Any]) -> dict[str, Any]:
    """Make `calls` calls, `at_once` at a time, begun evenly over `ramp_s`."""
    seen: list[Seen] = []
    waiting = iter(range(job["calls"]))

    async def worker(number: int) -> None:
        await asyncio.sleep(job["ramp_s"] * number / job["at_once"])
        connection = await asyncio.open_connection("127.0.0.1", job["port"]) if job["kind"] == "unary" else None
        for _ in waiting:
            if job["kind"] == "unary":
                seen.append(await unary(job, connection))
            else:
                seen.append(await (sse(job) if job["kind"] == "sse" else socket(job)))

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

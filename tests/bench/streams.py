"""`python -m tests.bench.streams`: what the event log costs the direct reader, and what readers cost who do not read."""

import argparse
import asyncio
import itertools
import json
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import psutil

from tests.bench.__main__ import STREAM, WORKLOADS, Target, _add_model, _ports, _python, _ready, _start, measure
from tests.product import Client, chat, completion, model

STALLED, HEALTHY = "400x200", "200x20"
LOG_AT_MOST = "≤ 1.25 ×"
MEMORY_AT_MOST = "< 64 MiB"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.streams", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--scale", type=float, default=0.5, help="share of the calls")
    parser.add_argument("--stalled", type=int, default=500, help="readers who do not read")
    parser.add_argument("--seconds", type=float, default=60, help="for how long they do not")
    given = parser.parse_args(arguments)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))) / "data"
        logged, unlogged = _targets(stack, folder)
        for name in ("W2", "W3"):
            _print_cost(name, logged, unlogged, given.repeats, given.scale)
        asyncio.run(_print_stalled(logged, given.stalled, given.seconds))
    return 0


def _targets(stack: ExitStack, folder: Path) -> tuple[Target, Target]:
    """Start two processes of one installation, the second of which keeps no log."""
    upstream, one, two = _ports(3)
    _start(stack, "upstream", ["-m", "tests.bench.upstream", str(upstream)], {})
    env = {"MODELYARD_DATA": str(folder)}
    first = _start(stack, "modelyard", ["-m", "storage.embedded"], env | {"MODELYARD_PORT": str(one)})
    _ready(one)
    more = {
        "MODELYARD_PORT": str(two),
        "MODELYARD_ENCRYPTION_KEYS": (folder / "encryption.key").read_text().strip(),
        "MODELYARD_EGRESS_ALLOW": "127.0.0.0/8:*",
    }
    second = _start(stack, "unlogged", ["-m", "tests.bench.unlogged"], env | more)
    _ready(two)
    token = (folder / "owner.token").read_text().strip()
    for name in {WORKLOADS["W2"].model, WORKLOADS["W3"].model, STALLED, HEALTHY}:
        _add_model(one, token, name, f"http://127.0.0.1:{upstream}/v1")
    processes = (_python(first, "web"), _python(second, "tests.bench.unlogged"))
    logged, unlogged = (
        Target(name=name, port=port, path="/graphql", token=token, process=process)
        for name, port, process in zip(("logged", "unlogged"), (one, two), processes, strict=True)
    )
    return logged, unlogged


def _print_cost(name: str, logged: Target, unlogged: Target, repeats: int, scale: float) -> None:
    workload = WORKLOADS[name].scaled(scale)
    for target in (logged, unlogged):
        measure(target, workload.scaled(0.2))
    costs = []
    for _ in range(repeats):
        runs = [measure(target, workload) for target in (logged, unlogged)]
        costs.append([run["cpu_ms"] * 1000 / run["chunks"] for run in runs])
    ours, theirs = (statistics.median(column) for column in zip(*costs, strict=True))
    ratio = statistics.median(one / other for one, other in costs)
    print(
        f"{name}: {ours:.1f} µs of CPU a chunk with the log, {theirs:.1f} without: {ratio:.2f} × ({LOG_AT_MOST})",
        flush=True,
    )


async def _print_stalled(target: Target, count: int, seconds: float) -> None:
    process = target.process
    assert process is not None
    alone = await _gaps(target)
    before = process.memory_info().rss
    readers = []
    for _ in range(count):
        readers.append(await _stall(target))
        await asyncio.sleep(0.005)
    began, opened, beside = time.monotonic(), _grown(process, before), []
    while time.monotonic() - began < seconds:
        beside += await _gaps(target)
    print(
        f"{count} readers who do not read for {seconds:.0f} s: {opened:.1f} MiB when they had come, "
        f"{_grown(process, before):.1f} MiB in the end ({MEMORY_AT_MOST})\n"
        f"gap between the chunks of streams beside them, ms: p50 {_share(beside, 0.5):.1f}, p99 {_share(beside, 0.99):.1f}; "
        f"before they came {_share(alone, 0.5):.1f}, {_share(alone, 0.99):.1f}",
        flush=True,
    )
    for reader in readers:
        reader.close()


async def _stall(target: Target) -> socket.socket:
    """Ask for a stream of server-sent events and read nothing of it."""
    body = {"query": STREAM, "variables": {"i": chat(model=model(STALLED))}}
    content = json.dumps(body).encode()
    head = (
        f"POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\naccept: text/event-stream\r\n"
        f"authorization: Bearer {target.token}\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    stalled = socket.socket()
    stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stalled.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(stalled, ("127.0.0.1", target.port))
    await loop.sock_sendall(stalled, head.encode() + content)
    return stalled


async def _gaps(target: Target) -> list[float]:
    """Return the milliseconds between the chunks of ten streams that are read."""
    client = Client(url=f"http://127.0.0.1:{target.port}", token=target.token)
    return [gap for gaps in await asyncio.gather(*(_read(client) for _ in range(10))) for gap in gaps]


async def _read(client: Client) -> list[float]:
    async with client.socket() as ws:
        events = completion(ws, chat(model=model(HEALTHY)))
        times = [time.monotonic() * 1000 async for event in events if event["__typename"] == "TextDelta"]
    return [after - before for before, after in itertools.pairwise(times)]


def _grown(process: psutil.Process, before: int) -> float:
    return float(process.memory_info().rss - before) / 2**20


def _share(values: list[float], share: float) -> float:
    return sorted(values)[int(len(values) * share)]


if __name__ == "__main__":
    sys.exit(main())

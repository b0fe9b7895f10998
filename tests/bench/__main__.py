"""`python -m tests.bench`: Modelyard against the floor, in turn, and a table of ratios beside what is to be reached."""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from storage.embedded.watched import Watched

ROOT = Path(__file__).resolve().parents[2]
UNARY = "mutation($i:CompletionInput!){complete(input:$i){message{text} errors{code message}}}"
STREAM = "subscription($i:CompletionInput!){completion(input:$i){__typename sequence ...on TextDelta{text}}}"


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What is asked: how many calls, how many of them at once, of which model."""

    name: str
    says: str
    model: str
    calls: int
    at_once: int
    chunks: int
    ramp_s: float = 0.0

    def scaled(self, share: float) -> "Workload":
        """Return it with fewer calls."""
        return replace(
            self, calls=max(4, int(self.calls * share)), at_once=max(2, min(self.at_once, int(self.calls * share)))
        )


WORKLOADS = {
    one.name: one
    for one in (
        Workload(name="W1", says="not streamed, 32 at once", model="unary", calls=6000, at_once=32, chunks=1),
        Workload(name="W2", says="64 streams of 200 chunks", model="200x0", calls=384, at_once=64, chunks=200),
        Workload(name="W3", says="200 streams, 20 ms a chunk", model="100x20", calls=400, at_once=200, chunks=100, ramp_s=1),
        Workload(name="W4", says="1,000 slow streams", model="20x1000", calls=1000, at_once=1000, chunks=20, ramp_s=5),
    )
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Target:
    """A running server: how it is asked, and the process whose cost counts."""

    name: str
    port: int
    path: str = "/v1/chat/completions"
    token: str = ""
    process: psutil.Process | None = None

    def job(self, workload: Workload) -> dict[str, Any]:
        """Return what the load generator is told."""
        given: dict[str, Any] = {"messages": [{"role": "USER", "text": "hi"}]}
        given["model"] = {"provider": "openai_compatible", "name": workload.model}
        if self.token:
            kind = "unary" if workload.model == "unary" else "socket"
            body: Any = {"query": UNARY if kind == "unary" else STREAM, "variables": {"i": given}}
        else:
            kind = "unary" if workload.model == "unary" else "sse"
            body = {"model": workload.model, "stream": kind == "sse", "messages": [{"role": "user", "content": "hi"}]}
        place = {"port": self.port, "path": self.path, "token": self.token, "kind": kind, "body": body}
        size = {
            "calls": workload.calls,
            "at_once": workload.at_once,
            "chunks": workload.chunks,
            "ramp_s": workload.ramp_s,
        }
        return place | size


Figure = Callable[[dict[str, Any]], float]


@dataclass(frozen=True, kw_only=True)
class Compared:
    """How two figures of one run are compared, and how that is said."""

    of: Callable[[float, float], float]
    text: str


RATIO = Compared(of=lambda ours, theirs: ours / theirs, text="{:.2f} ×")
ADDED = Compared(of=lambda ours, theirs: ours - theirs, text="+{:.1f} ms")


def measure(target: Target, workload: Workload) -> dict[str, Any]:
    """Run a workload against a target; add the CPU milliseconds of its process and its memory while it ran."""
    process = target.process
    before, resting = (_cpu(process), process.memory_info().rss) if process is not None else (0.0, 0)
    command = [sys.executable, "-m", "tests.bench.load"]
    peak = resting
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as load:
        assert load.stdin is not None
        assert load.stdout is not None
        load.stdin.write(json.dumps(target.job(workload)).encode())
        load.stdin.close()
        while load.poll() is None:
            if process is not None:
                peak = max(peak, process.memory_info().rss)
            time.sleep(0.1)
        result: dict[str, Any] = json.loads(load.stdout.read())
    result["cpu_ms"] = (_cpu(process) - before) * 1000 if process is not None else 0.0
    result["memory_kb"] = (peak - resting) / 1024
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the workloads in turn and print the table; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("-w", "--workloads", nargs="+", choices=list(WORKLOADS), default=["W1", "W2", "W3"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the calls")
    parser.add_argument("--hosted", action="store_true", help="the calls draw a quota of tokens")
    given = parser.parse_args(arguments)
    # Memory is measured on a heap that has not grown yet.
    names = sorted(given.workloads, key=lambda name: (name != "W4", name))
    workloads = [WORKLOADS[name].scaled(given.scale) for name in names]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        targets, start_s = _targets(stack, folder, [workload.model for workload in workloads], hosted=given.hosted)
        rest_mb = targets[-1].process.memory_info().rss / 2**20 if targets[-1].process is not None else 0.0
        print(f"Load of the machine before: {os.getloadavg()[0]:.2f}.")
        print(f"API ready after {start_s:.2f} s, at rest with {rest_mb:.0f} MB.\n", flush=True)
        print("| | figure | Modelyard | floor or direct | ratio or difference | stage 1 |\n|---|---|---|---|---|---|")
        failed = 0
        for workload in workloads:
            for target in targets:
                measure(target, workload.scaled(0.01 if workload.name == "W4" else 0.1))
            repeats = 1 if workload.name == "W4" else given.repeats
            runs = [{target.name: measure(target, workload) for target in targets} for _ in range(repeats)]
            failed += sum(run["modelyard"]["failed"] for run in runs)
            for row in _rows(workload, runs):
                print(row, flush=True)
        print(f"\nCalls that failed: {failed}. Load of the machine after: {os.getloadavg()[0]:.2f}.")
    return 1 if failed else 0


def _rows(workload: Workload, runs: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the table's lines: medians of the runs, ratios and differences as the median of each run's own."""

    def row(title: str, figure: Figure, compared: Compared, target: str = "", base: str = "floor") -> str:
        pairs = [(figure(run["modelyard"]), figure(run[base]) or 1e-9) for run in runs]
        ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
        said = compared.text.format(statistics.median(compared.of(*pair) for pair in pairs))
        return f"| {workload.name}: {workload.says} | {title} | {ours:,.2f} | {theirs:,.2f} | {said} | {target} |"

    if workload.name == "W1":
        yield row("CPU ms a completion", lambda one: one["cpu_ms"] / one["calls"], RATIO, "≤ 3 ms")
        yield row("completions a second", lambda one: one["calls"] / one["seconds"], RATIO)
    elif workload.name == "W2":
        yield row("CPU µs a chunk", lambda one: one["cpu_ms"] * 1000 / one["chunks"], RATIO, "≤ 2.5 ×")
        yield row("chunks a second", lambda one: one["chunks"] / one["seconds"], RATIO)
    elif workload.name == "W3":
        yield row("CPU µs a chunk", lambda one: one["cpu_ms"] * 1000 / one["chunks"], RATIO)
        yield row("first token ms, p50, beside direct", lambda one: one["first"]["p50"], ADDED, "≤ 10 ms", "direct")
        yield row("first token ms, p99, beside direct", lambda one: one["first"]["p99"], ADDED, "≤ 60 ms", "direct")
        yield row("gap ms, p99, beside direct", lambda one: one["gap"]["p99"], ADDED, "≤ 15 ms", "direct")
    else:
        yield row("memory KB a stream", lambda one: one["memory_kb"] / workload.at_once, RATIO, "≤ 120 KB")


def _targets(stack: ExitStack, folder: Path, models: list[str], *, hosted: bool = False) -> tuple[list[Target], float]:
    upstream_port, floor_port, our_port = _ports(3)
    _start(stack, "upstream", ["-m", "tests.bench.upstream", str(upstream_port)], {})
    floor = _start(
        stack,
        "floor",
        ["-m", "uvicorn", "tests.bench.floor:app", "--port", str(floor_port), "--loop", "uvloop", "--no-access-log",
         "--log-level", "error"],
        {"UPSTREAM": f"http://127.0.0.1:{upstream_port}"},
    )  # fmt: skip
    _ready(floor_port)
    env = {"MODELYARD_DATA": str(folder / "data"), "MODELYARD_PORT": str(our_port)}
    if hosted:
        env["MODELYARD_HOSTED"] = str(_hosted(folder, models, f"http://127.0.0.1:{upstream_port}/v1"))
    ours = _start(stack, "modelyard", ["-m", "storage.embedded"], env)
    _ready(our_port)
    began = psutil.Process(_python(ours, "web").pid).create_time()
    start_s = time.time() - began
    token = (folder / "data" / "owner.token").read_text().strip()
    for model in dict.fromkeys(models if not hosted else ()):
        _add_model(our_port, token, model, f"http://127.0.0.1:{upstream_port}/v1")
    return [
        Target(name="direct", port=upstream_port),
        Target(name="floor", port=floor_port, process=_python(floor, "uvicorn")),
        Target(name="modelyard", port=our_port, path="/graphql", token=token, process=_python(ours, "web")),
    ], start_s


def _hosted(folder: Path, models: list[str], base_url: str) -> Path:
    """Write the operator's file that hosts the upstream, with a quota that is never used up."""
    listed = ", ".join(f'{{ name = "{model}", type = "LLM" }}' for model in dict.fromkeys(models))
    (folder / "key").write_text("sk-upstream")
    (folder / "hosted.toml").write_text(
        "[providers.openai_compatible]\n"
        f'values = {{ api_key = "file:{folder / "key"}", base_url = "{base_url}" }}\n'
        f"models = [{listed}]\n"
        'grants = [{ type = "TRIAL", unit = "TOKENS", limit = 100000000000 }]\n'
    )
    return folder / "hosted.toml"


def _start(stack: ExitStack, name: str, arguments: list[str], env: dict[str, str]) -> Watched:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MODELYARD_")}
    child = Watched.start(name, [sys.executable, *arguments], env=clean | env, folder=ROOT, output=subprocess.DEVNULL)
    stack.callback(child.stop, 15)
    return child


def _python(parent: Watched, module: str) -> psutil.Process:
    """Return the Python process below a watched one that runs a module."""
    below = psutil.Process(parent.process.pid).children(recursive=True)
    return next(one for one in below if one.cmdline()[1:3] == ["-m", module])


def _add_model(port: int, token: str, model: str, base_url: str) -> None:
    query = "mutation($i:AddModelInput!){addModel(input:$i){errors{message}}}"
    credential = {"new": {"values": [{"field": "base_url", "value": base_url}]}}
    key = {"provider": "openai_compatible", "name": model, "type": "LLM"}
    body = {"query": query, "variables": {"i": {"model": key, "credential": credential, "verify": False}}}
    headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/graphql", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        payload = json.loads(answer.read())
    assert payload["data"]["addModel"]["errors"] == [], payload


def _ready(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.02)
    raise RuntimeError(f"nothing answers on port {port}")


@contextmanager
def _bound() -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield probe.getsockname()[1]


def _ports(count: int) -> list[int]:
    with ExitStack() as stack:
        return [stack.enter_context(_bound()) for _ in range(count)]


def _cpu(process: psutil.Process | None) -> float:
    times = process.cpu_times() if process is not None else None
    return times.user + times.system if times is not None else 0.0


if __name__ == "__main__":
    sys.exit(main())

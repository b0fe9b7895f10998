"""`python -m tests.chaos`: thousands of calls while everything is killed, and then the books are examined.

    python -m tests.chaos --calls 2000 --seed 7 --engine postgresql

The seed decides the calls and the moments of the deaths. Exits with 1 if a promise was broken.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from storage.clock import SystemClock
from storage.resources import open_resources
from tests.chaos import books
from tests.chaos.books import Report
from tests.chaos.clients import Seen, call
from tests.chaos.fleet import Fleet, fleet
from tests.chaos.provider import CountingProvider, Plan, plans
from workers.sweep_holds import sweep_holds
from workers.sweep_invocations import sweep_invocations

EVERY_S = {"api": 4.0, "worker": 5.0, "valkey": 7.0, "database": 9.0}
SWEEP_S = 60.0
"""How long after the death of a process its calls are settled at the latest: 45 s, and a tick of the sweep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a run is made of. `waits`: the sweep comes by itself; otherwise the clock is moved to when it has."""

    calls: int
    at_once: int
    seed: int
    engine: str
    limit: int = 100_000_000
    hurry: float = 1.0
    waits: bool = True


class _LaterClock(SystemClock):
    """The time when every lease of now is over."""

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=SWEEP_S + 30)


async def run(given: Run, folder: Path) -> tuple[Report, Fleet]:
    """Call while everything dies, let the sweep end what is left, and examine the books."""
    async with CountingProvider() as provider, fleet(folder, given.engine, provider.url, given.limit) as found:
        await found.start()
        attending = asyncio.create_task(found.attend())
        stop = asyncio.Event()
        kinds = [kind for kind in EVERY_S if kind != "database" or found.database is not None]
        killers = [
            asyncio.create_task(
                found.kill_now_and_then(kind, EVERY_S[kind] / given.hurry, random.Random(f"{given.seed} {kind}"), stop)
            )
            for kind in kinds
        ]
        seen = await _calls(found, plans(given.calls, given.seed), given)
        stop.set()
        await asyncio.gather(*killers)
        if given.waits:
            await _until_settled(found)
        attending.cancel()
        with suppress(asyncio.CancelledError):
            await attending
        if not given.waits:
            await asyncio.gather(*(api.stop() for api in found.apis))
        clock = SystemClock() if given.waits else _LaterClock()
        async with open_resources(found.installed.settings, kind="worker", clock=clock) as resources:
            if not given.waits:
                await sweep_holds(resources)
                await sweep_invocations(resources)
            async with resources.storage.connect() as connection:
                return await books.examine(connection, seen, provider.sent), found


async def _calls(found: Fleet, wanted: Sequence[Plan], given: Run) -> list[Seen]:
    room, until = asyncio.Semaphore(given.at_once), asyncio.get_running_loop().time() + 300 + given.calls

    async def one(plan: Plan) -> Seen:
        async with room:
            try:
                return await call(found.alive, plan, given.seed + plan.number, until)
            finally:
                found.over += 1

    return list(await asyncio.gather(*(one(plan) for plan in wanted)))


async def _until_settled(found: Fleet) -> None:
    """Wait until nothing is reserved and nothing runs, at most as long as the sweep may take."""
    async with open_resources(found.installed.settings, kind="worker") as resources:
        began = time.monotonic()
        while time.monotonic() - began < 2 * SWEEP_S:
            async with resources.storage.connect() as connection:
                left = await books.still_open(connection)
            if left == (0, 0):
                break
            await asyncio.sleep(0.5)
        print(f"settled {time.monotonic() - began:.0f} s after the last call", flush=True)


def main() -> int:
    """Run once and print what was found; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--at-once", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", choices=("postgresql", "sqlite"), default="postgresql")
    parser.add_argument("--keep", type=Path, help="the folder to run in, which is left behind")
    given = parser.parse_args()
    wanted = Run(calls=given.calls, at_once=given.at_once, seed=given.seed, engine=given.engine)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="my-chaos-", ignore_cleanup_errors=True) as scratch:
        folder = given.keep or Path(scratch)
        folder.mkdir(mode=0o755, exist_ok=True)
        folder.chmod(0o755)
        report, found = asyncio.run(run(wanted, folder))
    print(
        f"seed {given.seed}, {given.engine}, {time.monotonic() - began:.0f} s: {report.calls} calls, "
        f"{report.admitted} admitted, {report.completed} finished, {report.cut} cut ({report.cut_share:.0%}), "
        f"{report.unfollowed} that no client followed, {report.charged} tokens charged"
    )
    print("killed:", ", ".join(f"{kind} {count}" for kind, count in sorted(found.killed.items())))
    print("ends:", ", ".join(f"{kind} {count}" for kind, count in sorted(report.outcomes.items())))
    for fault in report.faults:
        print("FAULT", fault)
    print(f"{len(report.faults)} broken promises")
    return 1 if report.faults or report.cut_share < 0.3 else 0


if __name__ == "__main__":
    sys.exit(main())

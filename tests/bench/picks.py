"""`python -m tests.bench.picks`: what it costs to pick a member of a pool, here and in Valkey, and how often Valkey is asked."""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import uvloop
from redis.asyncio import Redis

from core.entities import Pool, PoolMember, PoolStrategy
from core.ids import uuid7
from core.model_types import ModelKey, ModelType
from core.ports.pool_state import Lease, Place
from storage.clock import SystemClock
from storage.commands import Commands
from storage.embedded.valkey import start_valkey
from storage.pool_memory import SharedPoolState
from storage.pool_state import RedisPoolState
from storage.redis import open_pool

WORKSPACE = uuid7()
SIZES = (3, 50)
AT_ONCE = 32
GOAL_US = 300


def main(arguments: Sequence[str] | None = None) -> int:
    """Pick and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.picks", description=__doc__)
    parser.add_argument("--picks", type=int, default=4000)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="picks-") as name:
        folder = Path(name)
        server = start_valkey(folder, folder / "valkey.sock")
        try:
            uvloop.run(_measure(f"unix://{folder}/valkey.sock", given.picks, given.repeats))
        finally:
            server.kill()
    return 0


async def _measure(url: str, picks: int, repeats: int) -> None:
    connections = open_pool(url)
    redis: Redis = Redis(connection_pool=connections)
    valkey = psutil.Process((await redis.info("server"))["process_id"])
    state = SharedPoolState(RedisPoolState(Commands(connections), uuid7(), SystemClock()), SystemClock())
    print(
        f"| strategy | members | CPU a pick, µs (goal: {GOAL_US}) | Valkey's, µs | round trips a pick |\n|---|---|---|---|---|"
    )
    for strategy in PoolStrategy:
        for size in SIZES:
            pool = _pool(strategy, size)
            await _round(state, pool, AT_ONCE * 4)
            found = [await _timed(redis, valkey, state, pool, picks) for _ in range(repeats)]
            ours, theirs, trips = (statistics.median(side) for side in zip(*found, strict=True))
            print(f"| {strategy} | {size} | {ours:.0f} | {theirs:.0f} | {trips:.2f} |", flush=True)
    await connections.aclose()


async def _timed(
    redis: Redis, valkey: psutil.Process, state: SharedPoolState, pool: Pool, picks: int
) -> tuple[float, float, float]:
    """Return the CPU microseconds of this process and of Valkey for a pick, and the reads of Valkey's sockets."""
    reads, theirs, ours = await _reads(redis), _cpu(valkey), time.process_time()
    leases = await _round(state, pool, picks)
    spent = time.process_time() - ours, _cpu(valkey) - theirs
    trips = await _reads(redis) - reads - 1
    for lease in leases:
        await state.done(lease, served=True)
    return spent[0] * 1e6 / picks, spent[1] * 1e6 / picks, trips / picks


async def _round(state: SharedPoolState, pool: Pool, picks: int) -> list[Lease]:
    """Pick so often, a few at once."""
    places = [
        Place(member_id=one.id, credential_id=one.credential_id or one.id, number=number, weight=one.weight)
        for number, one in enumerate(pool.members)
    ]
    leases: list[Lease] = []

    async def some() -> None:
        for _ in range(picks // AT_ONCE):
            picked = await state.pick(WORKSPACE, pool, places, (0.3, 0.6))
            assert picked.lease is not None
            leases.append(picked.lease)

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))
    return leases


def _pool(strategy: PoolStrategy, size: int) -> Pool:
    members = tuple(PoolMember(id=uuid7(), credential_id=uuid7(), name=f"m{number}") for number in range(size))
    key = ModelKey(provider="openai_compatible", name="picked", type=ModelType.LLM)
    return Pool(id=uuid7(), key=key, enabled=True, strategy=strategy, members=members)


async def _reads(redis: Redis) -> int:
    return int((await redis.info("stats"))["total_reads_processed"])


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    sys.exit(main())

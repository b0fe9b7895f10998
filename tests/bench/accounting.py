"""`python -m tests.bench.accounting`: accounted calls a second on PostgreSQL, beside the barest reservation there is.

The barest reservation is one transaction of a guarded UPDATE and an INSERT. An accounted call is what a hosted call costs
the database: an admission with its hold, and a settlement with its attempt. Both by four processes of 50 tasks, in turn.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import asyncpg

from core.entities import EntryKind, Invocation, InvocationStatus, Quota, QuotaType, QuotaUnit
from core.ids import id_of, uuid7
from core.model_types import Usage
from core.model_types.llm import Attempt, ProviderType
from core.ports.invocation_log import Want
from core.ports.quotas import Note
from core.settings import Settings
from storage.migrate import migrate
from storage.resources import Resources, open_resources
from tests.conftest import settings_for
from tests.engines import Postgres, valkey
from tests.storage import rows

ROOT = Path(__file__).resolve().parents[2]
PROCESSES, TASKS, POOL = 4, 50, 5
PLACES = {"one hot row": 1, "100 rows": 100}
REACHED = {"one hot row": 0.5, "100 rows": 0.6}
_TABLES = """
CREATE TABLE bare (id int PRIMARY KEY, "limit" bigint, used bigint, reserved bigint);
CREATE TABLE bare_entries (id uuid PRIMARY KEY, quota int, amount bigint, at timestamptz DEFAULT now());
INSERT INTO bare SELECT n, 1000000000000, 0, 0 FROM generate_series(0, 99) n;
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.accounting", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each figure is measured")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.part is not None:
        print(asyncio.run(_part(**json.loads(given.part))))
        return 0
    with tempfile.TemporaryDirectory(prefix="my-bench-") as scratch, valkey() as redis_url:
        folder = Path(scratch)
        folder.chmod(0o755)
        (folder / "server").mkdir()
        server = Postgres(folder / "server", durable=True)
        server.start()
        try:
            _compare(server.url.format("postgres"), redis_url, folder, given.seconds, given.repeats)
        finally:
            server.kill()
    return 0


def _compare(url: str, redis_url: str, folder: Path, seconds: float, repeats: int) -> None:
    quotas = asyncio.run(_prepare(settings_for(url, redis_url, folder)))
    print(
        "| | reservations a second | accounted calls a second | ratio | to reach |\n|---|---|---|---|---|", flush=True
    )
    for name, count in PLACES.items():
        runs = []
        for _ in range(repeats):
            place = {"url": url, "redis_url": redis_url, "folder": str(folder), "quotas": quotas[:count]}
            runs.append([_rate(place | {"what": what, "seconds": seconds}) for what in ("bare", "accounted")])
        bare, accounted = (statistics.median(run[number] for run in runs) for number in (0, 1))
        ratio = statistics.median(run[1] / run[0] for run in runs)
        print(f"| {name} | {bare:.0f} | {accounted:.0f} | {ratio:.2f} × | ≥ {REACHED[name]} × |", flush=True)


def _rate(part: dict[str, object]) -> float:
    """Return how many a second all processes together have done."""
    command = [sys.executable, "-m", "tests.bench.accounting", "--part", json.dumps(part)]
    started = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) for _ in range(PROCESSES)]
    return sum(float(process.communicate()[0]) for process in started)


async def _prepare(settings: Settings) -> list[list[str]]:
    """Make the tables, and a hundred workspaces with a quota each; return the ids of both."""
    await migrate(settings.database_url)
    connection = await asyncpg.connect(_plain(settings.database_url))
    await connection.execute(_TABLES)
    await connection.close()
    made = []
    async with open_resources(settings, kind="api") as resources:
        for _ in range(max(PLACES.values())):
            tenant = await rows.tenant(resources.app)
            quota = Quota(
                id=uuid7(), workspace_id=tenant.id, provider="openai", type=QuotaType.TRIAL, unit=QuotaUnit.TOKENS,
                limit=10**12, used=0, reserved=0, created_at=resources.app.clock.now(),
            )  # fmt: skip
            async with resources.storage.transaction() as tx:
                await tx.quotas.insert(quota, EntryKind.GRANT, Note())
            made.append([str(tenant.id), str(tenant.account.id), str(tenant.token.id), str(quota.id)])
    return made


async def _part(
    what: str, url: str, redis_url: str, folder: str, quotas: Sequence[Sequence[str]], seconds: float
) -> float:
    """Do one kind of work with all tasks for a while; return how often a second."""
    if what == "bare":
        async with asyncpg.create_pool(_plain(url), min_size=POOL, max_size=POOL) as pool:
            return await _often(lambda turn: _reserve(pool, turn % len(quotas)), seconds)
    settings = settings_for(url, redis_url, Path(folder), DATABASE_POOL=str(POOL))
    async with open_resources(settings, kind="api") as resources:
        places = [[UUID(one) for one in ids] for ids in quotas]
        return await _often(lambda turn: _account(resources, *places[turn % len(places)]), seconds)


async def _often(work: Callable[[int], Awaitable[None]], seconds: float) -> float:
    done = 0
    await work(0)
    began = time.monotonic()

    async def task(turn: int) -> None:
        nonlocal done
        while time.monotonic() - began < seconds:
            await work(turn)
            turn += TASKS
            done += 1

    await asyncio.gather(*(task(turn) for turn in range(TASKS)))
    return done / (time.monotonic() - began)


async def _reserve(pool: "asyncpg.Pool", place: int) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            'UPDATE bare SET reserved = reserved + 7 WHERE id = $1 AND used + reserved + 7 <= "limit"', place
        )
        await connection.execute("INSERT INTO bare_entries (id, quota, amount) VALUES ($1, $2, 7)", uuid7(), place)


async def _account(resources: Resources, workspace_id: UUID, account_id: UUID, token_id: UUID, quota_id: UUID) -> None:
    app = resources.app
    now = app.clock.now()
    running = Invocation(
        id=id_of(now), workspace_id=workspace_id, model=rows.KEY, provider_type=ProviderType.SYSTEM, credential_id=None,
        credential_name=None, token_id=token_id, account_id=account_id, owner=app.process_id, started_at=now,
    )  # fmt: skip
    hold = (
        await app.invocations.admit(running, [Want(quota_id=quota_id, minimum=100, wanted=2148, input_tokens=25)])
    ).quota
    assert hold is not None
    usage = Usage(input_tokens=30, output_tokens=70)
    attempt = Attempt(
        model=running.model,
        credential_id=None,
        credential_name=None,
        started_at=now.timestamp(),
        duration=0.1,
        error=None,
    )
    ended = replace(running, status=InvocationStatus.SUCCEEDED, usage=usage, attempts=(attempt,), ended_at=now)
    await app.invocations.settle(ended, {hold.id: usage.total_tokens})


def _plain(url: str) -> str:
    return url.replace("postgresql+asyncpg://", "postgresql://")


if __name__ == "__main__":
    sys.exit(main())

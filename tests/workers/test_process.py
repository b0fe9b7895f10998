"""The worker as a process: wrong settings, a clean stop, and Redis that goes away."""

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from core.settings import Settings
from storage.embedded.valkey import start_valkey
from storage.resources import open_resources
from tests.conftest import KEY, settings_for
from tests.engines import scratch
from tests.waiting import LIMIT_S


@asynccontextmanager
async def _worker(settings: Settings) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a worker process."""
    environment = os.environ | {
        "MODELYARD_DATABASE_URL": settings.database_url,
        "MODELYARD_REDIS_URL": settings.redis_url,
        "MODELYARD_DATA": str(settings.data),
        "MODELYARD_ENCRYPTION_KEYS": KEY,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "workers", env=environment, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _workers(settings: Settings) -> int:
    async with open_resources(settings, kind="api") as resources:
        return len(await resources.app.health.workers())


async def _until_working(settings: Settings) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not await _workers(settings):
            await asyncio.sleep(0.1)


async def test_wrong_settings_are_named_and_end_it_with_2(settings: Settings) -> None:
    environment = os.environ | {"MODELYARD_ENCRYPTION_KEYS": "short", "MODELYARD_REDIS_URL": "http://x"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "workers", env=environment, stderr=asyncio.subprocess.PIPE
    )

    _, errors = await process.communicate()

    assert process.returncode == 2
    assert b"MODELYARD_ENCRYPTION_KEYS" in errors
    assert b"MODELYARD_REDIS_URL" in errors
    assert b"Traceback" not in errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_it_cleanly(settings: Settings, number: signal.Signals) -> None:
    async with _worker(settings) as process:
        await _until_working(settings)

        process.send_signal(number)
        async with asyncio.timeout(LIMIT_S):
            _, errors = await process.communicate()

    assert process.returncode == 0
    assert b"Traceback" not in errors
    assert await _workers(settings) == 0, "it signed off"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_it_ends_with_a_sentence_when_redis_goes_away(database_url: str, tmp_path: Path) -> None:
    folder = scratch(f"my-{uuid.uuid4().hex[:6]}-")
    valkey = start_valkey(folder, folder / "v.sock")
    settings = settings_for(database_url, f"unix://{folder}/v.sock", tmp_path)
    async with _worker(settings) as process:
        await _until_working(settings)

        valkey.kill()
        async with asyncio.timeout(LIMIT_S):
            _, errors = await process.communicate()

    assert process.returncode == 1
    assert errors.decode().splitlines()[-1] == "Redis cannot be reached; ask again in a moment."
    assert b"Traceback" not in errors

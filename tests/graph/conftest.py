"""A world on SQLite and a real Valkey: the translation is the same on every engine."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.resources import open_app
from tests.conftest import settings_for, sqlite_in
from tests.graph.world import World, make_world


@pytest.fixture
async def world(sqlite_template: Path, redis_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """Return a world of its own."""
    async with open_app(
        settings_for(sqlite_in(tmp_path, sqlite_template), redis_url, tmp_path, EGRESS_ALLOW="127.0.0.1:9")
    ) as app:
        yield await make_world(app)


@pytest.fixture(scope="session")
async def shared_world(
    sqlite_template: Path, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    """Return a world that tests only read."""
    folder = tmp_path_factory.mktemp("world")
    async with open_app(settings_for(sqlite_in(folder, sqlite_template), redis_url, folder)) as app:
        yield await make_world(app)

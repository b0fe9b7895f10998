"""A world on SQLite and a real Valkey: the translation is the same on every engine."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.resources import open_app
from tests.conftest import settings_for
from tests.graph.world import World, make_world


@pytest.fixture
async def world(sqlite_template: Path, redis_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """Return a world of its own."""
    path = tmp_path / "modelyard.db"
    path.write_bytes(sqlite_template.read_bytes())
    async with open_app(
        settings_for(f"sqlite+aiosqlite:///{path}", redis_url, tmp_path, EGRESS_ALLOW="127.0.0.1:9")
    ) as app:
        yield await make_world(app)


@pytest.fixture(scope="session")
async def shared_world(
    sqlite_template: Path, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    """Return a world that tests only read."""
    folder = tmp_path_factory.mktemp("world")
    path = folder / "modelyard.db"
    path.write_bytes(sqlite_template.read_bytes())
    async with open_app(settings_for(f"sqlite+aiosqlite:///{path}", redis_url, folder)) as app:
        yield await make_world(app)

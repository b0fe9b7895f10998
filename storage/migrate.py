"""Brings the schema up to date; started at once by several processes, one does it and the others find it done."""

import fcntl
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from core.settings import Settings

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection as SyncConnection

_VERSIONS = Path(__file__).parent / "migrations" / "versions"
_LOCK = 0x6D6F64656C79617264 >> 8
_TABLE = "alembic_version"
_REVISION = "SELECT version_num FROM alembic_version"


def head() -> str:
    """Return the newest revision: revisions are files that begin with their number."""
    return max(path.name.split("_", 1)[0] for path in _VERSIONS.glob("[0-9]*_*.py"))


async def migrate(url: str) -> bool:
    """Bring the schema of a database to the newest revision; return whether anything was to do.

    A SQLite file that is there already is copied beside itself first.

    Raises:
        ServerUnavailable: the database is away.
    """
    path = sqlite_file(url)
    if path is None:
        return await _upgrade(url)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if _sqlite_revision(path) == head():
        return False
    with _locked(path.with_name(path.name + ".migrating")):
        before = _sqlite_revision(path)
        if before == head():
            return False
        if before is not None:
            _copy(path, path.with_name(f"{path.name}.before-{head()}"))
        _create(path)
        return await _upgrade(url)


def sqlite_file(url: str) -> Path | None:
    """Return the file of a SQLite database, None for another engine."""
    return Path(url.partition(":///")[2].partition("?")[0]) if url.startswith("sqlite") else None


async def _upgrade(url: str) -> bool:
    """Run the migrations that are missing, in one transaction under the database's own lock."""
    from sqlalchemy import text

    from storage.engine import open_engines, translated

    def run(connection: "SyncConnection") -> bool:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        if _revision(connection) == head():
            return False
        from alembic import command

        command.upgrade(config(connection), "head")
        if connection.dialect.name == "sqlite" and connection.exec_driver_sql("PRAGMA foreign_key_check").first():
            raise RuntimeError("a migration would leave rows that refer to nothing; the database is unchanged")
        return True

    engines = open_engines(url, pool=1, migrating=True)
    try:
        with translated():
            async with engines.writer.begin() as connection:
                return await connection.run_sync(run)
    finally:
        await engines.close()


def config(connection: object) -> "Config":
    """Return alembic's configuration on a connection in a transaction."""
    from alembic.config import Config

    found = Config()
    found.set_main_option("script_location", str(_VERSIONS.parent))
    found.attributes["connection"] = connection
    return found


def _revision(connection: "SyncConnection") -> str | None:
    from sqlalchemy import inspect, text

    if not inspect(connection).has_table(_TABLE):
        return None
    found: str | None = connection.execute(text(_REVISION)).scalar()
    return found


def _sqlite_revision(path: Path) -> str | None:
    return sqlite_first(path, _REVISION)


def sqlite_first(path: Path, query: str) -> str | None:
    """Return the first value that a query finds in a SQLite file, None where the file or table is not there.

    Uses the standard library alone, so that a start with nothing to do is fast.
    """
    if not path.exists():
        return None
    connection = sqlite3.connect(f"file:{path.absolute()}?mode=ro", uri=True, timeout=15)
    try:
        row = connection.execute(query).fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):
            raise
        return None
    finally:
        connection.close()
    return str(row[0]) if row else None


def _copy(path: Path, target: Path) -> None:
    """Copy a SQLite database as of one moment, its write-ahead log included."""
    unfinished = target.with_name(target.name + ".part")
    unfinished.unlink(missing_ok=True)
    _create(unfinished)
    source, copy = sqlite3.connect(path, timeout=15), sqlite3.connect(unfinished)
    try:
        source.backup(copy)
    finally:
        copy.close()
        source.close()
    unfinished.replace(target)


def _create(path: Path) -> None:
    """Make an empty file that only its owner may read, where there is none."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a file's lock; it goes with the process."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


async def run(settings: Settings) -> None:
    """Migrate and say what was done."""
    changed = await migrate(settings.database_url)
    sys.stdout.write(f"The database {'is now' if changed else 'was already'} at revision {head()}.\n")

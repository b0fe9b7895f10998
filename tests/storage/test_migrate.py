"""Migrations: up to date with the tables, safe at once, with a copy beforehand, and back."""

import asyncio
import os
import sqlite3
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect
from sqlalchemy.ext.asyncio import create_async_engine

from storage.engine import open_engines
from storage.migrate import config, head, migrate
from storage.schema import metadata


async def _run(url: str, work: object) -> object:
    engines = open_engines(url, pool=1, migrating=True)
    try:
        async with engines.writer.begin() as connection:
            return await connection.run_sync(work)  # type: ignore[arg-type]
    finally:
        await engines.close()


async def test_the_migrated_schema_is_that_of_the_tables(database_url: str) -> None:
    await _run(database_url, lambda connection: command.check(config(connection)))


async def test_the_files_tell_the_newest_revision_as_alembic_does() -> None:
    assert ScriptDirectory.from_config(config(None)).get_current_head() == head()


async def test_the_first_revision_can_be_taken_back(database_url: str) -> None:
    def down(connection: Connection) -> list[str]:
        command.downgrade(config(connection), "base")
        return inspect(connection).get_table_names()

    assert await _run(database_url, down) == ["alembic_version"]
    assert await migrate(database_url) is True


async def test_a_second_run_has_nothing_to_do(database_url: str) -> None:
    assert await migrate(database_url) is False


async def test_four_processes_at_once_make_one_schema(fresh_database_url: str, tmp_path: Path) -> None:
    environment = os.environ | {
        "MODELYARD_DATABASE_URL": fresh_database_url,
        "MODELYARD_DATA": str(tmp_path),
        "MODELYARD_ENCRYPTION_KEYS": "T0d3c2JtRjVlR1Z5ZEd0aGMybHVaWE56Wm1kc2EyYW0=",
    }
    running = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "storage.prepare", env=environment, stdout=asyncio.subprocess.PIPE
        )
        for _ in range(4)
    ]
    outputs = [(await process.communicate())[0].decode() for process in running]

    assert [process.returncode for process in running] == [0] * 4
    assert sum("is now at revision" in output for output in outputs) == 1
    shown = [line.strip() for output in outputs for line in output.splitlines() if line.strip().startswith("my_")]
    assert shown == [(tmp_path / "owner.token").read_text().strip()]
    engine = create_async_engine(fresh_database_url)
    async with engine.connect() as connection:
        names = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
    await engine.dispose()
    assert set(names) == {*metadata.tables, "alembic_version"}


async def test_a_sqlite_file_of_an_older_revision_is_copied_first(tmp_path: Path) -> None:
    path = tmp_path / "modelyard.db"
    with sqlite3.connect(path) as old:
        old.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        old.execute("CREATE TABLE kept (word TEXT)")
        old.execute("INSERT INTO kept VALUES ('still here')")
        old.execute("INSERT INTO alembic_version VALUES ('0000')")
    old.close()

    with pytest.raises(Exception, match="0000"):
        await migrate(f"sqlite+aiosqlite:///{path}")

    copy = path.with_name(f"modelyard.db.before-{head()}")
    with sqlite3.connect(copy) as found:
        assert found.execute("SELECT word FROM kept").fetchall() == [("still here",)]
    found.close()
    assert copy.stat().st_mode & 0o777 == 0o600


async def test_the_database_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "modelyard.db"

    await migrate(f"sqlite+aiosqlite:///{path}")

    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


async def test_a_start_with_nothing_to_do_does_not_load_the_libraries(sqlite_template: Path) -> None:
    script = (
        "import asyncio, sys\n"
        "from storage.migrate import migrate\n"
        f"assert asyncio.run(migrate('sqlite+aiosqlite:///{sqlite_template}')) is False\n"
        "assert not {'sqlalchemy', 'alembic'} & set(sys.modules)\n"
    )

    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script)

    assert await process.wait() == 0

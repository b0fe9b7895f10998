"""The first start: all or nothing, once, and its token in a file before anybody is told."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
from sqlalchemy import func, select

from core.access import Role
from core.secret import hash_secret
from core.settings import Settings
from storage import bootstrap
from storage.accounts import accounts
from storage.bootstrap import TOKEN_FILE
from storage.cipher import Cipher
from storage.clock import SystemClock
from storage.engine import open_engines
from storage.resources import open_resources
from storage.tokens import api_tokens
from storage.transaction import SqlStorage


async def _count(settings: Settings) -> tuple[int, int]:
    engines = open_engines(settings.database_url, pool=1)
    storage = SqlStorage(engines, Cipher(settings.encryption_keys), SystemClock(), lambda _: None)
    async with storage.connect() as connection:
        people = await connection.row(select(func.count()).select_from(accounts))
        tokens = await connection.row(select(func.count()).select_from(api_tokens))
    await engines.close()
    assert people is not None
    assert tokens is not None
    return people[0], tokens[0]


async def test_the_first_start_makes_an_operator_who_owns_a_workspace(settings: Settings) -> None:
    secret = await bootstrap.bootstrap(settings)

    assert secret is not None
    async with open_resources(settings, kind="api") as resources:
        viewer = await resources.app.identity.viewer(hash_secret(secret.reveal()))
    assert viewer is not None
    assert viewer.is_operator
    assert [membership.role for membership in viewer.memberships.values()] == [Role.OWNER]
    path = settings.data / TOKEN_FILE
    assert path.read_text() == secret.reveal() + "\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(secret.reveal()) == 46
    assert secret.reveal().startswith("my_")


async def test_a_second_start_makes_nothing_and_leaves_the_file(settings: Settings) -> None:
    first = await bootstrap.bootstrap(settings)

    assert await bootstrap.bootstrap(settings) is None
    assert first is not None
    assert (settings.data / TOKEN_FILE).read_text().strip() == first.reveal()
    assert await _count(settings) == (1, 1)


async def test_two_first_starts_at_once_make_one_account(settings: Settings) -> None:
    made = await asyncio.gather(*(bootstrap.bootstrap(settings) for _ in range(4)))

    (secret,) = [one for one in made if one is not None]
    assert (settings.data / TOKEN_FILE).read_text().strip() == secret.reveal()
    assert await _count(settings) == (1, 1)


async def test_a_start_that_cannot_write_the_file_leaves_no_account(settings: Settings, tmp_path: Path) -> None:
    (settings.data / TOKEN_FILE).mkdir()

    with pytest.raises(OSError, match=r"owner\.token"):
        await bootstrap.bootstrap(settings)

    assert await _count(settings) == (0, 0)


_KILLED = """
import asyncio, os, signal, sys
from storage import bootstrap
from core.settings import load_settings
place = sys.argv[1]
write = bootstrap.write_token
def killed(*given):
    if place == "after":
        write(*given)
    os.kill(os.getpid(), signal.SIGKILL)
bootstrap.write_token = killed
asyncio.run(bootstrap.bootstrap(load_settings(os.environ)))
"""


@pytest.mark.parametrize("place", ["before", "after"])
async def test_a_first_start_killed_around_the_file_leaves_nothing_that_hinders_the_next(
    settings: Settings, place: str
) -> None:
    environment = os.environ | {
        "MODELYARD_DATABASE_URL": settings.database_url,
        "MODELYARD_DATA": str(settings.data),
        "MODELYARD_ENCRYPTION_KEYS": settings.encryption_keys[0].reveal(),
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _KILLED, place, env=environment)
    assert await process.wait() == -signal.SIGKILL
    assert (settings.data / TOKEN_FILE).exists() is (place == "after")
    assert await _count(settings) == (0, 0)

    secret = await bootstrap.bootstrap(settings)

    assert secret is not None
    assert (settings.data / TOKEN_FILE).read_text().strip() == secret.reveal()
    assert await _count(settings) == (1, 1)

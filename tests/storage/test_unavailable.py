"""The database or Redis away: a sentence with its code, and work again when they are back."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import await_only

from core.app import App
from core.errors import InvalidInput, OutcomeUnknown, ServerUnavailable
from core.secret import hash_secret
from storage.migrate import migrate
from storage.resources import Resources, open_resources
from storage.transaction import SqlStorage
from tests.conftest import settings_for
from tests.storage import rows


async def _cut(database_url: str) -> None:
    """Cut every connection to a PostgreSQL database."""
    others = "datname = current_database() AND pid <> pg_backend_pid()"
    engine = create_async_engine(database_url, isolation_level="AUTOCOMMIT")
    async with engine.connect() as admin:
        await admin.execute(text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"))
    await engine.dispose()


@pytest.mark.parametrize(
    "url",
    ["postgresql+asyncpg://postgres@127.0.0.1:1/nothing", "sqlite+aiosqlite:////nonexistent/modelyard.db"],
)
async def test_a_database_that_is_away_at_the_start_is_told_in_a_sentence(
    url: str, redis_url: str, tmp_path: Path
) -> None:
    with pytest.raises(ServerUnavailable, match="database cannot be reached"):
        async with open_resources(settings_for(url, redis_url, tmp_path), kind="api"):
            pass


async def test_a_migration_of_a_database_that_is_away_is_told_in_a_sentence() -> None:
    with pytest.raises(ServerUnavailable, match="database cannot be reached"):
        await migrate("postgresql+asyncpg://postgres@127.0.0.1:1/nothing")


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_connections_that_were_cut_are_replaced(app: App, resources: Resources, database_url: str) -> None:
    tenant = await rows.tenant(app)
    secret = hash_secret(tenant.secret.reveal())
    for _ in range(3):
        await _cut(database_url)

        viewer = await app.identity.viewer(secret)
        running = rows.invocation(app, tenant)
        await app.invocations.admit(running)

        assert viewer is not None
        assert await app.invocations.settle(running) is True


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_cut_in_mid_transaction_is_unavailable_and_leaves_nothing(app: App, database_url: str) -> None:
    tenant = await rows.tenant(app)

    with pytest.raises(ServerUnavailable):
        async with app.storage.transaction() as tx:
            await tx.workspaces.touch(tenant.id)
            await _cut(database_url)
            await tx.models.put_default(tenant.id, rows.KEY.type, rows.KEY)

    found = await app.configurations.get(tenant.id)
    assert (found.version, found.defaults) == (1, {})


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_cut_in_a_commit_says_that_nobody_knows(resources: Resources, database_url: str) -> None:
    def work(connection: Connection) -> None:
        connection.execute(text("SELECT 1"))
        await_only(_cut(database_url))

    with pytest.raises(OutcomeUnknown):
        await resources.storage.write_hot(work)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_writers_of_two_processes_wait_for_each_other(app: App, resources: Resources) -> None:
    tenant = await rows.tenant(app)
    async with open_resources(app.settings, kind="api") as other:

        async def raise_version(storage: SqlStorage) -> int:
            async with storage.transaction() as tx:
                before = (await tx.configuration(tenant.id)).version
                await asyncio.sleep(0.005)
                assert await tx.workspaces.touch(tenant.id) == before + 1
                return before

        seen = await asyncio.gather(
            *(raise_version(storage) for _ in range(20) for storage in (resources.storage, other.storage))
        )

    assert sorted(seen) == list(range(1, 41))


async def test_health_tells_what_answers_and_what_does_not(app: App, database_url: str, tmp_path: Path) -> None:
    database, redis = await app.health.database(), await app.health.redis()
    away = settings_for(database_url, f"unix://{tmp_path}/nothing.sock", tmp_path)
    async with open_resources(away, kind="worker") as resources:
        without = await resources.app.health.redis()
        (worker,) = await resources.app.health.workers()

    assert database.ok
    assert database.engine in database_url
    assert database.latency is not None
    assert redis.ok
    assert (without.ok, without.latency) == (False, None)
    assert "Redis" in (without.problem or "")
    assert "pools" in (without.problem or "")
    assert (worker.queued, worker.ongoing) == (0, 0)
    assert await app.health.workers() == []


async def test_a_database_that_nobody_prepared_is_told_in_a_sentence(
    fresh_database_url: str, redis_url: str, tmp_path: Path
) -> None:
    with pytest.raises(ServerUnavailable, match=r"\./run migrate"):
        async with open_resources(settings_for(fresh_database_url, redis_url, tmp_path), kind="api"):
            pass


@pytest.mark.parametrize("name", ["half \ud800", "nul \x00"])
async def test_a_text_that_cannot_be_stored_is_refused_or_kept_but_never_breaks(app: App, name: str) -> None:
    person = rows.account(name)

    try:
        async with app.storage.transaction() as tx:
            await tx.accounts.insert(replace(person, email="x@example.com"))
    except InvalidInput as error:
        assert "character" in error.message  # noqa: PT017 - one engine stores it, the other cannot
    else:
        async with app.storage.read() as tx:
            assert (await tx.accounts.get_many([person.id]))[person.id].name == name


@pytest.mark.parametrize("error", [FileNotFoundError(2, "mine"), TimeoutError("mine"), ConnectionResetError("mine")])
async def test_an_error_of_the_block_itself_comes_out_as_it_is(app: App, error: Exception) -> None:
    for opening in (app.storage.transaction, app.storage.read):
        with pytest.raises(type(error)) as raised:
            async with opening():
                raise error
        assert raised.value is error

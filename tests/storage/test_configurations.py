"""Snapshots: whole, verified by version, loaded once for many, and gone with their workspace."""

import asyncio
from decimal import Decimal

import pytest
from sqlalchemy import delete, event, select

from core.app import App
from core.entities import ModelRow, ModelSetting, ModelSource
from core.errors import NotFound
from core.ids import uuid7
from core.model_types import ModelKey, ModelType
from core.provider import Pricing
from storage.base import metadata
from storage.resources import Resources, open_resources
from storage.workspaces import workspaces
from tests.storage import rows

PRICING = Pricing(currency="USD", input=Decimal("0.15"), output=Decimal("0.60"), overridden=True)
EMBED = ModelKey(provider="openai", name="embed", type=ModelType.TEXT_EMBEDDING)


async def _configure(app: App, tenant: rows.Tenant) -> None:
    made = await rows.credential(app, tenant.id)
    async with app.storage.transaction() as tx:
        await tx.workspaces.touch(tenant.id)
        await tx.providers.set_active(tenant.id, "openai", made.id)
        await tx.models.put(
            tenant.id, ModelRow(key=rows.KEY, source=ModelSource.CUSTOM, label="Mine", active_credential_id=None)
        )
        await tx.models.put_setting(tenant.id, ModelSetting(key=rows.KEY, enabled=False, pricing=PRICING))
        await tx.models.put_default(tenant.id, ModelType.LLM, rows.KEY)
        await tx.models.put_default(tenant.id, ModelType.TEXT_EMBEDDING, EMBED)


async def test_a_snapshot_holds_everything_of_its_workspace_and_nothing_of_another(app: App) -> None:
    tenant, stranger = await rows.tenant(app), await rows.tenant(app, "stranger")
    await _configure(app, tenant)
    await _configure(app, stranger)

    found = await app.configurations.get(tenant.id)

    (credential,) = found.credentials.values()
    assert credential.workspace_id == tenant.id
    assert found.provider("openai").active_credential_id == credential.id
    assert found.models[rows.KEY].label == "Mine"
    assert found.setting(rows.KEY) == ModelSetting(key=rows.KEY, enabled=False, pricing=PRICING)
    assert found.defaults == {ModelType.LLM: rows.KEY, ModelType.TEXT_EMBEDDING: EMBED}
    assert found.version == 3
    async with app.storage.read() as tx:
        assert await tx.configuration(tenant.id) == found


async def test_a_setting_and_a_default_are_replaced_and_cleared(app: App) -> None:
    tenant = await rows.tenant(app)
    await _configure(app, tenant)

    async with app.storage.transaction() as tx:
        await tx.workspaces.touch(tenant.id)
        await tx.models.put_setting(tenant.id, ModelSetting(key=rows.KEY, enabled=True))
        await tx.models.put_default(
            tenant.id, ModelType.LLM, ModelKey(provider="echo", name="echo", type=ModelType.LLM)
        )
        await tx.models.put_default(tenant.id, ModelType.TEXT_EMBEDDING, None)

    found = await app.configurations.get(tenant.id)
    assert found.setting(rows.KEY) == ModelSetting(key=rows.KEY, enabled=True)
    assert found.defaults == {ModelType.LLM: ModelKey(provider="echo", name="echo", type=ModelType.LLM)}


async def test_a_deleted_model_takes_its_setting_and_default_along_and_leaves_its_credentials(app: App) -> None:
    tenant = await rows.tenant(app)
    await _configure(app, tenant)
    kept = await rows.credential(app, tenant.id, "own", model=rows.KEY)

    async with app.storage.transaction() as tx:
        await tx.workspaces.touch(tenant.id)
        await tx.models.delete(tenant.id, rows.KEY)

    found = await app.configurations.get(tenant.id)
    assert (found.models, found.settings, found.defaults) == ({}, {}, {ModelType.TEXT_EMBEDDING: EMBED})
    assert kept.id in found.credentials


async def test_a_snapshot_in_memory_serves_without_a_statement_until_its_version_is_old(
    app: App, resources: Resources
) -> None:
    tenant = await rows.tenant(app)
    statements: list[str] = []
    engines = resources.storage.engines
    first = await app.configurations.get(tenant.id, 1)
    for engine in {engines.reader.sync_engine, engines.single.sync_engine}:
        event.listen(engine, "before_cursor_execute", lambda *given: statements.append(given[2]))

    assert await app.configurations.get(tenant.id, 1) is first
    assert statements == []

    async with app.storage.transaction() as tx:
        version = await tx.workspaces.touch(tenant.id)
    second = await app.configurations.get(tenant.id, version)
    assert (second.version, version) == (2, 2)


async def test_many_who_ask_at_once_share_one_load(app: App, resources: Resources) -> None:
    tenant = await rows.tenant(app)
    statements: list[str] = []
    event.listen(
        resources.storage.engines.reader.sync_engine,
        "before_cursor_execute",
        lambda *given: statements.append(given[2]),
    )

    found = await asyncio.gather(*(app.configurations.get(tenant.id, 1) for _ in range(50)))

    assert len({id(one) for one in found}) == 1
    assert sum("FROM credentials" in statement for statement in statements) == 1


async def test_a_change_of_another_process_is_seen_by_version_and_by_publish(app: App, resources: Resources) -> None:
    tenant = await rows.tenant(app)
    old = await app.configurations.get(tenant.id)
    async with open_resources(app.settings, kind="api") as other:
        await rows.credential(other.app, tenant.id)

        assert (await app.configurations.get(tenant.id, 2)).version == 2
        assert len((await app.configurations.get(tenant.id)).credentials) == 1
    assert old.credentials == {}


async def test_an_unknown_workspace_is_not_found(app: App) -> None:
    with pytest.raises(NotFound):
        await app.configurations.get(uuid7())
    with pytest.raises(NotFound):
        async with app.storage.transaction() as tx:
            await tx.workspaces.touch(uuid7())


async def test_a_deleted_workspace_takes_all_of_its_rows_along(app: App, resources: Resources) -> None:
    tenant = await rows.tenant(app)
    await _configure(app, tenant)
    await rows.insert_token(app, rows.token(workspace_id=tenant.id))
    await app.invocations.admit(rows.invocation(app, tenant))

    async with resources.storage.connect() as connection:
        await connection.run(delete(workspaces).where(workspaces.c.id == tenant.id))

    left = {}
    async with resources.storage.connect() as connection:
        for table in metadata.tables.values():
            if "workspace_id" in table.c:
                of_it = table.c.workspace_id == tenant.id
                left[table.name] = len(await connection.rows(select(table.c.id).where(of_it)))
    assert sum(left.values()) == 0, left


async def test_a_transaction_that_fails_leaves_nothing_behind(app: App) -> None:
    tenant = await rows.tenant(app)

    with pytest.raises(RuntimeError, match="in between"):
        async with app.storage.transaction() as tx:
            await tx.workspaces.touch(tenant.id)
            await tx.models.put_default(tenant.id, ModelType.LLM, rows.KEY)
            raise RuntimeError("in between")

    found = await app.configurations.get(tenant.id)
    assert (found.version, found.defaults) == (1, {})


async def test_changes_of_one_workspace_come_one_by_one(app: App) -> None:
    tenant = await rows.tenant(app)

    async def raise_version() -> int:
        async with app.storage.transaction() as tx:
            version = await tx.workspaces.touch(tenant.id)
            assert (await tx.configuration(tenant.id)).version == version
            return version

    versions = await asyncio.gather(*(raise_version() for _ in range(20)))

    assert sorted(versions) == list(range(2, 22))

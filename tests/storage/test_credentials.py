"""Sealed credentials as rows: unique names, active ones, status by compare-and-set, unreadable records."""

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import delete, update

from core.app import App
from core.entities import CredentialStatus, ModelRow, ModelSource
from core.errors import AlreadyExists, Conflict, CredentialUnreadable, ErrorCode, Problem
from core.ids import uuid7
from core.model_types import ModelKey
from core.secret import Secret
from storage.credentials import credentials
from storage.resources import Resources
from storage.workspaces import workspace_keys
from tests.storage import rows


async def test_a_credential_comes_back_as_it_went_in_and_opens(app: App) -> None:
    tenant = await rows.tenant(app)
    problem = Problem(code=ErrorCode.UPSTREAM_TIMEOUT, message="no answer", path=("values",), retryable=True)
    made = await rows.credential(app, tenant.id, model=rows.KEY, problem=problem)

    async with app.storage.read() as tx:
        found = await tx.credentials.get(tenant.id, made.id)

    assert found == made
    assert await app.vault.open(found) == rows.VALUES


async def test_a_credential_is_not_found_from_another_workspace(app: App) -> None:
    tenant, stranger = await rows.tenant(app), await rows.tenant(app, "stranger")
    made = await rows.credential(app, tenant.id)

    async with app.storage.transaction() as tx:
        assert await tx.credentials.get(stranger.id, made.id) is None
        assert await tx.credentials.delete(stranger.id, made.id) is False
        assert not await tx.credentials.set_status(
            stranger.id, made.id, version=1, status=CredentialStatus.INVALID, problem=None, validated_at=None
        )

    async with app.storage.read() as tx:
        assert await tx.credentials.get(tenant.id, made.id) == made


async def test_fifty_creations_of_one_name_at_once_leave_one(app: App) -> None:
    tenant = await rows.tenant(app)

    results = await asyncio.gather(
        *(rows.credential(app, tenant.id, "same") for _ in range(50)), return_exceptions=True
    )

    assert sum(isinstance(result, AlreadyExists) for result in results) == 49
    configuration = await app.configurations.get(tenant.id)
    assert [found.name for found in configuration.credentials.values()] == ["same"]
    assert configuration.version == 2, "a refused creation leaves the version alone"


async def test_one_name_serves_on_two_levels_and_at_two_providers(app: App) -> None:
    tenant = await rows.tenant(app)

    await rows.credential(app, tenant.id, "main")
    await rows.credential(app, tenant.id, "main", model=rows.KEY)
    await rows.credential(app, tenant.id, "main", provider="anthropic")

    assert len((await app.configurations.get(tenant.id)).credentials) == 3


async def test_the_status_changes_only_for_the_version_that_was_asked_about(app: App) -> None:
    tenant = await rows.tenant(app)
    made = await rows.credential(app, tenant.id)
    refused = Problem(code=ErrorCode.UPSTREAM_AUTHENTICATION, message="no")

    async with app.storage.transaction() as tx:
        late = await tx.credentials.set_status(
            tenant.id, made.id, version=2, status=CredentialStatus.INVALID, problem=refused, validated_at=None
        )
        assert late is False
    before = (await app.configurations.get(tenant.id)).version
    async with app.storage.transaction() as tx:
        assert await tx.credentials.set_status(
            tenant.id, made.id, version=1, status=CredentialStatus.INVALID, problem=refused, validated_at=None
        )

    configuration = await app.configurations.get(tenant.id)
    assert configuration.credentials[made.id].status is CredentialStatus.INVALID
    assert configuration.credentials[made.id].problem == refused
    assert configuration.version == before + 1


async def test_a_deleted_active_credential_leaves_none_active(app: App) -> None:
    tenant = await rows.tenant(app)
    of_provider = await rows.credential(app, tenant.id)
    of_model = await rows.credential(app, tenant.id, model=rows.KEY)
    row = ModelRow(
        key=rows.KEY, source=ModelSource.CUSTOM, label="L", active_credential_id=of_model.id, form_values={"a": "b"}
    )
    async with app.storage.transaction() as tx:
        await tx.workspaces.touch(tenant.id)
        await tx.providers.set_active(tenant.id, "openai", of_provider.id)
        await tx.models.put(tenant.id, row)
    before = await app.configurations.get(tenant.id)
    assert before.provider("openai").active_credential_id == of_provider.id
    assert before.models[rows.KEY] == row

    async with app.storage.transaction() as tx:
        await tx.workspaces.touch(tenant.id)
        assert await tx.credentials.delete(tenant.id, of_provider.id)
        assert await tx.credentials.delete(tenant.id, of_model.id)

    after = await app.configurations.get(tenant.id)
    assert after.credentials == {}
    assert after.provider("openai").active_credential_id is None
    assert after.models[rows.KEY] == replace(row, active_credential_id=None)


async def test_the_active_credential_cannot_be_another_providers_models_or_workspaces(app: App) -> None:
    tenant, stranger = await rows.tenant(app), await rows.tenant(app, "stranger")
    foreign = await rows.credential(app, stranger.id)
    other_provider = await rows.credential(app, tenant.id, provider="anthropic")
    other_model = await rows.credential(app, tenant.id, model=replace_name("other"))

    for credential_id in (foreign.id, other_provider.id, uuid7()):
        with pytest.raises(Conflict):
            async with app.storage.transaction() as tx:
                await tx.providers.set_active(tenant.id, "openai", credential_id)
    for credential_id in (foreign.id, other_provider.id, other_model.id):
        with pytest.raises(Conflict):
            async with app.storage.transaction() as tx:
                await tx.models.put(
                    tenant.id,
                    ModelRow(key=rows.KEY, source=ModelSource.CUSTOM, label=None, active_credential_id=credential_id),
                )

    configuration = await app.configurations.get(tenant.id)
    assert configuration.providers == {}
    assert configuration.models == {}


def replace_name(name: str) -> ModelKey:
    return ModelKey(provider=rows.KEY.provider, name=name, type=rows.KEY.type)


async def test_a_record_moved_to_another_row_or_workspace_is_unreadable_and_harms_no_other(
    app: App, resources: Resources
) -> None:
    tenant, stranger = await rows.tenant(app), await rows.tenant(app, "stranger")
    mine, moved = await rows.credential(app, tenant.id, "a"), await rows.credential(app, tenant.id, "b")
    theirs = await rows.credential(app, stranger.id)
    for target in (moved.id, theirs.id):
        async with resources.storage.connect() as connection:
            statement = update(credentials).where(credentials.c.id == target)
            await connection.run(statement.values(sealed=mine.sealed.data))

    async with app.storage.read() as tx:
        found = [await tx.credentials.get(tenant.id, moved.id), await tx.credentials.get(stranger.id, theirs.id)]

    for credential in found:
        assert credential is not None
        with pytest.raises(CredentialUnreadable):
            await app.vault.open(credential)
    assert (await app.vault.open(mine))["api_key"] == Secret("sk-canary-3f9c2a71d04e")


async def test_a_credential_whose_workspace_key_was_tampered_with_is_unreadable(app: App, resources: Resources) -> None:
    tenant = await rows.tenant(app)
    made = await rows.credential(app, tenant.id)
    async with resources.storage.connect() as connection:
        await connection.run(update(workspace_keys).values(wrapped_key=b"\0" * 60))

    with pytest.raises(CredentialUnreadable):
        await app.vault.open(made)


async def test_a_key_that_a_credential_needs_cannot_be_deleted(app: App, resources: Resources) -> None:
    tenant = await rows.tenant(app)
    made = await rows.credential(app, tenant.id)

    with pytest.raises(Conflict):
        async with resources.storage.connect() as connection:
            await connection.run(delete(workspace_keys).where(workspace_keys.c.workspace_id == tenant.id))

    assert await app.vault.open(made) == rows.VALUES

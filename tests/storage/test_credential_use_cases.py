"""The use cases of credentials where engines may differ: many at once, and the next call in another process."""

import asyncio
from typing import Any

from core.access import Viewer
from core.app import App
from core.credentials import (
    CredentialUpdate,
    NewCredential,
    activate_credential,
    create_credential,
    delete_credential,
    set_preferred_type,
    update_credential,
)
from core.entities import Credential, CredentialStatus
from core.errors import AlreadyExists, Conflict, ModelyardError
from core.model_types import ModelType
from core.model_types.llm import ProviderType
from core.resolve import Request, Route, resolve
from storage.credentials import unasked
from storage.resources import Resources, open_app
from tests.conftest import MovableClock
from tests.storage import rows


async def viewer_of(app: App, tenant: rows.Tenant) -> Viewer:
    viewer = (await app.identity.viewers([tenant.token.id]))[tenant.token.id]
    assert viewer is not None
    return viewer


def echo(prefix: str = "so", **more: Any) -> NewCredential:
    return NewCredential(provider="echo", values={"prefix": prefix}, **more)


async def test_fifty_creations_of_one_name_at_once_leave_one(app: App) -> None:
    tenant = await rows.tenant(app)
    viewer = await viewer_of(app, tenant)

    results = await asyncio.gather(
        *(create_credential(app, viewer, echo(name="same")) for _ in range(50)), return_exceptions=True
    )

    assert sum(isinstance(result, AlreadyExists) and result.path == ("name",) for result in results) == 49
    configuration = await app.configurations.get(tenant.id)
    (left,) = configuration.credentials.values()
    assert configuration.provider("echo").active_credential_id == left.id


async def test_creations_without_a_name_at_once_are_numbered(app: App) -> None:
    tenant = await rows.tenant(app)
    viewer = await viewer_of(app, tenant)

    await asyncio.gather(*(create_credential(app, viewer, echo()) for _ in range(20)))

    configuration = await app.configurations.get(tenant.id)
    names = {credential.name for credential in configuration.credentials.values()}
    assert names == {f"API key {number}" for number in range(1, 21)}


async def test_updates_at_once_of_one_version_leave_one(app: App) -> None:
    tenant = await rows.tenant(app)
    viewer = await viewer_of(app, tenant)
    _, made = await create_credential(app, viewer, echo())
    changes = [CredentialUpdate(values={"prefix": f"n{number}"}) for number in range(10)]

    results = await asyncio.gather(
        *(update_credential(app, viewer, tenant.id, made.id, change) for change in changes), return_exceptions=True
    )

    won = [result for result in results if not isinstance(result, BaseException)]
    assert all(isinstance(result, Conflict) for result in results if isinstance(result, BaseException))
    configuration = await app.configurations.get(tenant.id)
    assert configuration.credentials[made.id].version == 1 + len(won)
    opened = await app.vault.open(configuration.credentials[made.id])
    assert opened["prefix"] in {f"n{number}" for number in range(10)}


async def test_activations_at_once_leave_one_active(app: App) -> None:
    tenant = await rows.tenant(app)
    viewer = await viewer_of(app, tenant)
    made = [(await create_credential(app, viewer, echo()))[1] for _ in range(5)]

    await asyncio.gather(*(activate_credential(app, viewer, tenant.id, one.id) for one in made * 4))

    configuration = await app.configurations.get(tenant.id)
    assert configuration.provider("echo").active_credential_id in {one.id for one in made}
    assert set(configuration.providers) == {"echo"}


async def test_changes_and_validations_at_once_do_not_wait_for_each_other(app: App) -> None:
    tenant = await rows.tenant(app)
    viewer = await viewer_of(app, tenant)
    made = [(await create_credential(app, viewer, echo()))[1] for _ in range(10)]

    async def rename(credential: Credential) -> None:
        change = CredentialUpdate(name=f"{credential.name} renamed", is_renamed=True)
        await update_credential(app, viewer, tenant.id, credential.id, change)

    async def set_status(credential: Credential) -> None:
        is_set = True
        while is_set:
            async with app.storage.transaction() as tx:
                is_set = await tx.credentials.set_status(
                    tenant.id, credential.id, version=1, status=CredentialStatus.VALID, problem=None, validated_at=None
                )

    await asyncio.gather(*(work(one) for one in made for work in (set_status, rename)))

    configuration = await app.configurations.get(tenant.id)
    assert {one.version for one in configuration.credentials.values()} == {2}


async def test_a_change_is_effective_with_the_next_call_of_another_process(app: App) -> None:
    tenant = await rows.tenant(app)
    viewer = await viewer_of(app, tenant)
    _, made = await create_credential(app, viewer, echo("first"))
    async with open_app(app.settings) as other:
        before = await _call(other, tenant)
        await update_credential(app, viewer, tenant.id, made.id, CredentialUpdate(values={"prefix": "second"}))
        updated = await _call(other, tenant)
        _, spare = await create_credential(app, viewer, echo("spare"))
        await activate_credential(app, viewer, tenant.id, spare.id)
        deactivated = await _call(other, tenant)
        await delete_credential(app, viewer, tenant.id, spare.id)
        deleted = await _call(other, tenant)

    assert (before, updated, deactivated) == ("first", "second", "spare")
    assert deleted is None, "the built-in provider needs none"


async def test_a_preference_is_stored_beside_the_active_credential(app: App) -> None:
    tenant = await rows.tenant(app)
    viewer = await viewer_of(app, tenant)
    _, made = await create_credential(app, viewer, echo())

    chosen, _ = await set_preferred_type(app, viewer, tenant.id, "echo", ProviderType.CUSTOM)
    cleared, _ = await set_preferred_type(app, viewer, tenant.id, "echo", None)

    for configuration, preferred in ((chosen, ProviderType.CUSTOM), (cleared, None)):
        row = configuration.provider("echo")
        assert (row.preferred_type, row.active_credential_id) == (preferred, made.id)


async def test_what_nobody_asked_about_for_long_is_found_page_by_page(
    app: App, resources: Resources, clock: MovableClock
) -> None:
    tenant = await rows.tenant(app)
    since = clock.now()
    clock.advance(1)
    made = [await rows.credential(app, tenant.id, f"n{number}", validated_at=None) for number in range(3)]
    await rows.credential(app, tenant.id, "recent", validated_at=clock.now())

    async with resources.storage.connect() as connection:
        first = await unasked(connection, since, after=None, limit=2)
        rest = await unasked(connection, since, after=first[-1].credential_id, limit=2)

    assert [one.credential_id for one in (*first, *rest)] == [one.id for one in made]
    assert {(one.workspace_id, one.version) for one in (*first, *rest)} == {(tenant.id, 1)}


async def _call(app: App, tenant: rows.Tenant) -> str | ModelyardError | None:
    """Return the prefix that a call in this process would be made with, as one that begins now reads it."""
    viewer = await viewer_of(app, tenant)
    configuration = await app.configurations.get(tenant.id, viewer.memberships[tenant.id].version)
    asked = Request(type=ModelType.LLM, provider="echo", name="echo")
    route: Route = resolve(configuration, app.catalog, asked)
    if route.problem is not None:
        return route.problem
    credential = next(route.usable).credential
    if credential is None:
        return None
    value = (await app.vault.open(credential))["prefix"]
    assert isinstance(value, str)
    return value

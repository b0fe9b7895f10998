"""Keys change under what they seal: everything is sealed anew once, nothing is lost, and the old key goes."""

import asyncio
import base64
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import pytest
from sqlalchemy import select, update

from core import keys
from core.access import Membership, Role, Viewer
from core.app import App
from core.entities import Credential, KeyRotation
from core.errors import CredentialUnreadable, Forbidden, NotFound
from core.ids import uuid7
from core.keys import rotate_workspace_key, seal_anew
from core.secret import Secret
from core.settings import Settings
from storage.base import within
from storage.credentials import credentials
from storage.resources import Resources, open_resources
from storage.workspaces import workspace_keys
from tests.conftest import KEY, MovableClock
from tests.storage import rows
from tests.storage.rows import Tenant
from tests.waiting import LIMIT_S
from workers.main import make_worker, work_until
from workers.rewrap_keys import rewrap_keys

OTHER_KEY = base64.b64encode(bytes(range(7, 39))).decode()


def viewer(tenant: Tenant, role: Role = Role.OWNER) -> Viewer:
    membership = Membership(workspace_id=tenant.id, role=role, version=1)
    return Viewer(
        token_id=tenant.token.id,
        account_id=tenant.account.id,
        is_operator=False,
        workspace_id=None,
        token_role=role,
        memberships={tenant.id: membership},
        allowed_models=None,
        pinnable_credentials=frozenset(),
        expires_at=None,
    )


async def filled(app: App, count: int) -> tuple[Tenant, list[Credential]]:
    tenant = await rows.tenant(app)
    return tenant, [
        await rows.credential(app, tenant.id, f"c{number}", values={"api_key": Secret(f"sk-{number:020}")})
        for number in range(count)
    ]


async def stored(app: App, workspace_id: UUID) -> Sequence[Credential]:
    return list((await app.configurations.get(workspace_id)).credentials.values())


async def rotation(app: App, workspace_id: UUID) -> KeyRotation | None:
    async with app.storage.read() as tx:
        return (await tx.keys.rotations([workspace_id])).get(workspace_id)


async def versions(resources: Resources, workspace_id: UUID) -> list[int]:
    """Return the versions of the data keys that there are."""
    statement = select(workspace_keys.c.version).where(within(workspace_keys, workspace_id))
    async with resources.storage.connect() as connection:
        return sorted(row.version for row in await connection.rows(statement))


async def test_a_rotation_seals_all_anew_and_destroys_the_old_key(
    app: App, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "_GROUP", 2)
    tenant, before = await filled(app, 5)

    changed = await rotate_workspace_key(app, viewer(tenant), tenant.id)
    under_way = await rotation(app, tenant.id)
    fresh = await rows.credential(app, tenant.id, "written after the start")
    await resources.relay.sweep()
    await make_worker(resources, burst=True).async_run()

    assert changed.key_version == 2
    assert fresh.sealed.key_version == 2
    assert under_way is not None
    assert (under_way.from_version, under_way.to_version, under_way.resealed, under_way.total) == (1, 2, 0, 5)
    assert under_way.finished_at is None
    ended = await rotation(app, tenant.id)
    assert ended == replace(under_way, resealed=5, finished_at=app.clock.now())
    assert await versions(resources, tenant.id) == [2]
    now = await stored(app, tenant.id)
    assert {one.sealed.key_version for one in now} == {2}
    assert [one.version for one in now] == [1] * 6
    opened = {one.name: (await app.vault.open(one))["api_key"] for one in now if one.name != fresh.name}
    assert opened == {one.name: Secret(f"sk-{number:020}") for number, one in enumerate(before)}


async def test_a_worker_that_dies_in_the_middle_is_gone_on_with(
    app: App, resources: Resources, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "_GROUP", 2)
    tenant, _ = await filled(app, 5)
    await rotate_workspace_key(app, viewer(tenant), tenant.id)
    await resources.relay.sweep()
    seal_group, calls = keys._seal_group, iter(range(100))

    async def dies(*arguments: object) -> UUID | None:
        if next(calls) == 1:
            await asyncio.Event().wait()
        return await seal_group(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(keys, "_seal_group", dies)
    stop = asyncio.Event()
    dying = asyncio.create_task(work_until(make_worker(resources, burst=True), stop))
    while (found := await rotation(app, tenant.id)) is None or found.resealed < 2:
        await asyncio.sleep(0.01)
    monkeypatch.setattr(keys, "_seal_group", seal_group)

    clock.advance(31)
    await resources.relay.sweep()
    following = asyncio.create_task(work_until(make_worker(resources, burst=True), stop))
    async with asyncio.timeout(LIMIT_S):
        while (ended := await rotation(app, tenant.id)) is None or ended.finished_at is None:
            await asyncio.sleep(0.01)

    assert (ended.resealed, ended.finished_at) == (5, clock.now())
    assert await versions(resources, tenant.id) == [2]
    stop.set()
    await asyncio.gather(dying, following)


async def test_who_read_before_opens_after(app: App, resources: Resources, settings: Settings) -> None:
    tenant, (before,) = await filled(app, 1)
    async with open_resources(settings, kind="api", clock=app.clock) as other:
        read_before = (await other.app.configurations.get(tenant.id)).credentials[before.id]
        await rotate_workspace_key(app, viewer(tenant), tenant.id)
        await seal_anew(app, tenant.id)

        opened = await other.app.vault.open(read_before)

    assert await versions(resources, tenant.id) == [2]
    assert opened["api_key"] == Secret(f"sk-{0:020}")


async def test_a_change_in_the_middle_wins(app: App) -> None:
    tenant, (credential,) = await filled(app, 1)
    await rotate_workspace_key(app, viewer(tenant), tenant.id)

    async with app.storage.transaction() as tx:
        stale = await app.vault.seal(tx, tenant.id, credential.id, {"api_key": Secret("stale")})
        assert await tx.keys.reseal(replace(credential, version=7), stale) is False
        assert await tx.keys.reseal(credential, stale) is True
        assert await tx.keys.reseal(credential, stale) is False


async def test_what_cannot_be_opened_keeps_its_key_and_harms_nothing(app: App, resources: Resources) -> None:
    tenant, (broken, fine) = await filled(app, 2)
    async with resources.storage.connect() as connection:
        await connection.run(update(credentials).where(credentials.c.id == broken.id).values(sealed=b"x" * 40))

    await rotate_workspace_key(app, viewer(tenant), tenant.id)
    await seal_anew(app, tenant.id)

    ended = await rotation(app, tenant.id)
    assert ended is not None
    assert (ended.resealed, ended.total, ended.finished_at) == (1, 2, app.clock.now())
    assert await versions(resources, tenant.id) == [1, 2]
    now = {one.id: one for one in await stored(app, tenant.id)}
    assert (now[broken.id].sealed.key_version, now[fine.id].sealed.key_version) == (1, 2)
    with pytest.raises(CredentialUnreadable):
        await app.vault.open(now[broken.id])


async def test_a_rotation_under_way_is_joined_and_the_next_begins_after_it(app: App, resources: Resources) -> None:
    tenant, _ = await filled(app, 1)

    both = await asyncio.gather(*(rotate_workspace_key(app, viewer(tenant), tenant.id) for _ in range(5)))
    await seal_anew(app, tenant.id)
    after = await rotate_workspace_key(app, viewer(tenant), tenant.id)
    await seal_anew(app, tenant.id)
    await seal_anew(app, tenant.id)

    assert {one.key_version for one in both} == {2}
    assert after.key_version == 3
    assert await versions(resources, tenant.id) == [3]


async def test_only_who_manages_the_workspace_rotates(app: App) -> None:
    tenant, _ = await filled(app, 1)

    with pytest.raises(Forbidden):
        await rotate_workspace_key(app, viewer(tenant, Role.EDITOR), tenant.id)
    with pytest.raises(NotFound):
        await rotate_workspace_key(app, viewer(tenant), uuid7())
    await seal_anew(app, uuid7())

    assert await rotation(app, tenant.id) is None


async def test_data_keys_are_wrapped_anew_when_the_first_key_changes(
    app: App, resources: Resources, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    _, (credential,) = await filled(app, 1)
    both = replace(settings, encryption_keys=(Secret(OTHER_KEY), Secret(KEY)))
    only_new = replace(settings, encryption_keys=(Secret(OTHER_KEY),))

    async with open_resources(only_new, kind="worker", clock=app.clock) as too_early:
        assert await rewrap_keys(too_early) == 1
        with pytest.raises(CredentialUnreadable):
            await too_early.app.vault.open(credential)
    async with open_resources(both, kind="worker", clock=app.clock) as rolling:
        assert await rewrap_keys(rolling) == 0
        assert await rewrap_keys(rolling) == 0
    async with open_resources(only_new, kind="api", clock=app.clock) as later:
        opened = await later.app.vault.open(credential)

    assert opened["api_key"] == Secret(f"sk-{0:020}")
    assert "not at hand" in caplog.text
    assert OTHER_KEY not in caplog.text

"""Who a secret stands for: every kind of token, and every way in which it stops."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import delete, update

from core.access import Membership, Role
from core.app import App
from core.model_types import ModelKey, ModelType
from core.secret import hash_secret
from storage.accounts import accounts
from storage.members import members
from storage.resources import Resources
from tests.conftest import MovableClock
from tests.storage import rows


async def test_a_personal_token_stands_for_its_account_in_each_of_its_workspaces(app: App) -> None:
    tenant = await rows.tenant(app)
    other = await rows.tenant(app, "other")
    async with app.storage.transaction() as tx:
        await tx.members.insert(rows.member(other.id, tenant.account.id, Role.EDITOR))

    viewer = await app.identity.viewer(hash_secret(tenant.secret.reveal()))

    assert viewer is not None
    assert (viewer.token_id, viewer.account_id, viewer.workspace_id) == (tenant.token.id, tenant.account.id, None)
    assert viewer.is_operator is False
    assert viewer.memberships == {
        tenant.id: Membership(workspace_id=tenant.id, role=Role.OWNER, version=1),
        other.id: Membership(workspace_id=other.id, role=Role.EDITOR, version=1),
    }


@pytest.mark.parametrize(
    ("token_role", "member_role", "role"),
    [
        (Role.EDITOR, Role.OWNER, Role.EDITOR),
        (Role.OWNER, Role.MEMBER, Role.MEMBER),
        (Role.ADMIN, Role.ADMIN, Role.ADMIN),
    ],
)
async def test_a_token_has_the_lower_of_its_role_and_its_accounts(
    app: App, token_role: Role, member_role: Role, role: Role
) -> None:
    tenant = await rows.tenant(app)
    person = rows.account("bob")
    async with app.storage.transaction() as tx:
        await tx.accounts.insert(person)
        await tx.members.insert(rows.member(tenant.id, person.id, member_role))
    for workspace_id in (None, tenant.id):
        secret = await rows.insert_token(
            app, rows.token(account_id=person.id, role=token_role, workspace_id=workspace_id)
        )

        viewer = await app.identity.viewer(secret)

        assert viewer is not None
        assert viewer.memberships[tenant.id].role is role
        assert viewer.token_role is token_role


async def test_a_workspaces_token_stands_in_that_workspace_alone(app: App) -> None:
    tenant = await rows.tenant(app, is_operator=True)
    other = await rows.tenant(app, "other")
    async with app.storage.transaction() as tx:
        await tx.members.insert(rows.member(other.id, tenant.account.id, Role.OWNER))
    allowed, pinnable = ModelKey(provider="openai", name="gpt-4o", type=ModelType.LLM), tenant.token.id
    secret = await rows.insert_token(
        app,
        rows.token(
            account_id=tenant.account.id, workspace_id=tenant.id, allowed_models=(allowed,), credential_ids=(pinnable,)
        ),
    )

    viewer = await app.identity.viewer(secret)

    assert viewer is not None
    assert list(viewer.memberships) == [tenant.id]
    assert viewer.workspace_id == tenant.id
    assert viewer.is_operator is False
    assert viewer.allowed_models == frozenset({allowed})
    assert viewer.pinnable_credentials == frozenset({pinnable})


async def test_a_service_token_stands_for_no_person(app: App) -> None:
    tenant = await rows.tenant(app)
    service = rows.token(workspace_id=tenant.id, role=Role.EDITOR, created_by=tenant.account.id)
    secret = await rows.insert_token(app, service)

    viewer = await app.identity.viewer(secret)

    assert viewer is not None
    assert (viewer.account_id, viewer.principal) == (None, service.id)
    assert viewer.memberships == {tenant.id: Membership(workspace_id=tenant.id, role=Role.EDITOR, version=1)}


async def test_operator_power_comes_with_a_personal_token_alone(app: App) -> None:
    operator = await rows.tenant(app, is_operator=True)
    in_workspace = await rows.insert_token(app, rows.token(account_id=operator.account.id, workspace_id=operator.id))

    personal = await app.identity.viewer(hash_secret(operator.secret.reveal()))
    of_workspace = await app.identity.viewer(in_workspace)

    assert personal is not None
    assert personal.is_operator
    assert of_workspace is not None
    assert not of_workspace.is_operator


async def test_an_unknown_secret_stands_for_nobody(app: App) -> None:
    assert await app.identity.viewer(hash_secret("my_unknown")) is None


async def test_an_expired_token_stands_for_nobody_from_its_moment_on(app: App, clock: MovableClock) -> None:
    tenant = await rows.tenant(app)
    token = rows.token(account_id=tenant.account.id, expires_at=clock.now() + timedelta(seconds=60))
    secret = await rows.insert_token(app, token)

    clock.advance(59)
    before = await app.identity.viewer(secret)
    clock.advance(1)

    assert before is not None
    assert await app.identity.viewer(secret) is None
    assert await app.identity.viewers([token.id]) == {token.id: None}


async def test_a_revoked_token_stands_for_nobody(app: App, clock: MovableClock) -> None:
    tenant = await rows.tenant(app)
    async with app.storage.transaction() as tx:
        await tx.tokens.revoke(tenant.token.id, clock.now())
        clock.advance(5)
        await tx.tokens.revoke(tenant.token.id, clock.now())

    async with app.storage.read() as tx:
        revoked = await tx.tokens.get(tenant.token.id)
    assert revoked is not None
    assert revoked.revoked_at == clock.now() - timedelta(seconds=5)
    assert await app.identity.viewer(hash_secret(tenant.secret.reveal())) is None
    assert await app.identity.viewers([tenant.token.id]) == {tenant.token.id: None}


async def test_a_removed_members_tokens_stop_there_and_only_there(app: App, resources: Resources) -> None:
    tenant = await rows.tenant(app)
    other = await rows.tenant(app, "other")
    bearer = rows.token(account_id=tenant.account.id, workspace_id=other.id)
    secret = await rows.insert_token(app, bearer)
    async with app.storage.transaction() as tx:
        await tx.members.insert(rows.member(other.id, tenant.account.id, Role.OWNER))
    assert await app.identity.viewer(secret) is not None

    async with resources.storage.connect() as connection:
        await connection.run(
            delete(members).where(members.c.workspace_id == other.id, members.c.account_id == tenant.account.id)
        )

    assert await app.identity.viewer(secret) is None
    personal = await app.identity.viewer(hash_secret(tenant.secret.reveal()))
    assert personal is not None
    assert list(personal.memberships) == [tenant.id]


async def test_an_account_that_goes_takes_its_tokens_along_but_not_the_service_tokens_it_made(
    app: App, resources: Resources
) -> None:
    tenant = await rows.tenant(app)
    service = await rows.insert_token(app, rows.token(workspace_id=tenant.id, created_by=tenant.account.id))

    async with resources.storage.connect() as connection:
        await connection.run(delete(accounts).where(accounts.c.id == tenant.account.id))

    assert await app.identity.viewer(hash_secret(tenant.secret.reveal())) is None
    assert await app.identity.viewer(service) is not None


async def test_a_changed_role_and_a_raised_version_are_seen_by_the_next_read(app: App, resources: Resources) -> None:
    tenant = await rows.tenant(app)
    async with resources.storage.connect() as connection:
        await connection.run(update(members).where(members.c.workspace_id == tenant.id).values(role="MEMBER"))
    async with app.storage.transaction() as tx:
        await tx.workspaces.touch(tenant.id)

    viewer = await app.identity.viewer(hash_secret(tenant.secret.reveal()))

    assert viewer is not None
    assert viewer.memberships[tenant.id] == Membership(workspace_id=tenant.id, role=Role.MEMBER, version=2)


async def test_many_askers_at_once_each_get_their_own_viewer(app: App) -> None:
    tenants = [await rows.tenant(app, f"w{number}") for number in range(5)]
    asked = [tenants[number % 5] for number in range(100)]

    found = await asyncio.gather(*(app.identity.viewer(hash_secret(one.secret.reveal())) for one in asked))

    assert [viewer.account_id for viewer in found if viewer] == [one.account.id for one in asked]

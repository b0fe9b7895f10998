"""The rules of members under concurrency, and in a second process: on both engines."""

import asyncio
from uuid import UUID

import pytest

from core.access import Membership, Role, Viewer
from core.app import App
from core.entities import Account, ApiToken, Member
from core.errors import Conflict, ModelyardError
from core.members import Acceptance, NewMember, accept_invitation, add_member, remove_member, update_member
from core.ports.paging import PageRequest
from core.secret import Secret
from core.settings import Settings
from storage.resources import open_resources
from tests import make
from tests.conftest import MovableClock
from tests.storage import rows

OWNERS = 50


@pytest.mark.parametrize("way", ["demotions", "removals", "both"])
async def test_of_fifty_owners_who_end_each_other_at_once_one_stays(app: App, way: str) -> None:
    tenant = await rows.tenant(app)
    owners = await _owners(app, tenant.id)

    async def end(number: int) -> None:
        """Let each owner end themselves, or the next one."""
        is_removal = way == "removals" or (way == "both" and number % 2 == 0)
        target = owners[(number + 1) % OWNERS] if way == "both" else owners[number]
        viewer = _owner(tenant.id, owners[number].account_id)
        if is_removal:
            await remove_member(app, viewer, target.id)
        else:
            await update_member(app, viewer, target.id, Role.ADMIN)

    await remove_member(app, _owner(tenant.id, tenant.account.id), await _place(app, tenant.id, tenant.account.id))
    results = await asyncio.gather(*map(end, range(OWNERS)), return_exceptions=True)

    refused = [result for result in results if result is not None]
    assert [type(one) for one in refused] == [Conflict]
    assert await _count(app, tenant.id, Role.OWNER) == 1


async def test_of_fifty_acceptances_of_an_invitation_one_joins(app: App) -> None:
    tenant = await rows.tenant(app)
    new = NewMember(workspace_id=tenant.id, email="ada@example.com", name=None, role=Role.EDITOR)
    invitation = (await add_member(app, _owner(tenant.id, tenant.account.id), new)).reveal()
    given = Acceptance(invitation=invitation, name=None, token_name=None)

    async def accept() -> tuple[ApiToken, Secret] | ModelyardError:
        try:
            return await accept_invitation(app, None, given)
        except ModelyardError as error:
            return error

    results = await asyncio.gather(*(accept() for _ in range(50)))

    assert sum(isinstance(one, tuple) for one in results) == 1
    assert {type(one) for one in results if not isinstance(one, tuple)} == {Conflict}
    assert await _count(app, tenant.id, Role.EDITOR) == 1


async def test_one_new_address_that_two_workspaces_invite_becomes_one_account(app: App) -> None:
    invitations = []
    for name in ("one", "two"):
        tenant = await rows.tenant(app, name)
        new = NewMember(workspace_id=tenant.id, email="ada@example.com", name=None, role=Role.MEMBER)
        invitations.append((await add_member(app, _owner(tenant.id, tenant.account.id), new)).reveal())

    results = await asyncio.gather(
        *(accept_invitation(app, None, Acceptance(invitation=one, name=None, token_name=None)) for one in invitations),
        return_exceptions=True,
    )

    joined = [one for one in results if isinstance(one, tuple)]
    assert len(joined) == 1
    assert all(isinstance(one, tuple | ModelyardError) for one in results)
    account_id = joined[0][0].account_id
    assert account_id is not None
    async with app.storage.read() as tx:
        places = await tx.members.of_accounts([account_id])
    assert len(places[account_id]) == 1


async def test_a_long_address_names_an_account_that_fits(app: App) -> None:
    tenant = await rows.tenant(app)
    email = "x" * 308 + "@example.com"
    new = NewMember(workspace_id=tenant.id, email=email, name=None, role=Role.MEMBER)
    invitation = await add_member(app, _owner(tenant.id, tenant.account.id), new)

    token, _ = await accept_invitation(
        app, None, Acceptance(invitation=invitation.reveal(), name=None, token_name=None)
    )

    assert token.account_id is not None
    async with app.storage.read() as tx:
        account = (await tx.accounts.get_many([token.account_id]))[token.account_id]
    assert (account.email, account.name) == (email, "x" * 100)


async def test_a_removed_members_tokens_stop_at_once_in_every_process(
    app: App, settings: Settings, clock: MovableClock
) -> None:
    tenant = await rows.tenant(app)
    person = await _person(app, "bob")
    place = await _join(app, tenant.id, person, Role.EDITOR)
    hashes = [
        await rows.insert_token(app, rows.token(account_id=person.id, role=Role.EDITOR, workspace_id=workspace_id))
        for workspace_id in (None, tenant.id)
    ]
    async with open_resources(settings, kind="api", clock=clock) as other:
        before = [await other.app.identity.viewer(one) for one in hashes]
        await remove_member(app, _owner(tenant.id, tenant.account.id), place.id)
        personal, of_workspace = [await other.app.identity.viewer(one) for one in hashes]

    assert all(one is not None and tenant.id in one.memberships for one in before)
    assert personal is not None
    assert personal.memberships == {}
    assert of_workspace is None


async def test_a_refused_acceptance_leaves_no_trace(app: App) -> None:
    tenant = await rows.tenant(app)
    other = await rows.tenant(app, "other")
    invitation = await add_member(
        app,
        _owner(other.id, other.account.id),
        NewMember(workspace_id=other.id, email=tenant.account.email, name=None, role=Role.EDITOR),
    )
    given = Acceptance(invitation=invitation.reveal(), name=None, token_name=None)

    with pytest.raises(ModelyardError, match="account already"):
        await accept_invitation(app, None, given)
    token, _ = await accept_invitation(app, _owner(tenant.id, tenant.account.id), given)

    assert token.account_id == tenant.account.id


def _owner(workspace_id: UUID, account_id: UUID) -> Viewer:
    membership = Membership(workspace_id=workspace_id, role=Role.OWNER, version=1)
    return make.viewer(account_id=account_id, memberships={workspace_id: membership})


async def _owners(app: App, workspace_id: UUID) -> list[Member]:
    return [
        await _join(app, workspace_id, await _person(app, f"owner{number}"), Role.OWNER) for number in range(OWNERS)
    ]


async def _person(app: App, name: str) -> Account:
    person = rows.account(name)
    async with app.storage.transaction() as tx:
        await tx.accounts.insert(person)
    return person


async def _join(app: App, workspace_id: UUID, person: Account, role: Role) -> Member:
    member = rows.member(workspace_id, person.id, role)
    async with app.storage.transaction() as tx:
        await tx.members.insert(member)
    return member


async def _place(app: App, workspace_id: UUID, account_id: UUID) -> UUID:
    async with app.storage.read() as tx:
        found = await tx.members.find(workspace_id, account_id)
    assert found is not None
    return found.id


async def _count(app: App, workspace_id: UUID, role: Role) -> int:
    async with app.storage.read() as tx:
        found = await tx.members.page(workspace_id, PageRequest(limit=1), role=role.value)
    assert found.total is not None
    return found.total

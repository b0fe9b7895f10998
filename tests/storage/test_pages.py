"""Lists of workspaces, members and tokens: order, filters, and whose they are."""

import pytest

from core.access import Role
from core.app import App
from core.entities import Account
from core.errors import AlreadyExists
from core.ids import uuid7
from core.ports.paging import PageRequest
from tests.conftest import MovableClock
from tests.storage import rows

ALL = PageRequest(limit=100)


async def test_workspaces_are_listed_among_the_viewers_and_found_by_name_or_slug(app: App) -> None:
    one, two = await rows.tenant(app, "blue_team"), await rows.tenant(app, "blueXteam")
    await rows.tenant(app, "hidden_blue")

    async with app.storage.read() as tx:
        mine = await tx.workspaces.page(ALL, among=[one.id, two.id], search=None)
        found = await tx.workspaces.page(ALL, among=[one.id, two.id], search="BLUE_")
        every = await tx.workspaces.page(ALL, among=None, search="blue")
        none = await tx.workspaces.page(ALL, among=[], search=None)
        by_slug = await tx.workspaces.by_slug(two.workspace.slug)

    assert [place.id for place in mine.items] == [one.id, two.id]
    assert [place.id for place in found.items] == [one.id], "an underscore is no wildcard"
    assert (every.total, none.total) == (3, 0)
    assert by_slug == two.workspace


async def test_a_slug_an_email_and_a_membership_are_unique(app: App) -> None:
    tenant = await rows.tenant(app)
    upper = Account(
        id=rows.account().id,
        name="x",
        email=tenant.account.email.upper(),
        is_operator=False,
        created_at=tenant.account.created_at,
    )

    with pytest.raises(AlreadyExists):
        async with app.storage.transaction() as tx:
            await tx.accounts.insert(upper)
    with pytest.raises(AlreadyExists):
        async with app.storage.transaction() as tx:
            await tx.workspaces.insert(rows.workspace(slug=tenant.workspace.slug))
    with pytest.raises(AlreadyExists):
        async with app.storage.transaction() as tx:
            await tx.members.insert(rows.member(tenant.id, tenant.account.id, Role.MEMBER))

    async with app.storage.read() as tx:
        assert (await tx.workspaces.page(ALL, among=None, search=None)).total == 1
        assert (await tx.members.page(tenant.id, ALL, role=None)).total == 1
        assert await tx.accounts.get_many([upper.id, tenant.account.id]) == {tenant.account.id: tenant.account}


async def test_members_are_listed_by_role_and_by_account(app: App) -> None:
    tenant, other = await rows.tenant(app), await rows.tenant(app, "other")
    joined = rows.member(other.id, tenant.account.id, Role.EDITOR)
    async with app.storage.transaction() as tx:
        await tx.members.insert(joined)

    async with app.storage.read() as tx:
        editors = await tx.members.page(other.id, ALL, role="EDITOR")
        everyone = await tx.members.page(other.id, ALL, role=None)
        mine = (await tx.members.of_accounts([tenant.account.id]))[tenant.account.id]
        found = (await tx.members.get_many([joined.id])).get(joined.id)

    assert list(editors.items) == [joined]
    assert everyone.total == 2
    assert [place.workspace_id for place in mine] == [tenant.id, other.id]
    assert found == joined


async def test_tokens_are_listed_newest_first_without_the_revoked_unless_asked(app: App, clock: MovableClock) -> None:
    tenant, other = await rows.tenant(app), await rows.tenant(app, "other")
    made = [
        rows.token(id=uuid7(1_700_000_000_000 + number), workspace_id=tenant.id, name=name)
        for number, name in enumerate(("first", "second", "third"))
    ]
    for bearer in (*made, rows.token(workspace_id=other.id)):
        await rows.insert_token(app, bearer)
    async with app.storage.transaction() as tx:
        await tx.tokens.revoke(made[1].id, clock.now())

    async with app.storage.read() as tx:
        live = await tx.tokens.page(ALL, workspace_id=tenant.id, account_id=None, include_revoked=False)
        every = await tx.tokens.page(ALL, workspace_id=tenant.id, account_id=None, include_revoked=True)

    assert [bearer.name for bearer in live.items] == ["third", "first"]
    assert [bearer.name for bearer in every.items] == ["third", "second", "first"]

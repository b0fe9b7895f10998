"""The team page of a workspace in one query: its SQL statements do not grow with the team."""

import pytest

from core.access import Role
from core.entities import Account, ApiToken, Member
from core.ids import uuid7
from core.secret import hash_secret, new_secret
from graph import ids
from tests.graph.test_members import UPDATE
from tests.graph.test_settings_page import counted
from tests.graph.world import World

PAGE = """{ workspace { name viewerRole viewerPermissions
  members(first: 100) { totalCount nodes { id role account { name email memberships { role workspace { slug } } } } }
  apiTokens(first: 100) { totalCount nodes { id name account { name } createdBy { name } workspace { slug } } }
  auditLog(first: 100) { totalCount nodes { action summary actor { name } token { name } } } } }"""


@pytest.mark.parametrize("people", [5, 30])
async def test_the_team_page_takes_as_many_statements_at_any_size(world: World, people: int) -> None:
    await _fill(world, people)

    with counted() as statements:
        page = (await world.data("owner", PAGE))["workspace"]

    assert page["members"]["totalCount"] == people + 4
    assert page["apiTokens"]["totalCount"] == people + 1
    assert page["auditLog"]["totalCount"] == people
    assert len(page["members"]["nodes"]) == people + 4
    assert len(statements) <= 15, statements


async def _fill(world: World, people: int) -> None:
    now, members = world.app.clock.now(), []
    async with world.app.storage.transaction() as tx:
        for number in range(people):
            person = Account(id=uuid7(), name=f"p{number}", email=f"p{number}@test", is_operator=False, created_at=now)
            member = Member(
                id=uuid7(), workspace_id=world.home.id, account_id=person.id, role=Role.MEMBER, created_at=now
            )
            await tx.accounts.insert(person)
            await tx.members.insert(member)
            secret = new_secret().reveal()
            token = ApiToken(
                id=uuid7(),
                name="app",
                prefix=secret[:9],
                role=Role.MEMBER,
                workspace_id=world.home.id,
                account_id=person.id,
                allowed_models=None,
                credential_ids=None,
                expires_at=None,
                last_used_at=None,
                revoked_at=None,
                created_at=now,
                created_by=person.id,
            )
            await tx.tokens.insert(token, hash_secret(secret))
            members.append(ids.encode("Member", member.id))
    for member_id in members:
        await world.change("owner", UPDATE, id=member_id, role="EDITOR")

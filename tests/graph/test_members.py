"""Members: invited, joined, given another role, removed."""

from dataclasses import replace
from typing import Any

import pytest

from core.access import Role
from core.entities import Member
from core.ids import uuid7
from core.members import VALID_FOR
from core.ports.paging import PageRequest
from core.secret import hash_secret
from graph import ids
from tests.conftest import MovableClock
from tests.graph.world import World, codes

INVITE = """mutation ($input: AddMemberInput!) { addMember(input: $input) {
  member { id } invitation errors { code message path } } }"""
ACCEPT = """mutation ($input: AcceptInvitationInput!) { acceptInvitation(input: $input) {
  apiToken { id name role workspace { slug } account { name email memberships { role workspace { slug } } } }
  secret errors { code message path } } }"""
UPDATE = """mutation ($input: UpdateMemberInput!) { updateMember(input: $input) {
  member { id role account { name } } errors { code message path } } }"""
REMOVE = """mutation ($input: RemoveMemberInput!) { removeMember(input: $input) {
  deletedId errors { code message path } } }"""
TOKEN = """mutation ($input: CreateApiTokenInput!) { createApiToken(input: $input) {
  apiToken { id } secret errors { code } } }"""


async def member_id(world: World, name: str) -> str:
    async with world.app.storage.read() as tx:
        found = await tx.members.find(world.home.id, world.accounts[name])
    assert found is not None
    return ids.encode("Member", found.id)


async def roles(world: World) -> dict[str, Role]:
    """Return the members of `home` with their roles."""
    async with world.app.storage.read() as tx:
        members = (await tx.members.page(world.home.id, PageRequest(limit=100), role=None)).items
        people = await tx.accounts.get_many([member.account_id for member in members])
    return {people[member.account_id].name: member.role for member in members}


UNCHANGED = {"owner": Role.OWNER, "admin": Role.ADMIN, "editor": Role.EDITOR, "member": Role.MEMBER}


# ---- joining


async def test_a_person_without_an_account_joins_by_an_invitation(world: World) -> None:
    invited = await world.change("admin", INVITE, email=" Ada@Test ", name="Ada", role="EDITOR")
    before = await roles(world)

    joined = await world.change("anonymous", ACCEPT, invitation=invited["invitation"], tokenName="laptop")

    assert (invited["member"], before) == (None, UNCHANGED)
    assert joined["apiToken"] | {"id": "", "role": ""} == {
        "id": "",
        "name": "laptop",
        "role": "",
        "workspace": None,
        "account": {
            "name": "Ada",
            "email": "ada@test",
            "memberships": [{"role": "EDITOR", "workspace": {"slug": "home"}}],
        },
    }
    viewer = await world.app.identity.viewer(hash_secret(joined["secret"]))
    assert viewer is not None
    assert viewer.memberships[world.home.id].role is Role.EDITOR
    assert viewer.is_operator is False


async def test_an_invitation_serves_once(world: World) -> None:
    invited = await world.change("owner", INVITE, email="new@test", role="MEMBER")
    await world.change("anonymous", ACCEPT, invitation=invited["invitation"])

    error = await world.refused("anonymous", ACCEPT, invitation=invited["invitation"])

    assert (error["code"], error["path"]) == ("CONFLICT", ["invitation"])
    assert "used" in error["message"]
    assert len(await roles(world)) == 5


async def test_an_invitation_is_over_after_seven_days(world: World, clock: MovableClock) -> None:
    world = replace(world, app=replace(world.app, clock=clock))
    first = await world.change("owner", INVITE, email="new@test", role="MEMBER")
    second = await world.change("owner", INVITE, email="other@test", role="MEMBER")

    clock.advance(VALID_FOR.total_seconds() - 1)
    await world.change("anonymous", ACCEPT, invitation=first["invitation"])
    clock.advance(1)
    error = await world.refused("anonymous", ACCEPT, invitation=second["invitation"])

    assert (error["code"], error["path"]) == ("CONFLICT", ["invitation"])
    assert "7 days" in error["message"]
    assert set(await roles(world)) == {*UNCHANGED, "new"}


async def test_a_newer_invitation_ends_the_one_before(world: World) -> None:
    old = await world.change("owner", INVITE, email="new@test", role="ADMIN")
    new = await world.change("owner", INVITE, email="NEW@test", role="MEMBER")

    error = await world.refused("anonymous", ACCEPT, invitation=old["invitation"])
    await world.change("anonymous", ACCEPT, invitation=new["invitation"])

    assert error["code"] == "NOT_FOUND"
    assert await roles(world) == UNCHANGED | {"new": Role.MEMBER}


@pytest.mark.parametrize("invitation", ["", "inv_unknown", "\u00ff", "my_"])
async def test_what_is_no_invitation_is_not_found(world: World, invitation: str) -> None:
    error = await world.refused("anonymous", ACCEPT, invitation=invitation)

    assert (error["code"], error["path"]) == ("NOT_FOUND", ["invitation"])
    assert await roles(world) == UNCHANGED


async def test_nobody_takes_over_an_account_by_inviting_it(world: World) -> None:
    """The owner of `home` invites the stranger and tries to accept for them."""
    invited = await world.change("owner", INVITE, email="stranger@test", role="EDITOR")

    refused = [
        await world.refused(who, ACCEPT, invitation=invited["invitation"]) for who in ("anonymous", "owner", "service")
    ]
    joined = await world.change("stranger", ACCEPT, invitation=invited["invitation"])

    assert {error["code"] for error in refused} == {"FORBIDDEN"}
    account = joined["apiToken"]["account"]
    assert account["email"] == "stranger@test"
    assert {one["workspace"]["slug"]: one["role"] for one in account["memberships"]} == {
        "away": "OWNER",
        "home": "EDITOR",
    }


async def test_a_token_of_a_workspace_accepts_for_nobody(world: World) -> None:
    invited = await world.change("owner", INVITE, email="stranger@test", role="EDITOR")
    limited = await world.change(
        "stranger", TOKEN, workspaceId=ids.encode("Workspace", world.away.id), name="app", role="MEMBER"
    )
    world.know("app", limited["secret"])

    error = await world.refused("app", ACCEPT, invitation=invited["invitation"])

    assert error["code"] == "FORBIDDEN"
    assert await roles(world) == UNCHANGED


async def test_a_token_that_is_limited_to_some_models_invites_nobody(world: World) -> None:
    """Who accepts gets a token of their own, which may call every model."""
    models = [{"provider": "echo", "name": "echo", "type": "LLM"}]
    limited = await world.change("owner", TOKEN, name="narrow", role="OWNER", allowedModels=models)
    world.know("narrow", limited["secret"])

    error = await world.refused("narrow", INVITE, email="new@test", role="MEMBER")

    assert (error["code"], "limited to some models" in error["message"]) == ("FORBIDDEN", True)
    assert (await world.data("owner", LISTED))["workspace"]["invitations"]["totalCount"] == 0


async def test_a_limited_token_joins_without_growing(world: World) -> None:
    invited = await world.change("owner", INVITE, email="stranger@test", role="ADMIN")
    limited = await world.change("stranger", TOKEN, name="reader", role="MEMBER")
    world.know("reader", limited["secret"])

    joined = await world.change("reader", ACCEPT, invitation=invited["invitation"])

    assert joined["apiToken"]["role"] == "MEMBER"
    viewer = await world.app.identity.viewer(hash_secret(joined["secret"]))
    assert viewer is not None
    assert {one.role for one in viewer.memberships.values()} == {Role.MEMBER}
    assert (await roles(world))["stranger"] is Role.ADMIN


@pytest.mark.parametrize("end", ["demoted", "removed"])
async def test_an_invitation_ends_with_the_power_to_give_it(world: World, end: str) -> None:
    invited = await world.change("admin", INVITE, email="backdoor@test", role="ADMIN")
    admin = await member_id(world, "admin")
    if end == "demoted":
        await world.change("owner", UPDATE, id=admin, role="EDITOR")
    else:
        await world.change("owner", REMOVE, id=admin)

    error = await world.refused("anonymous", ACCEPT, invitation=invited["invitation"])

    assert error["code"] == "CONFLICT"
    assert "backdoor" not in await roles(world)


async def test_a_service_token_invites_while_it_lives(world: World) -> None:
    made = await world.change(
        "owner", TOKEN, workspaceId=ids.encode("Workspace", world.home.id), service=True, name="hr", role="ADMIN"
    )
    world.know("hr", made["secret"])
    first = await world.change("hr", INVITE, email="first@test", role="MEMBER")
    second = await world.change("hr", INVITE, email="second@test", role="MEMBER")

    await world.change("anonymous", ACCEPT, invitation=first["invitation"])
    await world.change("owner", REVOKE, id=made["apiToken"]["id"])
    error = await world.refused("anonymous", ACCEPT, invitation=second["invitation"])

    assert error["code"] == "CONFLICT"
    assert set(await roles(world)) == {*UNCHANGED, "first"}


REVOKE = "mutation ($input: RevokeApiTokenInput!) { revokeApiToken(input: $input) { apiToken { id } errors { code } } }"


@pytest.mark.parametrize(
    ("who", "given", "code", "path"),
    [
        ("admin", {"role": "OWNER"}, "FORBIDDEN", []),
        ("owner", {"email": "nobody"}, "INVALID_INPUT", ["email"]),
        ("owner", {"email": "a b@test"}, "INVALID_INPUT", ["email"]),
        ("owner", {"email": "@"}, "INVALID_INPUT", ["email"]),
        ("owner", {"email": "x" * 316 + "@test"}, "INVALID_INPUT", ["email"]),
        ("owner", {"name": " "}, "INVALID_INPUT", ["name"]),
        ("owner", {"name": "x" * 101}, "INVALID_INPUT", ["name"]),
        ("owner", {"email": "Member@Test"}, "ALREADY_EXISTS", ["email"]),
        ("editor", {}, "FORBIDDEN", []),
        ("stranger", {}, "NOT_FOUND", []),
        ("operator", {}, "FORBIDDEN", []),
    ],
)  # fmt: skip
async def test_a_wrong_invitation_invites_nobody(
    world: World, who: str, given: dict[str, Any], code: str, path: list[str]
) -> None:
    good = {"workspaceId": ids.encode("Workspace", world.home.id), "email": "new@test", "role": "MEMBER"}

    error = await world.refused(who, INVITE, **good | given)

    assert (error["code"], error["path"]) == (code, path)


@pytest.mark.parametrize(("given", "path"), [({"name": ""}, ["name"]), ({"tokenName": "x" * 65}, ["tokenName"])])
async def test_a_wrong_acceptance_leaves_the_invitation_good(
    world: World, given: dict[str, Any], path: list[str]
) -> None:
    invited = await world.change("owner", INVITE, email="new@test", role="MEMBER")

    error = await world.refused("anonymous", ACCEPT, invitation=invited["invitation"], **given)
    joined = await world.change("anonymous", ACCEPT, invitation=invited["invitation"])

    assert (error["code"], error["path"]) == ("INVALID_INPUT", path)
    assert joined["apiToken"]["account"]["name"] == "new"


LISTED = "{ workspace { invitations { totalCount nodes { id email name role invitedBy { name } } } } }"
TAKE_BACK = """mutation ($input: RevokeInvitationInput!) { revokeInvitation(input: $input) {
  deletedId errors { code path } } }"""


async def listed(world: World) -> list[Any]:
    return list((await world.data("admin", LISTED))["workspace"]["invitations"]["nodes"])


async def test_those_who_have_not_accepted_are_listed(world: World) -> None:
    for name in ("first", "second", "third"):
        invited = await world.change("owner", INVITE, email=f"{name}@test", name=name, role="EDITOR")
    await world.change("anonymous", ACCEPT, invitation=invited["invitation"])

    found = await listed(world)

    assert [one | {"id": ""} for one in found] == [
        {"id": "", "email": f"{name}@test", "name": name, "role": "EDITOR", "invitedBy": {"name": "owner"}}
        for name in ("second", "first")
    ]


async def test_an_invitation_that_is_taken_back_serves_nobody(world: World) -> None:
    invited = await world.change("owner", INVITE, email="new@test", role="MEMBER")
    (waiting,) = await listed(world)

    taken = await world.change("admin", TAKE_BACK, id=waiting["id"])
    error = await world.refused("anonymous", ACCEPT, invitation=invited["invitation"])
    again = await world.refused("admin", TAKE_BACK, id=waiting["id"])

    assert taken["deletedId"] == waiting["id"]
    assert await listed(world) == []
    assert (error["code"], again["code"], again["path"]) == ("NOT_FOUND", "NOT_FOUND", ["id"])


async def test_an_invitation_that_was_accepted_or_is_above_ones_own_role_stays(world: World) -> None:
    invited = await world.change("owner", INVITE, email="new@test", role="MEMBER")
    (accepted,) = await listed(world)
    await world.change("anonymous", ACCEPT, invitation=invited["invitation"])
    await world.change("owner", INVITE, email="boss@test", role="OWNER")
    (above,) = await listed(world)

    late = await world.refused("owner", TAKE_BACK, id=accepted["id"])
    weak = await world.refused("admin", TAKE_BACK, id=above["id"])

    assert (late["code"], late["path"]) == ("CONFLICT", ["id"])
    assert weak["code"] == "FORBIDDEN"
    assert await listed(world) == [above]


# ---- roles


async def test_a_new_role_is_effective_with_the_next_request(world: World) -> None:
    changed = await world.change("owner", UPDATE, id=await member_id(world, "member"), role="ADMIN")
    tokens = await world.data("member", "{ workspace { viewerRole apiTokens { totalCount } } }")

    assert (changed["member"]["role"], changed["member"]["account"]) == ("ADMIN", {"name": "member"})
    assert tokens["workspace"]["viewerRole"] == "ADMIN"


@pytest.mark.parametrize(
    ("who", "whom", "role", "code"),
    [
        ("admin", "owner", "MEMBER", "FORBIDDEN"),
        ("admin", "admin", "OWNER", "FORBIDDEN"),
        ("admin", "editor", "OWNER", "FORBIDDEN"),
        ("editor", "member", "EDITOR", "FORBIDDEN"),
        ("member", "member", "EDITOR", "FORBIDDEN"),
        ("service", "member", "EDITOR", "FORBIDDEN"),
        ("operator", "member", "EDITOR", "FORBIDDEN"),
        ("stranger", "member", "EDITOR", "NOT_FOUND"),
        ("owner", "owner", "ADMIN", "CONFLICT"),
    ],
)
async def test_a_role_that_one_may_not_give_changes_nothing(
    world: World, who: str, whom: str, role: str, code: str
) -> None:
    error = await world.refused(who, UPDATE, id=await member_id(world, whom), role=role)

    assert error["code"] == code
    assert await roles(world) == UNCHANGED


@pytest.mark.parametrize(
    ("who", "whom", "code"),
    [
        ("admin", "owner", "FORBIDDEN"),
        ("editor", "member", "FORBIDDEN"),
        ("member", "editor", "FORBIDDEN"),
        ("operator", "member", "FORBIDDEN"),
        ("stranger", "member", "NOT_FOUND"),
        ("owner", "owner", "CONFLICT"),
    ],
)
async def test_a_removal_that_one_may_not_make_removes_nobody(world: World, who: str, whom: str, code: str) -> None:
    error = await world.refused(who, REMOVE, id=await member_id(world, whom))

    assert error["code"] == code
    assert await roles(world) == UNCHANGED


async def test_an_admin_manages_all_but_owners(world: World) -> None:
    await world.change("admin", UPDATE, id=await member_id(world, "member"), role="ADMIN")
    await world.change("admin", REMOVE, id=await member_id(world, "member"))
    await world.change("admin", UPDATE, id=await member_id(world, "admin"), role="EDITOR")

    assert await roles(world) == {"owner": Role.OWNER, "admin": Role.EDITOR, "editor": Role.EDITOR}


async def test_the_last_owner_goes_when_there_is_another(world: World) -> None:
    await world.change("owner", UPDATE, id=await member_id(world, "admin"), role="OWNER")
    await world.change("owner", REMOVE, id=await member_id(world, "owner"))
    error = await world.refused("admin", REMOVE, id=await member_id(world, "admin"))

    assert (error["code"], error["path"]) == ("CONFLICT", ["id"])
    assert await roles(world) == {"admin": Role.OWNER, "editor": Role.EDITOR, "member": Role.MEMBER}


async def test_an_unknown_member_is_not_found(world: World) -> None:
    for given in (ids.encode("Member", uuid7()), ids.encode("Workspace", world.home.id), "", "x"):
        for query, more in ((UPDATE, {"role": "MEMBER"}), (REMOVE, {})):
            error = await world.refused("owner", query, id=given, **more)
            assert (error["code"], error["path"]) == ("NOT_FOUND", ["id"])


# ---- leaving


async def test_anybody_may_leave_by_a_personal_token(world: World) -> None:
    left = await world.change("member", REMOVE, id=await member_id(world, "member"))

    assert left["deletedId"]
    assert "member" not in await roles(world)
    assert await world.ask("member", "{ workspaces { totalCount } }") == {"data": {"workspaces": {"totalCount": 0}}}


async def test_an_apps_token_does_not_end_its_persons_membership(world: World) -> None:
    made = await world.change(
        "member", TOKEN, workspaceId=ids.encode("Workspace", world.home.id), name="app", role="MEMBER"
    )
    world.know("app", made["secret"])

    error = await world.refused("app", REMOVE, id=await member_id(world, "member"))

    assert error["code"] == "FORBIDDEN"
    assert await roles(world) == UNCHANGED


async def test_the_tokens_of_a_removed_member_stop_and_stay_stopped(world: World) -> None:
    made = await world.change(
        "editor", TOKEN, workspaceId=ids.encode("Workspace", world.home.id), name="app", role="EDITOR"
    )
    await world.change("admin", REMOVE, id=await member_id(world, "editor"))
    stopped = await world.app.identity.viewer(hash_secret(made["secret"]))
    personal = await world.viewer("editor")

    invited = await world.change("owner", INVITE, email="editor@test", role="EDITOR")
    await world.change("editor", ACCEPT, invitation=invited["invitation"])
    again = await world.app.identity.viewer(hash_secret(made["secret"]))

    assert (stopped, again) == (None, None)
    assert personal is not None
    assert personal.memberships == {}
    assert (await roles(world))["editor"] is Role.EDITOR


async def test_a_person_without_a_membership_sees_nothing_of_the_workspace(world: World) -> None:
    await world.change("owner", REMOVE, id=await member_id(world, "editor"))

    answer = await world.ask("editor", "query ($id: ID!) { workspace(id: $id) { name } node(id: $id) { id } }", id=ids.encode("Workspace", world.home.id))  # fmt: skip

    assert answer == {"data": {"workspace": None, "node": None}}
    assert codes(answer) == []


async def test_members_are_listed_by_role(world: World) -> None:
    async with world.app.storage.transaction() as tx:
        await tx.members.insert(
            Member(
                id=uuid7(),
                workspace_id=world.home.id,
                account_id=world.accounts["stranger"],
                role=Role.ADMIN,
                created_at=world.app.clock.now(),
            )
        )

    data = await world.data(
        "editor", "{ workspace { members(role: ADMIN) { totalCount nodes { account { name } } } } }"
    )

    assert data["workspace"]["members"] == {
        "totalCount": 2,
        "nodes": [{"account": {"name": "admin"}}, {"account": {"name": "stranger"}}],
    }

"""The audit log: every change with who, what and what it was before, and nothing secret."""

import json
from typing import Any

import pytest

from core.ids import uuid7
from graph import ids
from tests.graph.test_members import ACCEPT, INVITE, REMOVE, UPDATE, member_id
from tests.graph.test_tokens import CREATE as CREATE_TOKEN
from tests.graph.test_tokens import REVOKE
from tests.graph.test_tokens import UPDATE as UPDATE_TOKEN
from tests.graph.test_workspaces import UPDATE as RENAME
from tests.graph.world import World, codes

LOG = """query ($action: String, $subject: ID, $first: Int, $after: String) { workspace(slug: "home") {
  auditLog(action: $action, subjectId: $subject, first: $first, after: $after) {
  totalCount pageInfo { endCursor hasNextPage }
  nodes { id at action subjectId summary changes actor { name } token { name } } } } }"""
KEY = "sk-canary-0123456789abcdefghijklmnop"


async def log(world: World, who: str = "owner", **given: Any) -> list[dict[str, Any]]:
    data = await world.data(who, LOG, **given)
    found: list[dict[str, Any]] = data["workspace"]["auditLog"]["nodes"]
    assert data["workspace"]["auditLog"]["totalCount"] >= len(found)
    return found


async def test_the_log_tells_who_changed_what_newest_first(world: World) -> None:
    place = await member_id(world, "member")
    await world.change("admin", UPDATE, id=place, role="EDITOR")
    await world.change("owner", RENAME, id=ids.encode("Workspace", world.home.id), name="Heim")

    renamed, changed = await log(world, "admin")

    assert renamed | {"id": "", "at": ""} == {
        "id": "", "at": "",
        "action": "workspace.update",
        "subjectId": ids.encode("Workspace", world.home.id),
        "summary": "Renamed the workspace 'Home' to 'Heim'",
        "changes": {"name": {"from": "Home", "to": "Heim"}},
        "actor": {"name": "owner"},
        "token": {"name": "owner"},
    }  # fmt: skip
    assert (changed["action"], changed["subjectId"]) == ("member.update", place)
    assert changed["changes"] == {"role": {"from": "MEMBER", "to": "EDITOR"}}
    assert changed["actor"] == {"name": "admin"}


async def test_every_change_of_people_and_tokens_is_told_and_what_changes_nothing_is_not(world: World) -> None:
    home, place = ids.encode("Workspace", world.home.id), await member_id(world, "member")
    invited = await world.change("owner", INVITE, email="ada@test", role="MEMBER")
    await world.change("anonymous", ACCEPT, invitation=invited["invitation"])
    await world.change("owner", UPDATE, id=place, role="MEMBER")
    await world.change("member", REMOVE, id=place)
    await world.change("owner", REMOVE, id=await member_id(world, "editor"))
    made = await world.change("owner", CREATE_TOKEN, workspaceId=home, service=True, name="ci", role="MEMBER")
    await world.change("owner", UPDATE_TOKEN, id=made["apiToken"]["id"], name="ci", expiresAt="2100-01-01T00:00:00Z")
    await world.change("owner", UPDATE_TOKEN, id=made["apiToken"]["id"], name="ci")
    await world.change("owner", REVOKE, id=made["apiToken"]["id"])
    await world.change("owner", REVOKE, id=made["apiToken"]["id"])
    await world.change("owner", RENAME, id=home, name="Home")

    entries = await log(world)

    assert [(one["action"], (one["actor"] or {}).get("name")) for one in reversed(entries)] == [
        ("member.invite", "owner"),
        ("member.join", "ada"),
        ("member.leave", "member"),
        ("member.remove", "owner"),
        ("token.create", "owner"),
        ("token.update", "owner"),
        ("token.revoke", "owner"),
    ]
    updated = next(one for one in entries if one["action"] == "token.update")
    assert updated["changes"] == {"expiresAt": {"from": None, "to": "2100-01-01T00:00:00+00:00"}}
    text = json.dumps(entries)
    assert invited["invitation"] not in text
    assert made["secret"] not in text


async def test_a_refused_change_is_not_told(world: World) -> None:
    await world.refused("owner", UPDATE, id=await member_id(world, "owner"), role="MEMBER")
    await world.refused("admin", INVITE, email="new@test", role="OWNER")

    assert await log(world) == []


async def test_the_log_is_filtered_by_action_and_subject(world: World) -> None:
    one, other = await member_id(world, "member"), await member_id(world, "editor")
    for place in (one, other):
        await world.change("owner", UPDATE, id=place, role="ADMIN")
    await world.change("owner", REMOVE, id=one)

    assert [entry["subjectId"] for entry in await log(world, action="member.update")] == [other, one]
    assert [entry["action"] for entry in await log(world, subject=one)] == ["member.remove", "member.update"]
    for nothing in ("garbage", ids.encode("Member", uuid7()), ids.encode("Workspace", world.away.id), ""):
        assert await log(world, subject=nothing) == []
    assert await log(world, action="nothing") == []


async def test_credentials_and_models_are_found_by_their_ids_and_show_no_secret(world: World) -> None:
    create = """mutation ($input: CreateCredentialInput!) { createCredential(input: $input) {
      credential { id } errors { code } } }"""
    enable = """mutation ($input: SetModelEnabledInput!) { setModelEnabled(input: $input) { model { id } errors { code } } }"""
    values = [{"field": "api_key", "value": KEY}]
    made = await world.change("owner", create, provider="openai", values=values, verify=False)
    model = ids.encode("Model", world.home.id, "echo", "LLM", "echo")
    await world.change("owner", enable, id=model, enabled=False)

    of_credential = await log(world, subject=made["credential"]["id"])
    of_model = await log(world, subject=model)

    assert [one["action"] for one in of_credential] == ["credential.create"]
    assert [one["action"] for one in of_model] == ["model.disable"]
    assert of_model[0]["subjectId"] == model
    assert KEY not in json.dumps(await log(world))
    assert KEY[-8:] not in json.dumps(await log(world))


async def test_the_log_is_read_page_by_page(world: World) -> None:
    place = await member_id(world, "member")
    for role in ("EDITOR", "ADMIN", "MEMBER"):
        await world.change("owner", UPDATE, id=place, role=role)

    first = (await world.data("owner", LOG, first=2))["workspace"]["auditLog"]
    second = (await world.data("owner", LOG, first=2, after=first["pageInfo"]["endCursor"]))["workspace"]["auditLog"]

    assert (first["totalCount"], first["pageInfo"]["hasNextPage"], len(first["nodes"])) == (3, True, 2)
    assert [one["changes"]["role"]["to"] for one in second["nodes"]] == ["EDITOR"]


@pytest.mark.parametrize(
    ("who", "expected"),
    [("owner", "node"), ("admin", "node"), ("editor", "FORBIDDEN"), ("member", "FORBIDDEN"), ("service", "FORBIDDEN"),
     ("operator", "FORBIDDEN"), ("stranger", "null")],
)  # fmt: skip
async def test_an_entry_is_for_owners_and_admins(world: World, who: str, expected: str) -> None:
    await world.change("owner", UPDATE, id=await member_id(world, "member"), role="EDITOR")
    (entry,) = await log(world)

    answer = await world.ask(who, "query ($id: ID!) { node(id: $id) { id } }", id=entry["id"])

    assert answer["data"]["node"] == ({"id": entry["id"]} if expected == "node" else None)
    assert codes(answer) == ([("node", "FORBIDDEN")] if expected == "FORBIDDEN" else [])


async def test_an_entry_outlives_its_workspace_and_is_for_nobody(world: World) -> None:
    await world.change("owner", UPDATE, id=await member_id(world, "member"), role="EDITOR")
    (entry,) = await log(world)
    delete = "mutation ($input: DeleteWorkspaceInput!) { deleteWorkspace(input: $input) { deletedId errors { code } } }"
    await world.change("owner", delete, id=ids.encode("Workspace", world.home.id), confirmName="Home")

    async with world.app.storage.read() as tx:
        kept = await tx.audit.get_many([ids.key_of(entry["id"], "AuditEntry") or uuid7()])
    for who in ("owner", "operator", "stranger"):
        assert await world.ask(who, "query ($id: ID!) { node(id: $id) { id } }", id=entry["id"]) == {
            "data": {"node": None}
        }

    assert [(one.workspace_id, one.action) for one in kept.values()] == [(None, "member.update")]

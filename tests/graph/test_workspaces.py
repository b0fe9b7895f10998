"""Workspaces: made, renamed, deleted with everything in them."""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, select

from graph import ids
from storage.schema import metadata
from storage.transaction import SqlStorage
from tests.graph.world import World

CREATE = """mutation ($input: CreateWorkspaceInput!) { createWorkspace(input: $input) {
  workspace { id name slug viewerRole } errors { code message path } } }"""
UPDATE = """mutation ($input: UpdateWorkspaceInput!) { updateWorkspace(input: $input) {
  workspace { id name slug } errors { code message path } } }"""
DELETE = """mutation ($input: DeleteWorkspaceInput!) { deleteWorkspace(input: $input) {
  deletedId errors { code message path } } }"""
CREDENTIAL = """mutation ($input: CreateCredentialInput!) { createCredential(input: $input) {
  credential { id } errors { code } } }"""
COMPLETE = """mutation ($input: CompletionInput!) { complete(input: $input) {
  invocation { id } errors { code message } } }"""
INVITE = """mutation ($input: AddMemberInput!) { addMember(input: $input) { invitation errors { code } } }"""
ECHO = {"provider": "echo", "name": "echo"}


def home(world: World) -> str:
    return ids.encode("Workspace", world.home.id)


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"name": "  "}, ["name"]),
        ({"name": "x" * 101}, ["name"]),
        ({"name": "x", "slug": "Not-Lower"}, ["slug"]),
        ({"name": "x", "slug": "two--hyphens"}, ["slug"]),
        ({"name": "x", "slug": "-"}, ["slug"]),
        ({"name": "x", "slug": ""}, ["slug"]),
        ({"name": "x", "slug": "x" * 61}, ["slug"]),
    ],
)
async def test_a_workspace_that_breaks_a_rule_is_not_made(world: World, given: dict[str, Any], path: list[str]) -> None:
    error = await world.refused("owner", CREATE, **given)

    assert (error["code"], error["path"]) == ("INVALID_INPUT", path)
    assert await slugs(world) == ["away", "home"]


async def test_a_slug_is_made_from_the_name_and_taken_once(world: World) -> None:
    plain = await world.change("owner", CREATE, name="Über uns & Co")
    chosen = await world.change("owner", CREATE, name="Chosen", slug="chosen")
    error = await world.refused("stranger", CREATE, name="Other", slug="chosen")

    assert plain["workspace"]["slug"].startswith("uber-uns-co-")
    assert chosen["workspace"]["slug"] == "chosen"
    assert (error["code"], error["path"]) == ("ALREADY_EXISTS", ["slug"])
    assert len(await slugs(world)) == 4


async def test_by_setting_only_operators_make_workspaces(world: World) -> None:
    settings = replace(world.app.settings, operators_create_workspaces=True)
    closed = replace(world, app=replace(world.app, settings=settings))

    error = await closed.refused("owner", CREATE, name="Mine")
    made = await closed.change("operator", CREATE, name="Theirs")

    assert error["code"] == "FORBIDDEN"
    assert made["workspace"]["viewerRole"] == "OWNER"
    assert len(await slugs(world)) == 3


async def test_renaming_keeps_the_slug(world: World) -> None:
    renamed = await world.change("admin", UPDATE, id=home(world), name=" Heim ")
    kept = await world.change("admin", UPDATE, id=home(world))
    seen = await world.data("member", "{ workspace { name slug } }")

    assert renamed["workspace"] == {"id": home(world), "name": "Heim", "slug": "home"}
    assert kept["workspace"]["name"] == "Heim"
    assert seen == {"workspace": {"name": "Heim", "slug": "home"}}


@pytest.mark.parametrize("name", ["", "x" * 101, None])
async def test_a_wrong_name_renames_nothing(world: World, name: str | None) -> None:
    error = await world.refused("owner", UPDATE, id=home(world), name=name)

    assert (error["code"], error["path"]) == ("INVALID_INPUT", ["name"])
    assert (await world.data("owner", "{ workspace { name } }"))["workspace"]["name"] == "Home"


async def test_deleting_needs_the_name(world: World) -> None:
    error = await world.refused("owner", DELETE, id=home(world), confirmName="home")

    assert (error["code"], error["path"]) == ("INVALID_INPUT", ["confirmName"])
    assert await slugs(world) == ["away", "home"]


async def test_a_deleted_workspace_takes_everything_along(world: World) -> None:
    await world.change("owner", CREDENTIAL, provider="echo", values=[{"field": "prefix", "value": "so"}])
    await world.change("owner", COMPLETE, model=ECHO, messages=[{"role": "USER", "text": "hi"}])
    await world.change("owner", INVITE, email="new@test", role="MEMBER")

    deleted = await world.change("owner", DELETE, id=home(world), confirmName="Home")

    assert deleted["deletedId"] == home(world)
    assert await slugs(world) == ["away"]
    assert await world.app.identity.viewer(world.hashes["service"]) is None
    owner = await world.viewer("owner")
    assert owner is not None
    assert owner.memberships == {}
    call = {"workspaceId": home(world), "model": ECHO, "messages": [{"role": "USER", "text": "hi"}]}
    assert (await world.refused("owner", COMPLETE, **call))["code"] == "NOT_FOUND"
    assert await rows_of_workspace(world) == {"audit_entries": 0}
    unknown = await world.refused("owner", DELETE, id=home(world), confirmName="Home")
    assert (unknown["code"], unknown["path"]) == ("NOT_FOUND", ["id"])


def test_every_table_of_a_workspace_goes_with_it() -> None:
    tables = [table for table in metadata.tables.values() if "workspace_id" in table.c]
    assert len(tables) > 8
    for table in tables:
        ends = {
            key.ondelete
            for constraint in table.foreign_key_constraints
            for key in constraint.elements
            if constraint.column_keys == ["workspace_id"]
        }
        assert ends == {"SET NULL" if table.name == "audit_entries" else "CASCADE"}, table.name


async def test_an_admin_may_rename_and_not_delete(world: World) -> None:
    error = await world.refused("admin", DELETE, id=home(world), confirmName="Home")

    assert error["code"] == "FORBIDDEN"
    assert await slugs(world) == ["away", "home"]


async def test_one_of_several_workspaces_is_asked_for_by_what_names_it(world: World) -> None:
    await world.change("owner", CREATE, name="Second")

    read = await world.ask("owner", "{ workspace { id } }")
    changed = await world.refused("owner", COMPLETE, model=ECHO, messages=[{"role": "USER", "text": "hi"}])

    (error,) = read["errors"]
    assert (read["data"], error["extensions"]["code"]) == ({"workspace": None}, "INVALID_INPUT")
    assert (error["extensions"]["path"], "`id`" in error["message"]) == (["id"], True)
    assert (changed["code"], "`workspaceId`" in changed["message"]) == ("INVALID_INPUT", True)


@pytest.mark.parametrize(
    ("search", "found"),
    [("HOM", ["home"]), ("", ["away", "home"]), ("%", []), ("_", []), ("o_e", []), ("x" * 60_000, []), ("é%_/\\'", [])],
)
async def test_workspaces_are_searched_by_name_and_slug(world: World, search: str, found: list[str]) -> None:
    data = await world.data(
        "operator", "query ($text: String) { workspaces(search: $text) { nodes { slug } } }", text=search
    )

    assert sorted(one["slug"] for one in data["workspaces"]["nodes"]) == found


async def slugs(world: World) -> list[str]:
    data = await world.data("operator", "{ workspaces { nodes { slug } } }")
    return sorted(one["slug"] for one in data["workspaces"]["nodes"])


async def rows_of_workspace(world: World) -> dict[str, int]:
    """Return how many rows of `home` each table that names workspaces still has, but for those without any."""
    storage, found = world.app.storage, {"audit_entries": 0}
    assert isinstance(storage, SqlStorage)
    async with storage.connect() as connection:
        for table in metadata.tables.values():
            if "workspace_id" in table.c:
                counting = select(func.count()).select_from(table).where(table.c.workspace_id == world.home.id)
                row = await connection.row(counting)
                if row is not None and row[0]:
                    found[table.name] = row[0]
    return found

"""What a workspace leaves behind, and what happens to those who are at work in it: on both engines."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from core.app import App
from core.errors import ErrorCode
from core.settings import Settings
from graph import ids
from storage.base import metadata
from storage.resources import Resources
from storage.workspaces import workspace_keys
from tests.conftest import settings_for
from tests.graph import matrix
from tests.graph.world import World, make_world

DELETE = """mutation ($input: DeleteWorkspaceInput!) { deleteWorkspace(input: $input) {
  deletedId errors { code message } } }"""
RENAME = """mutation ($input: UpdateWorkspaceInput!) { updateWorkspace(input: $input) {
  workspace { name } errors { code message } } }"""
CREDENTIAL = """mutation ($input: CreateCredentialInput!) { createCredential(input: $input) {
  credential { id } errors { code message } } }"""
INVITE = """mutation ($input: AddMemberInput!) { addMember(input: $input) { invitation errors { code message } } }"""
TOKEN = """mutation ($input: CreateApiTokenInput!) { createApiToken(input: $input) {
  secret errors { code message } } }"""
COMPLETE = """mutation ($input: CompletionInput!) { complete(input: $input) {
  invocation { id } errors { code message } } }"""


@pytest.fixture
def settings(database_url: str, redis_url: str, tmp_path: Path) -> Settings:
    """Return settings under which the samples of the matrix can be made."""
    return settings_for(database_url, redis_url, tmp_path, EGRESS_ALLOW="127.0.0.1:9")


async def test_a_deleted_workspace_leaves_no_row_and_no_key(resources: Resources) -> None:
    world = await make_world(resources.app)
    await matrix.make_places(world)
    before = await _rows(resources, world)

    await world.change("owner", DELETE, id=_home(world), confirmName="Home")

    assert {"workspace_keys", "credentials", "members", "api_tokens", "invocations", "models"} <= set(before)
    assert await _rows(resources, world) == {}
    async with resources.storage.connect() as connection:
        keys = await connection.rows(select(workspace_keys.c.workspace_id))
    assert [row.workspace_id for row in keys] == [world.away.id]
    seen = await world.data("stranger", "{ workspace { slug credentials { totalCount } } }")
    assert seen["workspace"]["slug"] == "away"


async def test_those_at_work_in_a_workspace_that_is_deleted_get_an_answer_they_can_read(app: App) -> None:
    world = await make_world(app)
    home = _home(world)
    call = {"workspaceId": home, "model": matrix.ECHO, "messages": matrix.HELLO}
    work: list[tuple[str, dict[str, Any]]] = [
        (RENAME, {"id": home, "name": "Heim"}),
        (CREDENTIAL, {"workspaceId": home, "provider": "echo", "values": []}),
        (INVITE, {"workspaceId": home, "email": "new@test", "role": "MEMBER"}),
        (TOKEN, {"workspaceId": home, "service": True, "name": "ci", "role": "MEMBER"}),
        (COMPLETE, call),
    ]
    deletion = world.ask("owner", DELETE, input={"id": home, "confirmName": "Home"})
    others = [world.ask("admin", query, input=given) for query, given in work * 4]

    _, *answers = await asyncio.gather(deletion, *others)
    await world.ask("owner", DELETE, input={"id": home, "confirmName": "Heim"})

    found = {error["code"] for answer in answers for payload in answer["data"].values() for error in payload["errors"]}
    assert found <= {ErrorCode.NOT_FOUND, ErrorCode.CONFLICT}
    assert all("errors" not in answer for answer in answers)
    assert (await world.data("operator", "{ workspaces { nodes { slug } } }"))["workspaces"]["nodes"] == [
        {"slug": "away"}
    ]


def _home(world: World) -> str:
    return ids.encode("Workspace", world.home.id)


async def _rows(resources: Resources, world: World) -> dict[str, int]:
    """Return how many rows of `home` each table that names workspaces has; the audit log's name none that is gone."""
    found = {}
    async with resources.storage.connect() as connection:
        for table in metadata.tables.values():
            if "workspace_id" in table.c:
                counting = select(func.count()).select_from(table).where(table.c.workspace_id == world.home.id)
                row = await connection.row(counting)
                if row is not None and row[0]:
                    found[table.name] = row[0]
    return found

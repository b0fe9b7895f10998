"""Whoever loses access loses what is being streamed to them, and their calls end."""

import asyncio
from typing import Any

import pytest

from core.watch import ACCESS_EVERY_S, check_access
from graph import ids
from tests.graph.test_completion import STREAM, asked
from tests.graph.test_members import REMOVE, member_id
from tests.graph.test_workspaces import DELETE
from tests.graph.world import World
from tests.waiting import LIMIT_S

REVOKE = """mutation ($input: RevokeApiTokenInput!) { revokeApiToken(input: $input) { errors { code } } }"""


async def revoke_token(world: World) -> None:
    await world.change("owner", REVOKE, id=ids.encode("ApiToken", world.tokens["service"]))


async def remove_member(world: World) -> None:
    await world.change("owner", REMOVE, id=await member_id(world, "member"))


async def delete_workspace(world: World) -> None:
    await world.change("owner", DELETE, id=ids.encode("Workspace", world.home.id), confirmName=world.home.name)


@pytest.mark.parametrize(
    ("who", "lose"),
    [("service", revoke_token), ("member", remove_member), ("member", delete_workspace), ("owner", delete_workspace)],
)
async def test_a_stream_ends_with_the_access_to_it(world: World, who: str, lose: Any) -> None:
    stream = world.events(who, STREAM, input=asked("word " * 1000, parameters={"delay_ms": 50}))
    events = [(await anext(stream))["data"]["completion"] for _ in range(3)]
    (owned,) = world.app.running.all()

    await lose(world)
    await check_access(world.app)
    async with asyncio.timeout(LIMIT_S):
        rest = [payload["data"]["completion"] async for payload in stream]
        await owned.stream.finished()

    last = (events + rest)[-1]
    assert (last["__typename"], last["reason"]) == ("CompletionInterrupted", "UNAUTHORIZED")
    assert last["sequence"] == (events + rest)[-2]["sequence"]
    assert owned.reason is not None
    assert owned.reason.code == "CANCELLED"


async def test_those_who_keep_their_access_keep_their_streams(world: World) -> None:
    stream = world.events("editor", STREAM, input=asked("one two three", parameters={"delay_ms": 100}))
    events = [(await anext(stream))["data"]["completion"]]

    await remove_member(world)
    await check_access(world.app)
    events += [payload["data"]["completion"] async for payload in stream]

    assert events[-1]["__typename"] == "CompletionFinished"


def test_access_is_looked_at_often_enough() -> None:
    assert ACCESS_EVERY_S < 5 / 2

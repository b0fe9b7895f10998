"""Quotas through the API: granted, changed and ended by operators, once for each key; what may not be leaves no entry."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.app import App
from core.entities import Invocation, InvocationStatus
from core.ids import uuid7
from core.model_types.llm import ProviderType
from core.ports.invocation_log import Want
from graph import ids
from storage.resources import open_app
from tests import make
from tests.conftest import MovableClock, settings_for, sqlite_in
from tests.graph.world import World, make_world

HOSTED = """
[providers.openai]
values = { api_key = "sk-hosted" }
"""
QUOTA = "id type unit limit used reserved isValid archivedAt resetsEvery resetsAt restrictedTo { name }"
GRANT = f"mutation ($input: GrantQuotaInput!) {{ grantQuota(input: $input) {{ quota {{ {QUOTA} }} errors {{ code message path }} }} }}"
ADJUST = f"mutation ($input: AdjustQuotaInput!) {{ adjustQuota(input: $input) {{ quota {{ {QUOTA} }} errors {{ code message path }} }} }}"
ARCHIVE = f"mutation ($input: ArchiveQuotaInput!) {{ archiveQuota(input: $input) {{ quota {{ {QUOTA} }} errors {{ code message path }} }} }}"
QUOTAS = (
    """{ workspace(slug: "home") { quotas(includeArchived: true) { id entries { nodes { kind limitChange } } } } }"""
)
MOST = 2**53 - 1


@pytest.fixture
async def world(sqlite_template: Path, redis_url: str, tmp_path: Path, clock: MovableClock) -> AsyncIterator[World]:
    """Return a world whose operator hosts openai and grants nothing by the file."""
    async with _open(sqlite_in(tmp_path, sqlite_template), redis_url, tmp_path, clock) as app:
        yield await make_world(app)


@pytest.fixture
async def each_world(database_url: str, redis_url: str, tmp_path: Path, clock: MovableClock) -> AsyncIterator[World]:
    """Return the same on each engine, for what many do at once."""
    async with _open(database_url, redis_url, tmp_path, clock) as app:
        yield await make_world(app)


def _open(url: str, redis_url: str, folder: Path, clock: MovableClock) -> AbstractAsyncContextManager[App]:
    (folder / "hosted.toml").write_text(HOSTED)
    return open_app(settings_for(url, redis_url, folder, HOSTED=str(folder / "hosted.toml")), clock=clock)


def _new(world: World, **more: Any) -> dict[str, Any]:
    given = {"workspaceId": ids.encode("Workspace", world.home.id), "provider": "openai", "type": "TRIAL"}
    return given | {"unit": "TIMES", "limit": 100, "idempotencyKey": "g"} | more


async def _granted(world: World, **more: Any) -> Any:
    return (await world.change("operator", GRANT, **_new(world, **more)))["quota"]


async def _ledgers(world: World) -> list[list[tuple[str, int]]]:
    """Return the changes of each quota, the oldest first."""
    found = (await world.data("owner", QUOTAS))["workspace"]["quotas"]
    ledgers = [[(entry["kind"], entry["limitChange"]) for entry in one["entries"]["nodes"]] for one in found]
    return [ledger[::-1] for ledger in ledgers]


async def _hold(world: World, quota: Any, amount: int, used: int | None = None) -> None:
    """Let a call hold so much of a quota, and use of it what is given; None: it is under way."""
    app, quota_id = world.app, ids.key_of(quota["id"], "Quota")
    assert quota_id is not None
    call = Invocation(
        id=uuid7(), workspace_id=world.home.id, model=make.key(), provider_type=ProviderType.SYSTEM, credential_id=None,
        credential_name=None, token_id=world.tokens["owner"], account_id=world.accounts["owner"], owner=app.process_id,
        started_at=app.clock.now(),
    )  # fmt: skip
    wanted = Want(quota_id=quota_id, minimum=amount, wanted=amount, input_tokens=0)
    held = (await app.invocations.admit(call, [wanted])).quota
    assert held is not None
    if used is not None:
        ended = replace(call, status=InvocationStatus.SUCCEEDED, ended_at=app.clock.now())
        await app.invocations.settle(ended, {held.id: used})


async def test_a_quota_is_granted_once_for_its_key_and_its_place(each_world: World) -> None:
    found = await asyncio.gather(*(each_world.data("operator", GRANT, input=_new(each_world)) for _ in range(4)))
    others = await asyncio.gather(
        *(each_world.data("operator", GRANT, input=_new(each_world, idempotencyKey=f"{number}")) for number in range(4))
    )
    changed = await each_world.refused("operator", GRANT, **_new(each_world, limit=101))

    (granted,) = {one["grantQuota"]["quota"]["id"] for one in found}
    errors = [error for one in others for error in one["grantQuota"]["errors"]]
    assert [(error["code"], error["path"]) for error in errors] == [("ALREADY_EXISTS", ["type"])] * 4
    assert "adjustQuota" in errors[0]["message"]
    assert (changed["code"], changed["path"]) == ("CONFLICT", ["idempotencyKey"])
    assert await _ledgers(each_world) == [[("GRANT", 100)]]
    ended = (await each_world.change("operator", ARCHIVE, id=granted))["quota"]
    assert (ended["isValid"], ended["archivedAt"] is None) == (False, False)
    assert (await each_world.change("operator", ARCHIVE, id=granted))["quota"] == ended
    again = await _granted(each_world, idempotencyKey="1", limit=7)
    assert (again["limit"], again["id"] == granted) == (7, False), "what was refused is not remembered"
    assert await _ledgers(each_world) == [[("GRANT", 7)], [("GRANT", 100)]]


async def test_each_type_of_each_provider_has_its_place_and_the_shared_one(world: World) -> None:
    made = [
        await _granted(world, idempotencyKey=f"{kind} {provider}", type=kind, provider=provider)
        for kind in ("PAID", "FREE", "TRIAL")
        for provider in ("openai", None)
    ]
    alias = await world.refused("operator", GRANT, **_new(world, provider="OpenAI", idempotencyKey="a"))

    assert len({one["id"] for one in made}) == 6
    assert alias["code"] == "ALREADY_EXISTS"


async def test_a_grant_says_what_it_pays_for_and_how_often_it_resets(world: World) -> None:
    models = [{"provider": "OpenAI", "name": "gpt-4o", "type": "LLM"}]
    daily = await _granted(world, resetsEvery="DAY", restrictedTo=models)
    whole = await _granted(world, type="PAID", resetsEvery="TOTAL", limit=None, idempotencyKey="p")
    ended = (await world.change("operator", ARCHIVE, id=daily["id"]))["quota"]

    assert (daily["resetsEvery"], daily["resetsAt"]) == ("DAY", "2026-01-03T00:00:00Z")
    assert daily["restrictedTo"] == [{"name": "gpt-4o"}]
    assert (whole["limit"], whole["resetsEvery"], whole["resetsAt"], whole["isValid"]) == (None, None, None, True)
    assert (ended["resetsEvery"], ended["resetsAt"]) == ("DAY", None)


async def test_what_may_not_be_granted_is_refused_and_leaves_nothing(world: World) -> None:
    model = {"provider": "anthropic", "name": "m", "type": "LLM"}
    wrong: list[tuple[dict[str, Any], str, list[str]]] = [
        ({"limit": -1}, "INVALID_INPUT", ["limit"]),
        ({"type": "PAID", "resetsEvery": "DAY"}, "INVALID_INPUT", ["resetsEvery"]),
        ({"restrictedTo": []}, "INVALID_INPUT", ["restrictedTo"]),
        ({"restrictedTo": [model]}, "INVALID_INPUT", ["restrictedTo", "0", "provider"]),
        ({"provider": "anthropic"}, "INVALID_INPUT", ["provider"]),
        ({"provider": "nobody"}, "INVALID_INPUT", ["provider"]),
        ({"note": "x" * 1001}, "INVALID_INPUT", ["note"]),
        ({"idempotencyKey": ""}, "INVALID_INPUT", ["idempotencyKey"]),
        ({"idempotencyKey": "x" * 201}, "INVALID_INPUT", ["idempotencyKey"]),
        ({"workspaceId": "nonsense"}, "NOT_FOUND", ["workspaceId"]),
        ({"workspaceId": ids.encode("Workspace", uuid7())}, "NOT_FOUND", []),
    ]

    refused = [await world.refused("operator", GRANT, **_new(world, **given)) for given, _, _ in wrong]
    above = await world.ask("operator", GRANT, input=_new(world, limit=MOST + 1))
    others = [await world.refused(name, GRANT, **_new(world)) for name in ("owner", "stranger")]

    assert [(error["code"], error["path"]) for error in refused] == [(code, path) for _, code, path in wrong]
    assert above["errors"]
    assert [error["code"] for error in others] == ["FORBIDDEN", "NOT_FOUND"]
    assert await _ledgers(world) == []
    assert (await _granted(world, limit=MOST))["limit"] == MOST


async def test_a_limit_is_changed_once_for_a_key(each_world: World) -> None:
    quota = await _granted(each_world)
    given = {"id": quota["id"], "amount": -30, "note": "a correction", "idempotencyKey": "a"}

    found = await asyncio.gather(*(each_world.change("operator", ADJUST, **given) for _ in range(4)))
    again = await each_world.change("operator", ADJUST, **given)
    other = await each_world.refused("operator", ADJUST, **given | {"amount": -31})

    assert [one["quota"]["limit"] for one in (*found, again)] == [70] * 5
    assert (other["code"], other["path"]) == ("CONFLICT", ["idempotencyKey"])
    assert await _ledgers(each_world) == [[("GRANT", 100), ("ADJUST", -30)]]


async def test_a_limit_does_not_fall_below_what_is_used_and_held(world: World) -> None:
    quota = await _granted(world)
    await _hold(world, quota, 40, used=30)
    await _hold(world, quota, 20)
    given = {"id": quota["id"], "note": "", "idempotencyKey": "a"}

    refused = await world.refused("operator", ADJUST, **given, amount=-51)
    lowest = (await world.change("operator", ADJUST, **given, amount=-50))["quota"]

    assert (refused["code"], refused["path"]) == ("INVALID_INPUT", ["amount"])
    assert "30 are used and 20 are held" in refused["message"]
    assert (lowest["limit"], lowest["used"], lowest["reserved"], lowest["isValid"]) == (50, 30, 20, False)


async def test_what_may_not_be_changed_is_refused_and_leaves_no_entry(world: World) -> None:
    quota = await _granted(world)
    endless = await _granted(world, type="FREE", limit=None, idempotencyKey="f")
    ended = await _granted(world, type="PAID", idempotencyKey="p")
    await world.change("operator", ARCHIVE, id=ended["id"])
    before = await _ledgers(world)
    wrong: list[tuple[dict[str, Any], str, list[str]]] = [
        ({"amount": 0}, "INVALID_INPUT", ["amount"]),
        ({"amount": MOST}, "INVALID_INPUT", ["amount"]),
        ({"amount": MOST - 99}, "INVALID_INPUT", ["amount"]),
        ({"amount": -MOST}, "INVALID_INPUT", ["amount"]),
        ({"note": "x" * 1001}, "INVALID_INPUT", ["note"]),
        ({"idempotencyKey": ""}, "INVALID_INPUT", ["idempotencyKey"]),
        ({"id": endless["id"]}, "INVALID_INPUT", ["id"]),
        ({"id": ended["id"]}, "CONFLICT", ["id"]),
        ({"id": ids.encode("Quota", uuid7())}, "NOT_FOUND", ["id"]),
    ]
    given = {"id": quota["id"], "amount": 1, "note": "", "idempotencyKey": "a"}

    refused = [await world.refused("operator", ADJUST, **given | change) for change, _, _ in wrong]
    others = [await world.refused(name, ADJUST, **given) for name in ("owner", "stranger")]
    archiving = [await world.refused(name, ARCHIVE, id=quota["id"]) for name in ("owner", "stranger")]

    assert [(error["code"], error["path"]) for error in refused] == [(code, path) for _, code, path in wrong]
    assert [error["code"] for error in (*others, *archiving)] == ["FORBIDDEN", "NOT_FOUND"] * 2
    assert await _ledgers(world) == before
    assert (await world.change("operator", ADJUST, **given | {"amount": MOST - 100}))["quota"]["limit"] == MOST

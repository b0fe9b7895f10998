"""Pools as their callers see them: spread, failing over, resting, and shown as they stand."""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import update

from core.changes import Change, Noun, channel_of, from_message
from core.entities import CredentialStatus
from core.settings import Settings
from graph import ids
from storage.credentials import credentials as rows
from storage.resources import open_resources
from storage.transaction import SqlStorage, SqlTransaction
from tests.end_to_end.test_invoke import AUDIO, EMBED, MODERATE, RERANK, TRANSCRIBE, heard
from tests.fake_provider import FakeProvider, Scenario
from tests.product import (
    COMPLETE,
    LLM,
    NO_TLS,
    Client,
    Product,
    chat,
    check_sequence,
    completion,
    model,
    running,
    subscribed,
    text_of,
)
from tests.waiting import LIMIT_S
from workers.main import make_worker

HELLO = "Hello from the fake provider."
CREATE = """mutation ($input: CreateCredentialInput!) { createCredential(input: $input) {
  credential { id } errors { code message path } } }"""
SAVE = """mutation ($input: SavePoolInput!) { savePool(input: $input) {
  pool { id version enabled effective strategy hedgePercentile
    members { id name weight enabled isDefaultConfig health credential { id name } } }
  errors { code message path } } }"""
POOL = """query ($id: ID!) { node(id: $id) { ... on Pool { version effective members {
  id name health inFlight served failed problem { code } cooldown { scope until remaining cause message } } } } }"""
ROUTE = """{ workspace { route(model: {provider: "openai_compatible", name: "pooled"}) {
  problem { code retryAfter } candidates { usable reason poolMember { name } credential { name } } } } }"""
ROUTED = """query ($model: ModelReferenceInput, $fallbacks: [ModelReferenceInput!]) { workspace {
  route(model: $model, fallbacks: $fallbacks) { problem { code } candidates { usable reason model { name } } } } }"""
SWITCH = "mutation ($input: SetModelEnabledInput!) { setModelEnabled(input: $input) { errors { code } } }"
END = """mutation ($input: EndCooldownInput!) { endCooldown(input: $input) {
  pool { members { health } } errors { code path } } }"""
ENABLE = """mutation ($input: SetPoolEnabledInput!) { setPoolEnabled(input: $input) {
  pool { version enabled effective } errors { code path } } }"""
DELETE = """mutation ($input: DeleteCredentialInput!) { deleteCredential(input: $input) {
  pools { version members { name } } errors { code } } }"""
RENAME = """mutation ($input: UpdateCredentialInput!) { updateCredential(input: $input) {
  credential { status } errors { code } } }"""
VALIDATE = """mutation ($input: ValidateCredentialInput!) { validateCredential(input: $input) {
  credential { status poolMembers { name health } } errors { code } } }"""
POOLS = """{ workspace { pools { nodes { id version enabled strategy
  members { id name weight credential { id } } } } } }"""
FOLLOW = """subscription ($id: ID) { poolChanged(poolId: $id) { kind pool { members { health inFlight served } } } }"""
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
MODEL = "query ($key: ModelKeyInput!) { workspace { model(key: $key) { id } } }"
REMOVE = "mutation ($input: RemoveModelInput!) { removeModel(input: $input) { deletedId errors { code } } }"
KEY = {"provider": LLM, "name": "pooled", "type": "LLM"}
MUTE = Scenario(text="", ending="stall")
"""Says that it is there, and no more."""


async def pooled(
    product: Client, provider: FakeProvider, *scenarios: str, label: str = "m", kind: str = "LLM", **more: Any
) -> Any:
    """Make a model whose pool has a member for each scenario, in this order; return the pool."""
    keys = [f"sk-{number}:{scenario}" for number, scenario in enumerate(scenarios)]
    await product.add_model("pooled", provider.url, kind=kind)
    credentials = []
    for number, key in enumerate(keys):
        values = [{"field": "base_url", "value": provider.url}, {"field": "api_key", "value": key}]
        made = await product.changed(
            CREATE,
            provider=LLM,
            model={"name": "pooled", "type": kind},
            name=f"{label}{number}",
            values=values,
            verify=False,
        )
        credentials.append(made["credential"]["id"])
    members = [{"credentialId": one} for one in credentials]
    saved = await product.changed(SAVE, model={**KEY, "type": kind}, enabled=True, members=members, **more)
    return saved["pool"]


async def members(product: Client, pool: Any) -> Any:
    return (await product.data(POOL, id=pool["id"]))["node"]["members"]


async def calls(product: Client, count: int) -> list[Any]:
    """Return the payloads of as many calls at once."""
    body = {"query": COMPLETE, "variables": {"input": chat(model=model("pooled"))}}
    async with httpx.AsyncClient(timeout=LIMIT_S, trust_env=False, verify=NO_TLS, headers=product.headers()) as client:
        answers = await asyncio.gather(*(client.post(f"{product.url}/graphql", json=body) for _ in range(count)))
    return [answer.json()["data"]["complete"] for answer in answers]


def used(provider: FakeProvider) -> Counter[str]:
    """Return how many completions were asked for with each key, by the number of its member."""
    return Counter(request.key[3] for request in provider.calls)


@pytest.mark.parametrize(
    ("strategy", "weights", "counts"),
    [("ROUND_ROBIN", (1, 1, 1), (10, 10, 10)), ("WEIGHTED", (5, 3, 2), (15, 9, 6))],
)
async def test_calls_are_spread_by_the_strategy(
    product: Product, provider: FakeProvider, strategy: str, weights: tuple[int, ...], counts: tuple[int, ...]
) -> None:
    pool = await pooled(product, provider, "text", "text", "text")
    given = [
        {"credentialId": member["credential"]["id"], "weight": weight}
        for member, weight in zip(pool["members"], weights, strict=True)
    ]
    await product.changed(SAVE, model=KEY, enabled=True, strategy=strategy, members=given)

    answers = await calls(product, 30)

    assert {answer["message"]["text"] for answer in answers} == {HELLO}
    assert used(provider) == {str(number): count for number, count in enumerate(counts)}
    standing = await members(product, pool)
    assert [(one["health"], one["inFlight"]) for one in standing] == [("HEALTHY", 0)] * 3
    assert [one["served"] for one in standing] == list(counts)


@pytest.mark.parametrize("streaming", [True, False])
async def test_what_fails_before_the_first_token_is_served_by_the_next(
    product: Product, provider: FakeProvider, *, streaming: bool
) -> None:
    pool = await pooled(product, provider, "server_error", "text")

    if streaming:
        events = await product.stream(model=model("pooled"))
        check_sequence(events)
        assert [event["__typename"] for event in events[:2]] == ["CompletionStarted", "CompletionRerouted"]
        assert events[1]["failed"]["error"]["code"] == "UPSTREAM_UNAVAILABLE"
        assert text_of(events) == HELLO
    else:
        (answer,) = await calls(product, 1)
        assert answer["message"]["text"] == HELLO

    record = await product.last_invocation()
    assert [attempt["error"] and attempt["error"]["code"] for attempt in record["attempts"]] == [
        "UPSTREAM_UNAVAILABLE",
        None,
    ]
    assert record["credentialName"] == "m1"
    standing = await members(product, pool)
    assert [one["health"] for one in standing] == ["COOLING_DOWN", "HEALTHY"]
    assert [one["failed"] for one in standing] == [1, 0]
    assert standing[0]["cooldown"]["scope"] == "CREDENTIAL_AND_MODEL"
    assert 5 < standing[0]["cooldown"]["remaining"] <= 10


async def test_a_limited_member_rests_as_long_as_it_wishes_and_nobody_fails(
    product: Product, provider: FakeProvider
) -> None:
    pool = await pooled(product, provider, "text", "text", "text", label="limited")
    provider.answers("rate_limited", key="sk-0:text", headers={"retry-after": "2"})

    answers = await calls(product, 200)

    assert {answer["message"]["text"] for answer in answers} == {HELLO}
    first = (await members(product, pool))[0]
    assert first["failed"] > 0
    assert first["cooldown"]["cause"] == "UPSTREAM_RATE_LIMITED"
    assert first["cooldown"]["remaining"] <= 2
    async with asyncio.timeout(LIMIT_S):
        while (await members(product, pool))[0]["health"] != "PROBING":
            await asyncio.sleep(0.05)
    provider.reset()
    await calls(product, 3)
    assert [one["health"] for one in await members(product, pool)] == ["HEALTHY"] * 3


async def test_as_long_as_one_is_healthy_no_call_of_many_fails_and_then_all_are_told_until_when(
    product: Product, provider: FakeProvider
) -> None:
    pool = await pooled(product, provider, "rate_limited", "rate_limited", "text")
    wishes = {"sk-0:rate_limited": 90, "sk-1:rate_limited": 40, "sk-2:text": 70}
    for key, seconds in list(wishes.items())[:2]:
        provider.answers("rate_limited", key=key, headers={"retry-after": str(seconds)})

    served = await calls(product, 200)
    provider.answers("rate_limited", key="sk-2:text", headers={"retry-after": "70"})
    await calls(product, 1)
    provider.requests.clear()
    refused = await calls(product, 200)

    assert {answer["message"]["text"] for answer in served} == {HELLO}
    errors = [answer["errors"][0] for answer in refused]
    assert {error["code"] for error in errors} == {"POOL_EXHAUSTED"}
    assert all(0 < error["retryAfter"] <= 40 for error in errors)
    assert max(error["retryAfter"] for error in errors) > 5
    assert provider.calls == []
    standing = await members(product, pool)
    assert [one["health"] for one in standing] == ["COOLING_DOWN"] * 3
    assert [one["cooldown"]["remaining"] <= seconds for one, seconds in zip(standing, wishes.values(), strict=True)]


@pytest.mark.parametrize(
    ("said", "delta"),
    [
        ({}, "TextDelta"),
        ({"text": "", "reasoning": "Well."}, "ReasoningDelta"),
        ({"text": "", "tool_calls": (("look", "{}"),)}, "ToolCallDelta"),
    ],
)
async def test_a_member_that_dies_in_the_middle_ends_the_completion_and_rests(
    product: Product, provider: FakeProvider, said: dict[str, Any], delta: str
) -> None:
    pool = await pooled(product, provider, "text", "text")
    provider.answers(Scenario(**said, ending="cut"), key="sk-0:text")

    events = await product.stream(model=model("pooled"))

    check_sequence(events)
    assert {event["__typename"] for event in events} == {"CompletionStarted", delta, "CompletionFailed"}
    assert [one["health"] for one in await members(product, pool)] == ["COOLING_DOWN", "HEALTHY"]
    assert len(provider.calls) == 1


async def test_when_all_rest_it_is_said_until_when_and_a_fallback_serves(
    product: Product, provider: FakeProvider
) -> None:
    pool = await pooled(product, provider, "rate_limited", "rate_limited")
    for member in range(2):
        provider.answers("rate_limited", key=f"sk-{member}:rate_limited", headers={"retry-after": "70"})
    await product.add_model("spare", provider.url)
    await calls(product, 1)

    (answer,) = await calls(product, 1)
    events = await product.stream(model=model("pooled"), fallbacks=[model("spare")])
    route = (await product.data(ROUTE))["workspace"]["route"]

    (error,) = answer["errors"]
    assert (error["code"], error["retryable"], answer["invocation"]) == ("POOL_EXHAUSTED", True, None)
    assert 10 < error["retryAfter"] <= 70
    assert events[0]["model"]["name"] == "spare"
    assert text_of(events) == HELLO
    assert route["problem"]["code"] == "POOL_EXHAUSTED"
    assert 0 < route["problem"]["retryAfter"] <= 70
    assert [(one["usable"], one["poolMember"]["name"]) for one in route["candidates"]] == [(False, "m0"), (False, "m1")]
    assert "UPSTREAM_RATE_LIMITED" in route["candidates"][0]["reason"]

    provider.answers("text", key="sk-0:rate_limited")
    ended = await product.changed(END, memberId=pool["members"][0]["id"])
    assert [one["health"] for one in ended["pool"]["members"]] == ["PROBING", "COOLING_DOWN"]
    (served,) = await calls(product, 1)
    assert served["message"]["text"] == HELLO
    assert [one["health"] for one in await members(product, pool)] == ["HEALTHY", "COOLING_DOWN"]


async def test_a_call_that_all_members_fail_is_told_when_the_first_is_back(
    product: Product, provider: FakeProvider
) -> None:
    await pooled(product, provider, "server_error", "rate_limited", "unauthorized")

    answers = await calls(product, 12)

    errors = [answer["errors"][0] for answer in answers]
    assert {(error["code"], error["retryable"]) for error in errors} == {("POOL_EXHAUSTED", True)}
    assert all(0 < error["retryAfter"] <= 7 for error in errors), "the provider asks for 7 seconds, another rests 10"
    tried = [answer["invocation"] for answer in answers if answer["invocation"] is not None]
    assert tried
    assert all(call["error"]["code"] == "POOL_EXHAUSTED" for call in tried)
    assert {attempt["error"]["code"] for call in tried for attempt in call["attempts"]} == {
        "UPSTREAM_UNAVAILABLE",
        "UPSTREAM_RATE_LIMITED",
        "UPSTREAM_AUTHENTICATION",
    }


async def test_when_all_wait_for_a_validation_nobody_knows_until_when(product: Product, provider: FakeProvider) -> None:
    await pooled(product, provider, "unauthorized", "unauthorized")

    answers = [*await calls(product, 1), *await calls(product, 1)]
    route = (await product.data(ROUTE))["workspace"]["route"]

    errors = [answer["errors"][0] for answer in answers]
    assert [(error["code"], error["retryAfter"]) for error in errors] == [("POOL_EXHAUSTED", None)] * 2
    assert route["problem"] == {"code": "POOL_EXHAUSTED", "retryAfter": None}


async def test_a_pinned_credential_is_tried_though_it_rests_and_a_fallback_by_its_own(
    product: Product, provider: FakeProvider
) -> None:
    pool = await pooled(product, provider, "server_error", "text")
    await product.add_model("spare", provider.url, key="sk-spare")
    await calls(product, 1)
    pinned = pool["members"][0]["credential"]["id"]

    events = await product.stream(model=model("pooled"), credentialId=pinned, fallbacks=[model("spare")])

    assert text_of(events) == HELLO
    assert [request.key for request in provider.calls[-2:]] == ["sk-0:server_error", "sk-spare"]
    assert [one["failed"] for one in await members(product, pool)] == [1, 0]


async def test_a_fallback_serves_where_the_first_model_has_nothing_to_be_called_with(
    product: Product, provider: FakeProvider
) -> None:
    await product.add_model("spare", provider.url)
    found = (await product.data(MODEL, key={**KEY, "name": "spare"}))["workspace"]["model"]
    bare = {"provider": "anthropic", "name": "claude-sonnet-4-5"}
    fallbacks = [model("nothing"), model("spare")]

    events = await product.stream(model=bare, fallbacks=fallbacks)
    route = (await product.data(ROUTED, model=bare, fallbacks=fallbacks))["workspace"]["route"]
    await product.changed(SWITCH, id=found["id"], enabled=False)
    (refused,) = await product.stream(model=bare, fallbacks=fallbacks)
    closed = (await product.data(ROUTED, model=bare, fallbacks=fallbacks))["workspace"]["route"]
    (wrong,) = await product.stream(model=model("nothing"), fallbacks=[model("spare")])

    assert events[0]["model"]["name"] == "spare"
    assert text_of(events) == HELLO
    assert route["problem"] is None
    assert [(one["model"]["name"], one["usable"]) for one in route["candidates"]] == [
        ("nothing", False),
        ("spare", True),
    ]
    assert "addModel" in route["candidates"][0]["reason"]
    assert (refused["invocationId"], refused["error"]["code"]) == (None, "CREDENTIAL_MISSING")
    assert closed["problem"]["code"] == "CREDENTIAL_MISSING"
    assert "setModelEnabled" in closed["candidates"][1]["reason"]
    assert wrong["error"]["code"] == "MODEL_NOT_FOUND", "a wrong name is said, not passed over"


async def test_a_route_tells_why_a_pool_does_not_choose(product: Product, provider: FakeProvider) -> None:
    pool = await pooled(product, provider, "text", "text")

    await product.changed(ENABLE, id=pool["id"], enabled=False)
    off = (await product.data(ROUTE))["workspace"]["route"]["candidates"]
    await product.changed(ENABLE, id=pool["id"], enabled=True)
    await product.changed(DELETE, id=pool["members"][0]["credential"]["id"])
    alone = (await product.data(ROUTE))["workspace"]["route"]["candidates"]

    assert [(one["usable"], one["poolMember"]) for one in (*off, *alone)] == [(True, None)] * 2
    assert "switched off" in off[0]["reason"]
    assert "takes two usable members and has 1" in alone[0]["reason"]


async def test_a_bad_request_is_not_tried_by_others_and_rests_nobody(product: Product, provider: FakeProvider) -> None:
    pool = await pooled(product, provider, "bad_request", "bad_request")

    (answer,) = await calls(product, 1)

    assert [error["code"] for error in answer["errors"]] == ["UPSTREAM_BAD_REQUEST"]
    assert len(provider.calls) == 1
    assert [one["health"] for one in await members(product, pool)] == ["HEALTHY", "HEALTHY"]


async def test_calls_under_way_are_counted_and_a_cancelled_one_is_nobodys_fault(
    product: Product, provider: FakeProvider
) -> None:
    pool = await pooled(product, provider, "endless", "endless")

    async with product.socket() as ws:
        events = completion(ws, chat(model=model("pooled")))
        for _ in range(3):
            await anext(events)
        under_way = await members(product, pool)
        await events.aclose()
    async with asyncio.timeout(LIMIT_S):
        while any(one["inFlight"] for one in await members(product, pool)):
            await asyncio.sleep(0.05)

    assert [one["inFlight"] for one in under_way] == [1, 0]
    assert [(one["health"], one["failed"]) for one in await members(product, pool)] == [("HEALTHY", 0)] * 2


async def test_what_is_wrong_is_named_and_the_pool_stays_as_it_was(product: Product, provider: FakeProvider) -> None:
    pool = await pooled(product, provider, "text", "text")
    await product.add_model("other", provider.url)
    listed = """{ workspace { credentials { nodes { id model { name } } } } }"""
    found = (await product.data(listed))["workspace"]["credentials"]["nodes"]
    foreign = next(one["id"] for one in found if one["model"]["name"] == "other")
    values = [{"field": "api_key", "value": "sk-another-provider-0123456789"}]
    made = await product.changed(CREATE, provider="openai", values=values, verify=False)
    elsewhere = made["credential"]["id"]
    gone = await product.changed(CREATE, provider="openai", values=values, verify=False, name="gone")
    await product.changed(DELETE, id=gone["credential"]["id"])
    first, second = ({"credentialId": one["credential"]["id"]} for one in pool["members"])
    before = await product.data(POOLS)

    wrong: list[tuple[dict[str, Any], str, list[str]]] = [
        ({"members": [first, first]}, "INVALID_INPUT", ["members", "1", "credentialId"]),
        ({"members": [{}, second, {}]}, "INVALID_INPUT", ["members", "2", "credentialId"]),
        ({"members": [first, {"credentialId": foreign}]}, "INVALID_INPUT", ["members", "1", "credentialId"]),
        ({"members": [first, {"credentialId": elsewhere}]}, "INVALID_INPUT", ["members", "1", "credentialId"]),
        (
            {"members": [first, {"credentialId": gone["credential"]["id"]}]},
            "NOT_FOUND",
            ["members", "1", "credentialId"],
        ),
        ({"members": [first, {**second, "weight": 0}]}, "INVALID_INPUT", ["members", "1", "weight"]),
        ({"members": [first, {**second, "weight": -3}]}, "INVALID_INPUT", ["members", "1", "weight"]),
        ({"members": [first]}, "INVALID_INPUT", ["enabled"]),
        ({"members": [first, {**second, "enabled": False}]}, "INVALID_INPUT", ["enabled"]),
        ({"members": [first, second], "hedgePercentile": 49}, "INVALID_INPUT", ["hedgePercentile"]),
        ({"members": [first, second], "expectedVersion": 7}, "CONFLICT", ["expectedVersion"]),
        ({"members": [first, second], "expectedVersion": 0}, "CONFLICT", ["expectedVersion"]),
        ({"members": [first, second], "model": {**KEY, "name": "nothing"}}, "MODEL_NOT_FOUND", ["model"]),
    ]
    for given, code, path in wrong:
        payload = (await product.data(SAVE, input={"model": KEY, "enabled": True, **given}))["savePool"]
        assert [(error["code"], error["path"]) for error in payload["errors"]] == [(code, path)]
        assert (payload["pool"] or {}).get("version") == (1 if code == "CONFLICT" else None)
        assert await product.data(POOLS) == before

    await product.changed(SAVE, model=KEY, enabled=False, members=[first], expectedVersion=1)
    refused = (await product.data(ENABLE, input={"id": pool["id"], "enabled": True}))["setPoolEnabled"]
    assert [(error["code"], error["path"]) for error in refused["errors"]] == [("INVALID_INPUT", ["enabled"])]
    assert (await product.data(POOLS))["workspace"]["pools"]["nodes"][0]["version"] == 2


async def test_members_that_lack_what_a_call_needs_are_out_for_that_call(
    product: Product, provider: FakeProvider
) -> None:
    await product.add_model("pooled", provider.url, supports_vision="true")
    credentials = []
    for number, sees in enumerate(["false", "true", "false"]):
        entered = {"base_url": provider.url, "api_key": f"sk-{number}:text", "supports_vision": sees}
        values = [{"field": field, "value": value} for field, value in entered.items()]
        key = {"name": "pooled", "type": "LLM"}
        made = await product.changed(CREATE, provider=LLM, model=key, name=f"m{number}", values=values, verify=False)
        credentials.append(made["credential"]["id"])
    await product.changed(SAVE, model=KEY, enabled=True, members=[{"credentialId": one} for one in credentials])
    image = {"image": {"base64": PIXEL, "mimeType": "image/png"}}
    seeing = {"messages": [{"role": "USER", "content": [{"text": "what is it?"}, image]}], "model": model("pooled")}

    answers = [(await product.changed(COMPLETE, **seeing))["message"]["text"] for _ in range(4)]
    seen = used(provider)
    await calls(product, 6)
    await product.changed(DELETE, id=credentials[1])
    refused = (await product.data(COMPLETE, input=seeing))["complete"]["errors"]

    assert answers == [HELLO] * 4
    assert seen == {"1": 4}
    assert used(provider) == {"0": 2, "1": 6, "2": 2}
    assert [error["code"] for error in refused] == ["CAPABILITY_UNSUPPORTED"]


async def test_a_pool_is_switched_and_its_members_go_with_their_credentials(
    product: Product, provider: FakeProvider
) -> None:
    pool = await pooled(product, provider, "text", "text", "text")
    last = pool["members"][2]["credential"]["id"]

    off = await product.changed(ENABLE, id=pool["id"], enabled=False)
    on = await product.changed(ENABLE, id=pool["id"], enabled=True)
    deleted = await product.changed(DELETE, id=last)

    assert off["pool"] == {"version": 2, "enabled": False, "effective": False}
    assert on["pool"] == {"version": 3, "enabled": True, "effective": True}
    assert deleted["pools"] == [{"version": 4, "members": [{"name": "m0"}, {"name": "m1"}]}]
    kept = [{"credentialId": one["credential"]["id"]} for one in pool["members"][:2]]
    stale = {"model": KEY, "enabled": True, "expectedVersion": 3, "members": kept}
    refused = (await product.data(SAVE, input=stale))["savePool"]
    assert (refused["errors"][0]["code"], refused["pool"]["version"]) == ("CONFLICT", 4)


async def test_a_member_that_cannot_be_opened_is_out_and_says_so(product: Product, provider: FakeProvider) -> None:
    pool = await pooled(product, provider, "text", "text", "text")
    workspace_id, first = ids.given_pair(pool["members"][0]["credential"]["id"], "Credential")
    _, second = ids.given_pair(pool["members"][1]["credential"]["id"], "Credential")
    assert isinstance(product.app.storage, SqlStorage)

    async def damaged(credential_id: UUID) -> Any:
        """Change what is stored of a credential; return how the pool stands, and what a call of it would do."""
        async with product.app.storage.transaction() as tx:
            assert isinstance(tx, SqlTransaction)
            await tx.connection.run(update(rows).where(rows.c.id == credential_id).values(sealed=b"x" * 40))
            await tx.workspaces.touch(workspace_id)
        route = (await product.data(ROUTE))["workspace"]["route"]
        return (await product.data(POOL, id=pool["id"]))["node"], route["candidates"]

    standing, candidates = await damaged(first)
    answers = await calls(product, 4)
    renamed = await product.changed(RENAME, id=pool["members"][0]["credential"]["id"], name="other")
    alone, _ = await damaged(second)

    assert [one["health"] for one in standing["members"]] == ["CREDENTIAL_UNREADABLE", "HEALTHY", "HEALTHY"]
    assert standing["members"][0]["problem"]["code"] == "CREDENTIAL_UNREADABLE"
    assert [one["usable"] for one in candidates] == [False, True, True]
    assert "cannot be opened" in candidates[0]["reason"]
    assert [len(answer["invocation"]["attempts"]) for answer in answers] == [1] * 4
    assert (standing["effective"], alone["effective"]) == (True, False)
    assert renamed["credential"]["status"] == "UNREADABLE"
    async with product.app.storage.read() as tx:
        kept = await tx.credentials.get(workspace_id, first)
    assert kept is not None
    assert kept.status is CredentialStatus.UNVERIFIED, "what its provider says of it is kept"


async def test_a_refused_key_rests_until_it_is_found_valid(product: Product, provider: FakeProvider) -> None:
    pool = await pooled(product, provider, "text", "text")
    provider.answers("unauthorized", key="sk-0:text")
    (answer,) = await calls(product, 1)
    resting = (await members(product, pool))[0]

    provider.reset()
    validated = await product.changed(VALIDATE, id=pool["members"][0]["credential"]["id"])
    (served, other) = await calls(product, 2)

    assert answer["message"]["text"] == HELLO
    assert (resting["health"], resting["cooldown"]["until"]) == ("COOLING_DOWN", None)
    assert validated["credential"] == {"status": "VALID", "poolMembers": [{"name": "m0", "health": "PROBING"}]}
    assert served["message"]["text"] == other["message"]["text"] == HELLO
    assert [one["health"] for one in await members(product, pool)] == ["HEALTHY", "HEALTHY"]


async def test_a_refused_key_is_validated_by_a_worker_and_then_tried(
    product: Product, provider: FakeProvider, product_settings: Settings
) -> None:
    pool = await pooled(product, provider, "text", "text")
    provider.answers("unauthorized", key="sk-0:text")

    (answer,) = await calls(product, 1)
    async with open_resources(product_settings, kind="worker") as worker:
        resting = (await members(product, pool))[0]
        provider.reset()
        async with asyncio.timeout(LIMIT_S):
            while (trial := (await members(product, pool))[0])["health"] == "COOLING_DOWN":
                await worker.relay.sweep()
                await make_worker(worker, burst=True).async_run()
    provider.answers("unauthorized", key="sk-0:text")
    again = await calls(product, 2)
    rested = (await members(product, pool))[0]

    assert {one["message"]["text"] for one in (answer, *again)} == {HELLO}
    assert (resting["health"], resting["cooldown"]["until"]) == ("COOLING_DOWN", None)
    assert (trial["health"], trial["cooldown"]["cause"]) == ("PROBING", "UPSTREAM_AUTHENTICATION")
    assert rested["health"] == "COOLING_DOWN"
    assert 0 < rested["cooldown"]["remaining"] <= 10


async def test_who_follows_a_pool_sees_rests_and_counts(product: Product, provider: FakeProvider) -> None:
    pool = await pooled(product, provider, "text", "text")
    provider.answers("server_error", key="sk-0:text")
    payload = {"query": FOLLOW, "variables": {"id": pool["id"]}}

    async with product.socket() as ws, asyncio.timeout(LIMIT_S):
        seen = subscribed(ws, payload)
        first = (await anext(seen))["poolChanged"]
        await calls(product, 1)
        async for data in seen:
            health, counted = data["poolChanged"]["pool"]["members"]
            if health["health"] == "COOLING_DOWN" and counted["served"] == 1:
                break

    assert first["kind"] == "CURRENT"
    assert [one["health"] for one in first["pool"]["members"]] == ["HEALTHY", "HEALTHY"]


async def test_a_key_that_rests_for_all_models_is_told_of_every_pool_that_it_is_in(
    product: Product, provider: FakeProvider
) -> None:
    credentials, pools = [], []
    for key in ("sk-0:unauthorized", "sk-1:text"):
        values = [{"field": "api_key", "value": key}, {"field": "base_url", "value": provider.root}]
        made = await product.changed(CREATE, provider="anthropic", values=values, verify=False)
        credentials.append({"credentialId": made["credential"]["id"]})
    for name in ("claude-sonnet-5", "claude-sonnet-4-6"):
        asked = {"provider": "anthropic", "name": name, "type": "LLM"}
        saved = await product.changed(SAVE, model=asked, enabled=True, members=credentials)
        pools.append(ids.given_pair(saved["pool"]["id"], "Pool"))

    async with (
        product.app.changes.listen(channel_of(pools[0][0]), complete=True) as messages,
        asyncio.timeout(LIMIT_S),
    ):

        async def all_are_told() -> None:
            told: set[str] = set()
            while told != {str(key) for _, key in pools}:
                change = from_message(await anext(messages))
                if change is not None and change.noun is Noun.POOL:
                    told.add(change.key)

        await product.stream(model={"provider": "anthropic", "name": "claude-sonnet-5"})
        await all_are_told()
        await product.changed(END, memberId=saved["pool"]["members"][0]["id"])
        await all_are_told()
        await product.changed(VALIDATE, id=credentials[0]["credentialId"])
        await all_are_told()

    standing = await members(product, saved["pool"])
    assert [one["health"] for one in standing] == ["CREDENTIAL_INVALID", "HEALTHY"]


async def test_changes_of_a_pool_that_follow_each_other_too_soon_come_as_one(
    product: Product, provider: FakeProvider
) -> None:
    pool = await pooled(product, provider, "text", "text")
    workspace_id, key = ids.given_pair(pool["id"], "Pool")
    change = Change(workspace_id=workspace_id, noun=Noun.POOL, key=str(key))
    found = (await product.data(MODEL, key=KEY))["workspace"]["model"]

    async with product.socket() as ws, asyncio.timeout(LIMIT_S):
        seen = subscribed(ws, {"query": FOLLOW, "variables": {"id": pool["id"]}})
        kinds = [(await anext(seen))["poolChanged"]["kind"]]
        for _ in range(50):
            await product.app.changes.publish(change.channel, change.to_message())
        kinds.append((await anext(seen))["poolChanged"]["kind"])
        await product.changed(REMOVE, id=found["id"])
        kinds += [data["poolChanged"]["kind"] async for data in seen]

    assert (kinds[0], *sorted(set(kinds[1:-1])), kinds[-1]) == ("CURRENT", "UPDATED", "DELETED")
    assert len(kinds) < 20, "a slow machine may take some seconds to tell so many"


async def test_no_more_than_eight_attempts_are_made(product: Product, provider: FakeProvider) -> None:
    await pooled(product, provider, *["server_error"] * 9)

    (answer,) = await calls(product, 1)

    assert [error["code"] for error in answer["errors"]] == ["UPSTREAM_UNAVAILABLE"]
    assert [attempt["error"]["code"] for attempt in answer["invocation"]["attempts"]] == ["UPSTREAM_UNAVAILABLE"] * 8
    assert len(provider.calls) == 8


async def test_the_settings_bound_how_many_attempts_are_made_and_for_how_long(
    provider: FakeProvider, product_settings: Settings
) -> None:
    # of the attempts that take so long the second begins before the bound, also on a busy machine, and no third does
    bounds = replace(product_settings, max_attempts=3, failover_seconds=3.0)
    async with running(bounds) as product:
        await pooled(product, provider, *["server_error"] * 5)
        few = await product.stream(model=model("pooled"))
        await pooled(product, provider, "text", "text", "text", kind="SPEECH2TEXT")  # each may take its time
        provider.answers("server_error", first_delay_s=1.6)
        slow = await product.data(TRANSCRIBE, input={"model": model("pooled"), "audio": AUDIO})
        record = await product.last_invocation()

    check_sequence(few)
    assert [event["__typename"] for event in few] == [
        "CompletionStarted", "CompletionRerouted", "CompletionRerouted", "CompletionFailed",
    ]  # fmt: skip
    assert [attempt["error"]["code"] for attempt in record["attempts"]] == ["UPSTREAM_UNAVAILABLE"] * 2
    assert slow["transcribe"]["errors"][0]["code"] == "UPSTREAM_UNAVAILABLE"


@pytest.mark.parametrize(("scenario", "streaming"), [("silent", True), ("mute", True), ("silent", False)])
async def test_a_member_that_says_nothing_leaves_time_for_the_next(
    provider: FakeProvider, product_settings: Settings, scenario: str, *, streaming: bool
) -> None:
    async with running(replace(product_settings, failover_seconds=3.0)) as product:
        pool = await pooled(product, provider, "text", "text")
        provider.answers(MUTE if scenario == "mute" else scenario, key="sk-0:text")
        events = await product.stream(model=model("pooled")) if streaming else []
        answers = await calls(product, 0 if streaming else 1)
        standing = await members(product, pool)
        record = await product.last_invocation()

    if streaming:
        check_sequence(events)
        assert [event["__typename"] for event in events[:2]] == ["CompletionStarted", "CompletionRerouted"]
        assert text_of(events) == HELLO
    else:
        assert [answer["message"]["text"] for answer in answers] == [HELLO]
        assert [request.json.get("stream", False) for request in provider.calls] == [True, False]
    assert [attempt["error"] and attempt["error"]["code"] for attempt in record["attempts"]] == [
        "UPSTREAM_TIMEOUT",
        None,
    ]
    assert [one["health"] for one in standing] == ["COOLING_DOWN", "HEALTHY"]
    assert "within 1.5 seconds" in standing[0]["cooldown"]["message"]


@pytest.mark.parametrize(
    ("kind", "query", "given"),
    [
        ("TEXT_EMBEDDING", EMBED, {"texts": ["abcd"], "purpose": "DOCUMENT"}),
        ("RERANK", RERANK, {"query": "four", "documents": ["a", "four"]}),
        ("MODERATION", MODERATE, {"text": "be nice"}),
    ],
)
async def test_a_short_request_that_is_not_answered_leaves_time_for_the_next(
    provider: FakeProvider, product_settings: Settings, kind: str, query: str, given: dict[str, Any]
) -> None:
    async with running(replace(product_settings, failover_seconds=1.0)) as product:
        await pooled(product, provider, "silent", "text", kind=kind)
        await product.changed(query, model=model("pooled"), **given)
        record = await product.last_invocation()

    assert [attempt["error"] and attempt["error"]["code"] for attempt in record["attempts"]] == [
        "UPSTREAM_TIMEOUT",
        None,
    ]


async def test_a_late_member_is_waited_for_while_the_others_rest(
    provider: FakeProvider, product_settings: Settings
) -> None:
    async with running(replace(product_settings, failover_seconds=0.6)) as product:
        pool = await pooled(product, provider, "rate_limited", "text")
        await product.stream(model=model("pooled"))
        provider.answers("text", key="sk-1:text", first_delay_s=0.5)
        events = await product.stream(model=model("pooled"))
        standing = await members(product, pool)

    assert [event["__typename"] for event in events].count("CompletionRerouted") == 0
    assert text_of(events) == HELLO
    assert [one["health"] for one in standing] == ["COOLING_DOWN", "HEALTHY"]


async def test_a_silent_model_leaves_time_for_a_fallback(provider: FakeProvider, product_settings: Settings) -> None:
    async with running(replace(product_settings, failover_seconds=3.0)) as product:
        await product.add_model("first", provider.url, key="sk-first")
        await product.add_model("spare", provider.url)
        provider.answers("silent", key="sk-first")
        events = await product.stream(model=model("first"), fallbacks=[model("spare")])

    assert [event["__typename"] for event in events[:2]] == ["CompletionStarted", "CompletionRerouted"]
    assert text_of(events) == HELLO


async def test_a_reasoning_model_that_is_there_may_think(provider: FakeProvider, product_settings: Settings) -> None:
    async with running(replace(product_settings, failover_seconds=3.0)) as product:
        await product.add_model("first", provider.url, key="sk-first", supports_reasoning="true")
        await product.add_model("spare", provider.url)
        provider.answers("text", key="sk-first", pieces=1, delay_s=1.8)
        events = await product.stream(model=model("first"), fallbacks=[model("spare")])

    assert [event["__typename"] for event in events].count("CompletionRerouted") == 0
    assert text_of(events) == HELLO


async def test_silent_speech_leaves_time_for_the_next(provider: FakeProvider, product_settings: Settings) -> None:
    async with running(replace(product_settings, failover_seconds=3.0)) as product:
        await pooled(product, provider, "silent", "text", kind="TTS")
        events = [event async for event in heard(product, model=model("pooled"), text="abc", voice="v")]
        record = await product.last_invocation()

    assert events[-1]["__typename"] == "SpeechFinished"
    assert [attempt["error"] and attempt["error"]["code"] for attempt in record["attempts"]] == [
        "UPSTREAM_TIMEOUT",
        None,
    ]


async def test_a_call_goes_over_from_pool_to_pool_and_to_another_provider_by_its_own_rules(
    product: Product, provider: FakeProvider
) -> None:
    await pooled(product, provider, "server_error", "rate_limited")
    values = [{"field": "api_key", "value": "sk-other:text"}, {"field": "base_url", "value": provider.root}]
    await product.changed(CREATE, provider="anthropic", values=values, verify=False)
    await product.add_model("last", provider.url)
    other = {"provider": "anthropic", "name": "claude-sonnet-4-5"}
    unknown = {"provider": "anthropic", "name": "nothing"}

    events = await product.stream(
        model=model("pooled"), fallbacks=[unknown, other, model("last")], parameters={"temperature": 0.5}
    )
    record = await product.last_invocation()

    check_sequence(events)
    assert [event["__typename"] for event in events[:3]] == ["CompletionStarted", *["CompletionRerouted"] * 2]
    assert [event["failed"]["model"]["name"] for event in events[1:3]] == ["pooled", "pooled"]
    assert [event["model"]["name"] for event in events[1:3]] == ["pooled", "claude-sonnet-4-5"]
    assert text_of(events) == HELLO
    asked = provider.calls[-1]
    assert (asked.route, asked.key, asked.json["temperature"]) == ("/v1/messages", "sk-other:text", 0.5)
    assert asked.json["max_tokens"] > 0, "which this provider alone requires"
    assert [one["error"] and one["error"]["code"] for one in record["attempts"]] == [
        "UPSTREAM_UNAVAILABLE", "UPSTREAM_RATE_LIMITED", None,
    ]  # fmt: skip
    assert record["model"]["name"] == "claude-sonnet-4-5"

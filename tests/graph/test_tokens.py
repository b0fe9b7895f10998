"""Tokens: changed, listed, ended; never more than the person behind them."""

from datetime import timedelta
from typing import Any

import pytest

from core.access import Role
from graph import ids
from tests.graph.world import World, codes

CREATE = """mutation ($input: CreateApiTokenInput!) { createApiToken(input: $input) {
  apiToken { id name role } secret errors { code message path } } }"""
UPDATE = """mutation ($input: UpdateApiTokenInput!) { updateApiToken(input: $input) {
  apiToken { name allowedModels { provider name type } credentialIds expiresAt } errors { code message path } } }"""
REVOKE = """mutation ($input: RevokeApiTokenInput!) { revokeApiToken(input: $input) {
  apiToken { id revokedAt } errors { code path } } }"""
CREDENTIAL = """mutation ($input: CreateCredentialInput!) { createCredential(input: $input) {
  credential { id } errors { code } } }"""
SET_ROLE = (
    """mutation ($input: UpdateMemberInput!) { updateMember(input: $input) { member { role } errors { code } } }"""
)
MINE = """query ($all: Boolean) { viewer { apiTokens(includeRevoked: $all) { totalCount nodes { name workspace { slug } } } } }"""
MODELS = [{"provider": "openai", "name": "gpt-4o", "type": "LLM"}]
NOTHING = {"allowedModels": None, "credentialIds": None, "expiresAt": None}


def home(world: World) -> str:
    return ids.encode("Workspace", world.home.id)


def id_of(world: World, name: str) -> str:
    return ids.encode("ApiToken", world.tokens[name])


async def make(world: World, who: str, name: str, **given: Any) -> str:
    """Let somebody make a token, which can be asked as by its name; return its id."""
    made = await world.change(who, CREATE, **{"workspaceId": home(world), "name": name, "role": "MEMBER"} | given)
    world.know(name, made["secret"])
    return str(made["apiToken"]["id"])


async def token(world: World, id_: str) -> Any:
    query = """query ($id: ID!) { node(id: $id) { ... on ApiToken {
      name allowedModels { provider name type } credentialIds expiresAt revokedAt } } }"""
    return (await world.data("owner", query, id=id_))["node"]


# ---- changing


async def test_what_is_left_out_stays_and_null_clears(world: World) -> None:
    made = await make(world, "owner", "ci", service=True, allowedModels=MODELS, expiresAt="2100-01-01T00:00:00Z")

    renamed = await world.change("owner", UPDATE, id=made, name=" deploy ")
    cleared = await world.change("admin", UPDATE, id=made, allowedModels=None, expiresAt=None)

    assert renamed["apiToken"] == {
        "name": "deploy",
        "allowedModels": MODELS,
        "credentialIds": None,
        "expiresAt": "2100-01-01T00:00:00Z",
    }
    assert cleared["apiToken"] == {"name": "deploy", **NOTHING}


async def test_a_narrowed_token_is_narrower_with_its_next_call(world: World) -> None:
    call = {"model": {"provider": "echo", "name": "echo"}, "messages": [{"role": "USER", "text": "hi"}]}
    complete = "mutation ($input: CompletionInput!) { complete(input: $input) { message { text } errors { code } } }"
    made = await make(world, "owner", "app")
    await world.change("app", complete, **call)

    await world.change("owner", UPDATE, id=made, allowedModels=MODELS)
    answer = await world.data("app", complete, input=call)

    assert answer["complete"]["errors"] == [{"code": "MODEL_NOT_PERMITTED"}]


async def test_listed_credentials_are_of_the_workspace(world: World) -> None:
    made = await make(world, "owner", "app")
    created = await world.change("owner", CREDENTIAL, provider="echo", values=[{"field": "prefix", "value": "so"}])
    credential = created["credential"]["id"]
    gone = ids.credential_id(world.home.id, world.away.id)

    error = await world.refused("owner", UPDATE, id=made, credentialIds=[credential, gone])
    refused = await world.refused("owner", CREATE, workspaceId=home(world), name="x", role="MEMBER", credentialIds=[gone])  # fmt: skip
    listed = await world.change("owner", UPDATE, id=made, credentialIds=[credential])

    assert (error["code"], error["path"]) == ("NOT_FOUND", ["credentialIds", "1"])
    assert (refused["code"], refused["path"]) == ("NOT_FOUND", ["credentialIds", "0"])
    assert listed["apiToken"]["credentialIds"] == [credential]


@pytest.mark.parametrize(
    ("who", "given", "code", "path"),
    [
        ("owner", {"name": None}, "INVALID_INPUT", ["name"]),
        ("owner", {"name": " "}, "INVALID_INPUT", ["name"]),
        ("owner", {"name": "x" * 65}, "INVALID_INPUT", ["name"]),
        ("owner", {"expiresAt": "2001-01-01T00:00:00Z"}, "INVALID_INPUT", ["expiresAt"]),
        ("owner", {"allowedModels": [{"provider": "nobody", "name": "x", "type": "LLM"}]}, "INVALID_INPUT",
         ["allowedModels", "0"]),
        ("owner", {"credentialIds": ["garbage"]}, "NOT_FOUND", ["credentialIds", "0"]),
        ("owner", {"id": "garbage"}, "NOT_FOUND", ["id"]),
        ("editor", {"name": "mine"}, "NOT_FOUND", ["id"]),
        ("operator", {"name": "mine"}, "NOT_FOUND", ["id"]),
        ("stranger", {"name": "mine"}, "NOT_FOUND", ["id"]),
        ("admin", {"name": "mine"}, "FORBIDDEN", ["id"]),
    ],
)  # fmt: skip
async def test_a_wrong_change_changes_nothing(
    world: World, who: str, given: dict[str, Any], code: str, path: list[str]
) -> None:
    made = await make(world, "owner", "strong", service=True, role="OWNER")

    error = await world.refused(who, UPDATE, **{"id": made} | given)

    assert (error["code"], error["path"]) == (code, path)
    assert await token(world, made) == {"name": "strong", "revokedAt": None, **NOTHING}


async def test_a_revoked_token_stays_as_it_is(world: World) -> None:
    made = await make(world, "owner", "old")
    first = await world.change("owner", REVOKE, id=made)
    again = await world.change("admin", REVOKE, id=made)

    error = await world.refused("owner", UPDATE, id=made, name="new", expiresAt=None)

    assert again == first
    assert (error["code"], error["path"]) == ("CONFLICT", ["id"])
    assert (await token(world, made))["name"] == "old"


# ---- power


async def test_a_weak_token_widens_no_strong_one(world: World) -> None:
    """The owner's own reading token is in the wrong hands."""
    await make(world, "owner", "reader", workspaceId=None)

    changed = await world.refused("reader", UPDATE, id=id_of(world, "owner"), expiresAt=None, name="mine now")
    made = await world.refused("reader", CREATE, name="more", role="OWNER")

    assert (changed["code"], changed["path"]) == ("FORBIDDEN", ["id"])
    assert (made["code"], made["path"]) == ("FORBIDDEN", ["role"])
    assert (await token(world, id_of(world, "owner")))["name"] == "owner"


async def test_a_token_of_some_models_gives_no_others(world: World) -> None:
    narrow = await make(world, "owner", "narrow", role="OWNER", allowedModels=MODELS)

    errors = [
        await world.refused("narrow", UPDATE, id=narrow, allowedModels=None),
        await world.refused("narrow", UPDATE, id=narrow, allowedModels=[*MODELS, {**MODELS[0], "name": "other"}]),
        await world.refused("narrow", CREATE, workspaceId=home(world), name="wide", role="MEMBER"),
        await world.refused("narrow", UPDATE, id=id_of(world, "service"), name="wide"),
    ]

    assert {(error["code"], *error["path"]) for error in errors} == {("FORBIDDEN", "allowedModels")}
    assert (await token(world, narrow))["allowedModels"] == MODELS


async def test_a_workspaces_token_gives_none_that_outlasts_it(world: World) -> None:
    end = (world.app.clock.now() + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    brief = await make(world, "member", "brief", expiresAt=end)

    errors = [
        await world.refused("brief", UPDATE, id=brief, expiresAt=None),
        await world.refused("brief", UPDATE, id=brief, expiresAt="2100-01-01T00:00:00Z"),
        await world.refused("brief", CREATE, workspaceId=home(world), name="long", role="MEMBER"),
    ]
    await world.change("member", UPDATE, id=brief, expiresAt="2100-01-01T00:00:00Z")

    assert {(error["code"], *error["path"]) for error in errors} == {("FORBIDDEN", "expiresAt")}


@pytest.mark.parametrize("role", ["MEMBER", "EDITOR", "ADMIN", "OWNER"])
async def test_a_token_has_the_lower_of_its_role_and_the_persons_role_now(world: World, role: str) -> None:
    await make(world, "admin", "app", role="ADMIN")
    async with world.app.storage.read() as tx:
        place = await tx.members.find(world.home.id, world.accounts["admin"])
    assert place is not None

    await world.change("owner", SET_ROLE, id=ids.encode("Member", place.id), role=role)
    now = await world.data("app", "{ workspace { viewerRole } }")

    assert now["workspace"]["viewerRole"] == ("ADMIN" if role == "OWNER" else role)


async def test_a_service_token_outlives_its_makers_membership(world: World) -> None:
    await make(world, "admin", "robot", role="EDITOR", service=True)
    async with world.app.storage.read() as tx:
        place = await tx.members.find(world.home.id, world.accounts["admin"])
    assert place is not None

    remove = "mutation ($input: RemoveMemberInput!) { removeMember(input: $input) { deletedId errors { code } } }"
    await world.change("owner", remove, id=ids.encode("Member", place.id))
    robot = await world.viewer("robot")

    assert robot is not None
    assert robot.memberships[world.home.id].role is Role.EDITOR


@pytest.mark.parametrize("given", [{"workspaceId": "home"}, {"workspaceId": "home", "service": True}])
async def test_an_operators_power_comes_only_with_their_personal_token(world: World, given: dict[str, Any]) -> None:
    error = await world.refused(
        "operator", CREATE, **given | {"workspaceId": home(world), "name": "x", "role": "MEMBER"}
    )
    personal = await make(world, "operator", "spare", workspaceId=None, role="MEMBER")

    spare = await world.viewer("spare")

    assert error["code"] == "FORBIDDEN"
    assert personal
    assert spare is not None
    assert spare.is_operator is True


# ---- listing


async def test_one_lists_ones_own_tokens(world: World) -> None:
    of_home = await make(world, "member", "app")
    await make(world, "member", "laptop", workspaceId=None)
    await world.change("member", REVOKE, id=of_home)

    now = await world.data("member", MINE)
    ever = await world.data("member", MINE, all=True)
    other = await world.data("owner", MINE)

    assert [one["name"] for one in now["viewer"]["apiTokens"]["nodes"]] == ["laptop", "member"]
    assert ever["viewer"]["apiTokens"]["nodes"] == [
        {"name": "laptop", "workspace": None},
        {"name": "app", "workspace": {"slug": "home"}},
        {"name": "member", "workspace": None},
    ]
    assert other["viewer"]["apiTokens"]["totalCount"] == 1


async def test_a_workspaces_token_lists_none_of_other_places(world: World) -> None:
    await make(world, "member", "app")

    listed = await world.data("app", MINE)
    service = await world.ask("service", MINE)

    assert listed["viewer"]["apiTokens"]["nodes"] == [{"name": "app", "workspace": {"slug": "home"}}]
    assert codes(service) == [("viewer.apiTokens", "FORBIDDEN")]


# ---- budgets and limits a minute

LIMITED = """mutation ($input: UpdateApiTokenInput!) { updateApiToken(input: $input) {
  apiToken { requestsPerMinute tokensPerMinute budget { limit currency period spent reserved resetsAt } }
  errors { code message path } } }"""
LIMITS = """query ($id: ID!) { node(id: $id) { ... on ApiToken {
  requestsPerMinute tokensPerMinute budget { limit currency period spent reserved resetsAt } } } }"""
COMPLETE = (
    "mutation ($input: CompletionInput!) { complete(input: $input) { message { text } errors { code message } } }"
)
PRICE = """mutation ($input: SetModelPricingInput!) { setModelPricing(input: $input) {
  model { pricing { input } } errors { code message path } } }"""
INVITE = """mutation ($input: AddMemberInput!) { addMember(input: $input) { invitation errors { code path } } }"""
AUDIT = "{ workspace { auditLog(first: 1) { nodes { action changes } } } }"
CALL = {"model": {"provider": "echo", "name": "echo"}, "messages": [{"role": "USER", "text": "hi"}]}


def budget(limit: str = "5", currency: str = "USD", period: str = "DAY") -> dict[str, Any]:
    return {"limit": limit, "currency": currency, "period": period}


async def limits(world: World, id_: str, who: str = "owner") -> Any:
    return (await world.data(who, LIMITS, id=id_))["node"]


async def price(world: World, amount: str, who: str = "owner", change: Any = None, currency: str = "USD") -> Any:
    """Price the echo."""
    query = '{ workspace { model(key: {provider: "echo", name: "echo", type: LLM}) { id } } }'
    model = (await world.data("owner", query))["workspace"]["model"]["id"]
    pricing = {"currency": currency, "input": amount, "output": amount}
    return await (change or world.change)(who, PRICE, id=model, pricing=pricing)


async def test_a_budget_and_limits_are_given_changed_and_cleared(world: World) -> None:
    made = await make(world, "owner", "app", budget=budget("1.50"), requestsPerMinute=7, tokensPerMinute=1000)
    first = await limits(world, made, "app")
    told = (await world.data("owner", AUDIT))["workspace"]["auditLog"]["nodes"][0]

    changed = await world.change("owner", LIMITED, id=made, budget=budget("2", period="TOTAL"), tokensPerMinute=None)
    cleared = await world.change("owner", LIMITED, id=made, budget=None, requestsPerMinute=None)

    assert first["budget"] == budget("1.50") | {
        "limit": "1.5", "spent": "0", "reserved": "0", "resetsAt": first["budget"]["resetsAt"],
    }  # fmt: skip
    assert first["budget"]["resetsAt"].endswith("T00:00:00Z")
    assert (first["requestsPerMinute"], first["tokensPerMinute"]) == (7, 1000)
    assert told["changes"]["budget"] == {"from": None, "to": "1.5 USD DAY"}
    assert [told["changes"][name]["to"] for name in ("requestsPerMinute", "tokensPerMinute")] == [7, 1000]
    assert changed["apiToken"] == {
        "requestsPerMinute": 7, "tokensPerMinute": None,
        "budget": budget("2", period="TOTAL") | {"spent": "0", "reserved": "0", "resetsAt": None},
    }  # fmt: skip
    assert cleared["apiToken"] == {"requestsPerMinute": None, "tokensPerMinute": None, "budget": None}


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"budget": budget("0")}, ["budget", "limit"]),
        ({"budget": budget("-0.01")}, ["budget", "limit"]),
        ({"budget": budget("1000000000001")}, ["budget", "limit"]),
        ({"budget": budget("0.00000000001")}, ["budget", "limit"]),
        ({"budget": budget(currency="dollars")}, ["budget", "currency"]),
        ({"budget": budget(currency="QQQ")}, ["budget", "currency"]),
        ({"requestsPerMinute": 0}, ["requestsPerMinute"]),
        ({"requestsPerMinute": -5}, ["requestsPerMinute"]),
        ({"tokensPerMinute": 1_000_000_001}, ["tokensPerMinute"]),
    ],
)
async def test_a_wrong_limit_changes_nothing(world: World, given: dict[str, Any], path: list[str]) -> None:
    made = await make(world, "owner", "app", budget=budget(), requestsPerMinute=3, tokensPerMinute=4)
    before = await limits(world, made)

    changed = await world.refused("owner", LIMITED, id=made, **given)
    new = await world.refused("owner", CREATE, workspaceId=home(world), name="x", role="MEMBER", **given)

    assert (changed["code"], changed["path"]) == (new["code"], new["path"]) == ("INVALID_INPUT", path)
    assert await limits(world, made) == before


@pytest.mark.parametrize("given", [{"budget": budget()}, {"requestsPerMinute": 9}, {"tokensPerMinute": 9}])
async def test_a_limited_token_gets_nobody_beyond_its_limits(world: World, given: dict[str, Any]) -> None:
    mine = await make(world, "owner", "thrifty", workspaceId=None, role="OWNER", **given)
    other = await make(world, "owner", "other", **given)
    (name,) = given
    raised: Any = budget("5.01") if name == "budget" else 10
    lowered: Any = budget("4") if name == "budget" else 8
    before = await limits(world, other)

    made = await world.refused("thrifty", CREATE, name="more", role="MEMBER")
    twin = await world.refused("thrifty", CREATE, workspaceId=home(world), name="twin", role="MEMBER", **given)
    widened = [await world.refused("thrifty", LIMITED, id=one, **{name: raised}) for one in (mine, other)]
    cleared = [await world.refused("thrifty", LIMITED, id=one, **{name: None}) for one in (mine, other)]
    invited = await world.refused("thrifty", INVITE, workspaceId=home(world), email="new@test", role="MEMBER")

    assert {one["code"] for one in (made, twin, invited, *widened, *cleared)} == {"FORBIDDEN"}
    assert {tuple(one["path"]) for one in (*widened, *cleared)} == {(name,)}
    assert await limits(world, other) == before
    narrowed = await world.change("thrifty", LIMITED, id=mine, **{name: lowered})
    kept = narrowed["apiToken"][name]
    assert kept == 8 if name != "budget" else kept["limit"] == "4"


async def test_a_token_with_a_budget_changes_neither_its_currency_nor_a_price(world: World) -> None:
    mine = await make(world, "owner", "thrifty", workspaceId=None, role="OWNER", budget=budget())

    changed = await world.refused("thrifty", LIMITED, id=mine, budget=budget("5", "EUR"))
    longer = await world.refused("thrifty", LIMITED, id=mine, budget=budget("5", period="WEEK"))
    cheaper = await price(world, "0", "thrifty", world.refused)

    assert {one["code"] for one in (changed, longer, cheaper)} == {"FORBIDDEN"}


async def test_calls_are_under_the_budget_of_their_token_whatever_they_are_made_with(world: World) -> None:
    made = await make(world, "owner", "app", budget=budget("0.001"))
    await price(world, "1", currency="EUR")
    unpriced = (await world.data("app", COMPLETE, input=CALL))["complete"]["errors"][0]
    await price(world, "1")

    served = await world.data("app", COMPLETE, input=CALL)
    spent = (await limits(world, made, "app"))["budget"]
    too_much = CALL | {"messages": [{"role": "USER", "text": "hi" * 600}]}
    refused = (await world.data("app", COMPLETE, input=too_much))["complete"]["errors"][0]
    other = await world.data("owner", COMPLETE, input=too_much)

    assert unpriced["code"] == "BUDGET_EXCEEDED"
    assert "setModelPricing" in unpriced["message"]
    assert served["complete"]["errors"] == other["complete"]["errors"] == []
    assert (spent["spent"], spent["reserved"]) == ("0.000002", "0")
    assert refused["code"] == "BUDGET_EXCEEDED"
    assert (await limits(world, made))["budget"] == spent
    listed = await world.data("owner", "{ workspace { invocations(first: 9) { totalCount } } }")
    assert listed["workspace"]["invocations"]["totalCount"] == 2


async def test_who_sees_no_token_sees_no_budget_of_it(world: World) -> None:
    made = await make(world, "owner", "app", budget=budget())

    assert (await world.ask("editor", LIMITS, id=made))["data"]["node"] is None
    assert (await limits(world, made, "admin"))["budget"]["limit"] == "5"

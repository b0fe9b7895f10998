"""Workspaces, providers, models, credentials, defaults and tokens through the translation."""

from typing import Any

import pytest

from graph import ids
from tests.catalogs import CATALOG
from tests.graph.world import World, codes

OPENAI_KEY = "sk-abcdefghijklmnopqrstuvwxyz0123456789"
CREATE = """mutation ($input: CreateCredentialInput!) { createCredential(input: $input) {
  credential { id name level model { name } isActive status problem { code } values { field value isSecret }
    version keyVersion provider { name activeCredential { name } } }
  provider { customStatus problem { code } effectiveType } model { id } errors { code message path } } }"""
ACTIVATE = """mutation ($input: ActivateCredentialInput!) { activateCredential(input: $input) {
  credential { id isActive } provider { activeCredential { id } } errors { code path } } }"""
DELETE = """mutation ($input: DeleteCredentialInput!) { deleteCredential(input: $input) {
  deletedId deletedModelId provider { customStatus problem { code } } model { id } errors { code path } } }"""
ADD_MODEL = """mutation ($input: AddModelInput!) { addModel(input: $input) {
  model { id name label source status features contextWindow activeCredential { name values { field value } }
    credentials { totalCount } isDefault effectiveType parameterRules { name min max default } }
  errors { code message path } } }"""
ENABLE = """mutation ($input: SetModelEnabledInput!) { setModelEnabled(input: $input) {
  model { id enabled status problem { code } } errors { code path } } }"""
DEFAULTS = """mutation ($input: SetDefaultModelsInput!) { setDefaultModels(input: $input) {
  defaultModels { type model { name isDefault } problem { code } } errors { code path } } }"""
TOKEN = """mutation ($input: CreateApiTokenInput!) { createApiToken(input: $input) {
  apiToken { id name prefix role workspace { slug } account { name } createdBy { name } credentialIds allowedModels { name } }
  secret errors { code path } } }"""
REVOKE = """mutation ($input: RevokeApiTokenInput!) { revokeApiToken(input: $input) {
  apiToken { id revokedAt } errors { code path } } }"""
ECHO = {"provider": "echo", "name": "echo"}
LOCAL = {"provider": "OpenAI-compatible", "name": "local", "type": "LLM"}


def local(**more: Any) -> dict[str, Any]:
    values = [
        {"field": "base_url", "value": "http://127.0.0.1:9/v1"},
        {"field": "api_key", "value": OPENAI_KEY},
        {"field": "context_size", "value": "8192"},
        {"field": "supports_vision", "value": "true"},
    ]
    return {"model": LOCAL, "credential": {"new": {"name": "mine", "values": values}}, "verify": False, **more}


async def test_a_credential_is_shown_masked_and_the_first_is_active(world: World) -> None:
    values = [{"field": "api_key", "value": OPENAI_KEY}]

    first = await world.change("owner", CREATE, provider="OpenAI", values=values, verify=False)
    second = await world.change("owner", CREATE, provider="openai", name="spare", values=values, verify=False)

    credential = first["credential"]
    assert credential["name"] == "API key 1"
    assert (credential["level"], credential["model"], credential["isActive"]) == ("PROVIDER", None, True)
    assert credential["values"] == [{"field": "api_key", "value": "sk-abc************89", "isSecret": True}]
    assert credential["provider"] == {"name": "openai", "activeCredential": {"name": "API key 1"}}
    assert first["provider"] == {"customStatus": "ACTIVE", "problem": None, "effectiveType": "CUSTOM"}
    assert second["credential"]["isActive"] is False


async def test_activating_and_deleting_say_what_changed(world: World) -> None:
    values = [{"field": "api_key", "value": OPENAI_KEY}]
    first = await world.change("owner", CREATE, provider="openai", values=values, verify=False)
    second = await world.change("owner", CREATE, provider="openai", values=values, verify=False)

    activated = await world.change("owner", ACTIVATE, id=second["credential"]["id"])
    deleted = await world.change("owner", DELETE, id=second["credential"]["id"])

    assert activated["credential"]["isActive"] is True
    assert activated["provider"]["activeCredential"] == {"id": second["credential"]["id"]}
    assert deleted["deletedId"] == second["credential"]["id"]
    assert deleted["provider"] == {"customStatus": "NO_ACTIVE_CREDENTIAL", "problem": {"code": "CREDENTIAL_REMOVED"}}
    listed = await world.data("owner", "{ workspace { credentials { nodes { id isActive } } } }")
    assert listed["workspace"]["credentials"]["nodes"] == [{"id": first["credential"]["id"], "isActive": False}]


@pytest.mark.parametrize(
    ("given", "code", "path"),
    [
        ({"provider": "nobody"}, "NOT_FOUND", ["provider"]),
        ({"values": []}, "INVALID_INPUT", ["values", "api_key"]),
        ({"values": [{"field": "nope", "value": "1"}]}, "INVALID_INPUT", ["values", "nope"]),
        ({"values": [{"field": "api_key", "value": "1"}, {"field": "api_key", "value": "2"}]}, "INVALID_INPUT",
         ["values", "api_key"]),
        ({"name": "x" * 65}, "INVALID_INPUT", ["name"]),
        ({"model": {"name": "nothing", "type": "LLM"}}, "MODEL_NOT_FOUND", ["model"]),
        ({"provider": "openai_compatible"}, "INVALID_INPUT", ["model"]),
    ],
)  # fmt: skip
async def test_a_credential_that_breaks_a_rule_names_its_place(
    world: World, given: dict[str, Any], code: str, path: list[str]
) -> None:
    good: dict[str, Any] = {
        "provider": "openai",
        "values": [{"field": "api_key", "value": OPENAI_KEY}],
        "verify": False,
    }

    error = await world.refused("owner", CREATE, **good | given)

    assert (error["code"], error["path"]) == (code, path)
    assert OPENAI_KEY not in error["message"]
    stored = await world.data("owner", "{ workspace { credentials { totalCount } } }")
    assert stored["workspace"]["credentials"]["totalCount"] == 0


async def test_a_custom_model_is_described_by_its_credential(world: World) -> None:
    added = (await world.change("owner", ADD_MODEL, **local(label="My model")))["model"]

    assert (added["name"], added["label"], added["source"]) == ("local", "My model", "CUSTOM")
    assert (added["status"], added["effectiveType"], added["contextWindow"]) == ("ACTIVE", "CUSTOM", 8192)
    assert "VISION" in added["features"]
    assert "AUDIO" not in added["features"]
    shown = {value["field"]: value["value"] for value in added["activeCredential"]["values"]}
    assert shown["api_key"] == "sk-abc************89"
    assert shown["base_url"] == "http://127.0.0.1:9/v1"
    assert added["credentials"]["totalCount"] == 1
    assert "temperature" in {rule["name"] for rule in added["parameterRules"]}
    by_id = await world.data("member", "query ($id: ID!) { node(id: $id) { ... on Model { name } } }", id=added["id"])
    assert by_id["node"] == {"name": "local"}


async def test_a_model_is_added_with_one_credential_given_one_way(world: World) -> None:
    answer = await world.ask("owner", ADD_MODEL, input=local(credential={}))

    assert [code for _, code in codes(answer)] == ["BAD_REQUEST"]


@pytest.mark.parametrize(
    ("field", "value", "path"),
    [
        ("base_url", "http://10.0.0.1/v1", ["credential", "new", "values", "base_url"]),
        ("base_url", "ftp://example.org", ["credential", "new", "values", "base_url"]),
        ("context_size", "many", ["credential", "new", "values", "context_size"]),
        ("nope", "1", ["credential", "new", "values", "nope"]),
    ],
)
async def test_a_wrong_value_of_a_new_model_names_its_place_in_the_input(
    world: World, field: str, value: str, path: list[str]
) -> None:
    values = {"base_url": "http://127.0.0.1:9/v1"} | {field: value}
    entered = [{"field": name, "value": text} for name, text in values.items()]

    error = await world.refused("owner", ADD_MODEL, **local(credential={"new": {"values": entered}}))
    name = await world.refused(
        "owner", ADD_MODEL, **local(credential={"new": {"name": "x" * 65, "values": entered[:1]}})
    )

    assert (error["code"], error["path"]) == ("INVALID_INPUT", path)
    assert name["code"] == "INVALID_INPUT"
    models = await world.data("owner", '{ workspace { models(provider: "openai_compatible") { totalCount } } }')
    assert models["workspace"]["models"]["totalCount"] == 0


async def test_the_last_credential_of_a_custom_model_takes_it_along(world: World) -> None:
    added = (await world.change("owner", ADD_MODEL, **local()))["model"]
    (credential,) = (await world.data("owner", "{ workspace { credentials { nodes { id level model { name } } } } }"))[
        "workspace"
    ]["credentials"]["nodes"]

    deleted = await world.change("owner", DELETE, id=credential["id"])

    assert (credential["level"], credential["model"]) == ("MODEL", {"name": "local"})
    assert (deleted["deletedModelId"], deleted["model"]) == (added["id"], None)


async def test_a_model_is_switched_off_and_says_so(world: World) -> None:
    model_id = ids.encode("Model", world.home.id, "echo", "LLM", "echo")

    off = await world.change("admin", ENABLE, id=model_id, enabled=False)
    refused = await world.refused("member", ENABLE, id=model_id, enabled=True)
    unknown = await world.refused("stranger", ENABLE, id=model_id, enabled=True)
    garbage = await world.refused("admin", ENABLE, id="garbage", enabled=True)

    assert off["model"] == {
        "id": model_id, "enabled": False, "status": "DISABLED", "problem": {"code": "MODEL_DISABLED"},
    }  # fmt: skip
    assert [error["code"] for error in (refused, unknown, garbage)] == ["FORBIDDEN", "NOT_FOUND", "NOT_FOUND"]


async def test_defaults_are_set_all_or_none(world: World) -> None:
    good = {"type": "LLM", "model": ECHO}
    bad = {"type": "RERANK", "model": ECHO}

    error = await world.refused("owner", DEFAULTS, defaults=[good, bad])
    before = await world.data("owner", "{ workspace { defaultModels { type model { name } } } }")
    after = await world.change("owner", DEFAULTS, defaults=[good])

    assert error == {"code": "MODEL_TYPE_MISMATCH", "path": ["defaults", "1", "model"]}
    assert [one["model"] for one in before["workspace"]["defaultModels"]] == [None] * 6
    assert after["defaultModels"][0] == {"type": "LLM", "model": {"name": "echo", "isDefault": True}, "problem": None}


async def test_a_route_tells_what_a_call_would_do(world: World) -> None:
    query = """query ($model: ModelReferenceInput, $fallbacks: [ModelReferenceInput!]) { workspace { route(model: $model, fallbacks: $fallbacks) {
      model { name } providerType candidates { model { name } usable reason credential { name } } problem { code } } } }"""

    free = await world.data("owner", query, model=ECHO, fallbacks=[{"provider": "echo", "name": "echo-reasoning"}])
    missing = await world.data("owner", query, model={"provider": "openai", "name": "gpt-4o"})
    none = await world.data("owner", query)

    candidates = free["workspace"]["route"].pop("candidates")
    assert free["workspace"]["route"] == {"model": {"name": "echo"}, "providerType": "CUSTOM", "problem": None}
    assert [(one["model"]["name"], one["usable"], one["credential"]) for one in candidates] == [
        ("echo", True, None),
        ("echo-reasoning", True, None),
    ]
    assert missing["workspace"]["route"]["problem"] == {"code": "CREDENTIAL_MISSING"}
    assert none["workspace"]["route"] == {
        "model": None, "providerType": None, "candidates": [], "problem": {"code": "MODEL_NOT_FOUND"},
    }  # fmt: skip


async def test_providers_and_models_are_listed_in_the_order_of_their_manifests(shared_world: World) -> None:
    query = """{ workspace {
      providers { nodes { name label customStatus systemStatus preferredType preferredTypeChosen canAddModel
        configurationMethods credentialForm { name type required } modelCredentialForm(type: LLM) { name decidesHost } } }
      free: providers(configured: true) { nodes { name } }
      models(provider: "echo") { totalCount nodes { name status problem { code } pricing { currency } } }
      tools: models(first: 1, features: [TOOL_CALL, VISION], search: "ECHO") { totalCount nodes { name } }
      disabled: models(status: [DISABLED]) { totalCount } } }"""

    found = (await shared_world.data("member", query))["workspace"]

    named = {one["name"]: one for one in found["providers"]["nodes"]}
    openai, compatible, echo = named["openai"], named["openai_compatible"], named["echo"]
    assert list(named) == [manifest.name for manifest in CATALOG.manifests()]
    assert (openai["customStatus"], openai["systemStatus"]) == ("NO_CONFIGURE", "UNSUPPORTED")
    assert (openai["preferredType"], openai["preferredTypeChosen"]) == ("CUSTOM", False)
    assert {"name": "api_key", "type": "SECRET", "required": True} in openai["credentialForm"]
    assert compatible["credentialForm"] == []
    assert {"name": "base_url", "decidesHost": True} in compatible["modelCredentialForm"]
    assert (echo["customStatus"], echo["canAddModel"]) == ("ACTIVE", False)
    assert found["free"]["nodes"] == [{"name": "echo"}]
    assert [one["name"] for one in found["models"]["nodes"]][:2] == ["echo", "echo-reasoning"]
    assert all((one["status"], one["problem"]) == ("ACTIVE", None) for one in found["models"]["nodes"])
    assert found["tools"] == {"totalCount": 1, "nodes": [{"name": "echo"}]}
    assert found["disabled"]["totalCount"] == 0


async def test_pages_meet_without_gap_or_repeat(shared_world: World) -> None:
    query = """query ($first: Int, $after: String, $last: Int, $before: String) { workspace {
      models(first: $first, after: $after, last: $last, before: $before, provider: "openai", includeDeprecated: true) {
        totalCount nodes { id } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } } }"""

    async def page(**given: Any) -> Any:
        return (await shared_world.data("member", query, **given))["workspace"]["models"]

    whole = await page(first=100)
    forwards: list[Any] = []
    after = None
    while True:
        part = await page(first=1, after=after)
        forwards += part["nodes"]
        after = part["pageInfo"]["endCursor"]
        if not part["pageInfo"]["hasNextPage"]:
            break
    backwards: list[Any] = []
    before = None
    while True:
        part = await page(last=2, before=before)
        backwards = part["nodes"] + backwards
        before = part["pageInfo"]["startCursor"]
        if not part["pageInfo"]["hasPreviousPage"]:
            break

    assert forwards == backwards == whole["nodes"]
    assert len(forwards) == whole["totalCount"] > 3


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ("first: 0", ["first"]),
        ("first: 101", ["first"]),
        ("last: -1", ["last"]),
        ("first: 1, last: 1", ["last"]),
        ('after: "x"', ["after"]),
        ('before: "bm90IGpzb24"', ["before"]),
        ('after: "W1sxXV0"', ["after"]),
    ],
)
@pytest.mark.parametrize("field", ["members", "models", "invocations"])
async def test_a_page_that_cannot_be_is_refused(
    shared_world: World, field: str, arguments: str, path: list[str]
) -> None:
    answer = await shared_world.ask("owner", f"{{ workspace {{ {field}({arguments}) {{ totalCount }} }} }}")

    assert [error["extensions"] for error in answer["errors"]] == [
        {"code": "INVALID_INPUT", "retryable": False, "path": path}
    ]


# ---- workspaces


async def test_a_workspace_is_found_by_id_by_slug_or_as_the_only_one(shared_world: World) -> None:
    query = "query ($id: ID, $slug: String) { workspace(id: $id, slug: $slug) { slug viewerRole } }"
    home = {"workspace": {"slug": "home", "viewerRole": "MEMBER"}}

    assert await shared_world.data("member", query) == home
    assert await shared_world.data("member", query, slug="home") == home
    assert await shared_world.data("member", query, id=ids.encode("Workspace", shared_world.home.id)) == home
    for nothing in ({"slug": "away"}, {"slug": "nowhere"}, {"id": "garbage"}):
        assert await shared_world.data("member", query, **nothing) == {"workspace": None}
    assert codes(await shared_world.ask("operator", query)) == [("workspace", "INVALID_INPUT")]


async def test_a_workspaces_own_slug_is_unique(world: World) -> None:
    query = "mutation ($input: CreateWorkspaceInput!) { createWorkspace(input: $input) { workspace { slug } errors { code path } } }"

    made = await world.change("owner", query, name="Blue team", slug="blue")
    again = await world.refused("stranger", query, name="Another", slug="blue")
    wrong = await world.refused("owner", query, name="Wrong", slug="No good")

    assert made["workspace"] == {"slug": "blue"}
    assert again["code"] == "ALREADY_EXISTS"
    assert wrong == {"code": "INVALID_INPUT", "path": ["slug"]}


# ---- tokens


async def test_a_token_is_shown_once_and_ends_at_once(world: World) -> None:
    home = ids.encode("Workspace", world.home.id)

    made = await world.change("owner", TOKEN, workspaceId=home, service=True, name="ci", role="EDITOR")
    listed = await world.data("owner", "{ workspace { apiTokens { nodes { id } } } }")
    revoked = await world.change("admin", REVOKE, id=made["apiToken"]["id"])
    after = await world.data("owner", "{ workspace { apiTokens { nodes { id } } } }")
    all_of_them = await world.data("owner", "{ workspace { apiTokens(includeRevoked: true) { nodes { id } } } }")

    token = made["apiToken"]
    assert made["secret"].startswith(token["prefix"])
    assert (token["role"], token["account"], token["createdBy"]) == ("EDITOR", None, {"name": "owner"})
    assert {"id": token["id"]} in listed["workspace"]["apiTokens"]["nodes"]
    assert revoked["apiToken"]["revokedAt"] is not None
    assert {"id": token["id"]} not in after["workspace"]["apiTokens"]["nodes"]
    assert {"id": token["id"]} in all_of_them["workspace"]["apiTokens"]["nodes"]


@pytest.mark.parametrize(
    ("principal", "given", "code", "path"),
    [
        ("owner", {"requestsPerMinute": 0}, "INVALID_INPUT", ["requestsPerMinute"]),
        ("owner", {"tokensPerMinute": 1_000_000_001}, "INVALID_INPUT", ["tokensPerMinute"]),
        ("owner", {"budget": {"limit": "0", "currency": "USD", "period": "DAY"}}, "INVALID_INPUT", ["budget", "limit"]),
        (
            "owner",
            {"budget": {"limit": "1", "currency": "usd", "period": "DAY"}},
            "INVALID_INPUT",
            ["budget", "currency"],
        ),
        ("owner", {"expiresAt": "2001-01-01T00:00:00Z"}, "INVALID_INPUT", ["expiresAt"]),
        ("owner", {"name": " "}, "INVALID_INPUT", ["name"]),
        ("owner", {"credentialIds": ["garbage"]}, "NOT_FOUND", ["credentialIds", "0"]),
        ("member", {"service": True}, "FORBIDDEN", []),
        ("member", {"role": "ADMIN"}, "FORBIDDEN", ["role"]),
        ("stranger", {}, "NOT_FOUND", []),
        ("service", {}, "FORBIDDEN", []),
    ],
)
async def test_a_token_that_may_not_be_is_refused(
    world: World, principal: str, given: dict[str, Any], code: str, path: list[str]
) -> None:
    home = ids.encode("Workspace", world.home.id)

    error = await world.refused(principal, TOKEN, **{"workspaceId": home, "name": "x", "role": "MEMBER"} | given)

    assert error == {"code": code, "path": path}
    listed = await world.data("owner", "{ workspace { apiTokens { totalCount } } }")
    assert listed["workspace"]["apiTokens"]["totalCount"] == 1


async def test_the_viewer_knows_its_token(shared_world: World) -> None:
    query = "{ viewer { isOperator account { name } workspace { slug } token { name workspace { slug } role } } }"

    personal = (await shared_world.data("member", query))["viewer"]
    service = (await shared_world.data("service", query))["viewer"]

    assert personal == {
        "isOperator": False, "account": {"name": "member"}, "workspace": None,
        "token": {"name": "member", "workspace": None, "role": "OWNER"},
    }  # fmt: skip
    assert service == {
        "isOperator": False, "account": None, "workspace": {"slug": "home"},
        "token": {"name": "service", "workspace": {"slug": "home"}, "role": "MEMBER"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("misplaced", "said"),
    [
        ({"valuez": OPENAI_KEY}, "unknown field 'valuez'"),
        ({"verify": OPENAI_KEY}, "Boolean cannot represent a non boolean value."),
        ({"model": {"name": "m", "type": OPENAI_KEY}}, "does not exist in 'ModelType' enum"),
        ({"values": [{"value": OPENAI_KEY}]}, "required field 'field'"),
        ({"values": [{"field": {"a": OPENAI_KEY}}]}, "String cannot represent a non string value."),
        ({"values": OPENAI_KEY}, "to be an object"),
    ],
)
async def test_a_secret_in_the_wrong_place_is_not_said_back(world: World, misplaced: dict[str, Any], said: str) -> None:
    answer = await world.ask("owner", CREATE, input={"provider": "openai", "values": [], **misplaced})

    (error,) = answer["errors"]
    assert said in error["message"]
    assert OPENAI_KEY not in str(answer)
    assert error["extensions"]["code"] == "BAD_REQUEST"


async def test_a_secret_written_into_the_document_is_not_said_back(world: World) -> None:
    query = f"""mutation {{ createCredential(input: {{ provider: "openai", values: [], verify: "{OPENAI_KEY}", other: "{OPENAI_KEY}" }})
      {{ errors {{ code }} }} }}"""

    answer = await world.ask("owner", query)

    assert [error["message"].partition(" ")[0] for error in answer["errors"]] == ["Boolean", "Expected"]
    assert OPENAI_KEY not in str(answer)

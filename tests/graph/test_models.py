"""Models as a workspace keeps them: added, attached to, labelled, removed and added again, priced, listed."""

from typing import Any

import pytest

from core.manifest_files import FOLDER, read_manifest
from core.model_types import ModelKey, ModelType
from graph import ids
from tests.graph.world import World

KEY = "sk-0123456789abcdefghijklmnop"
ECHO_MODELS = [card.name for card in read_manifest(FOLDER / "echo.toml").models]
ADD = """mutation ($input: AddModelInput!) { addModel(input: $input) {
  model { id name label source status activeCredential { name } contextWindow features parameterRules { name max }
    credentials { nodes { id name level } } } errors { code message path } } }"""
UPDATE = """mutation ($input: UpdateModelInput!) { updateModel(input: $input) { model { id label } errors { code message path } } }"""
REMOVE = """mutation ($input: RemoveModelInput!) { removeModel(input: $input) {
  deletedId provider { customStatus removedModels { name type credentials { id name } } models { totalCount } }
  errors { code message path } } }"""
PRICE = """mutation ($input: SetModelPricingInput!) { setModelPricing(input: $input) {
  model { pricing { currency input output cachedInput cacheWrite unit overridden } } errors { code message path } } }"""
CREATE = """mutation ($input: CreateCredentialInput!) { createCredential(input: $input) {
  credential { id isActive } model { activeCredential { id } contextWindow } errors { code path } } }"""
ACTIVATE = """mutation ($input: ActivateCredentialInput!) { activateCredential(input: $input) {
  credential { isActive } model { contextWindow } errors { code message path } } }"""
DELETE = """mutation ($input: DeleteCredentialInput!) { deleteCredential(input: $input) {
  deletedModelId provider { removedModels { name } } errors { code path } } }"""
DEFAULT = """mutation ($input: SetDefaultModelsInput!) { setDefaultModels(input: $input) { errors { code path } } }"""
ENABLE = """mutation ($input: SetModelEnabledInput!) { setModelEnabled(input: $input) { model { status } errors { code } } }"""
REMOVED = '{ workspace { provider(name: "openai_compatible") { removedModels { name credentials { name } } models { totalCount } } } }'
MODELS = """query ($provider: String, $search: String, $status: [ModelStatus!], $features: [ModelFeature!], $type: ModelType, $after: String) {
  workspace { models(first: 100, after: $after, provider: $provider, search: $search, status: $status, features: $features, type: $type) {
    nodes { name source } pageInfo { hasNextPage endCursor } } } }"""


def local(name: str = "local", credential: str | None = None, **values: str) -> dict[str, Any]:
    entered = {"base_url": "http://127.0.0.1:9/v1", "api_key": KEY} | values
    new = {"name": credential, "values": [{"field": field, "value": value} for field, value in entered.items()]}
    model = {"provider": "openai_compatible", "name": name, "type": "LLM"}
    return {"model": model, "credential": {"new": new}, "verify": False}


async def names(world: World, **given: Any) -> list[str]:
    found: list[str] = []
    after = None
    while True:
        page = (await world.data("member", MODELS, after=after, **given))["workspace"]["models"]
        found += [one["name"] for one in page["nodes"]]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            return found


async def test_a_credential_is_attached_to_a_model_that_is_there(world: World) -> None:
    first = await world.change("owner", ADD, **local(credential="first", context_size="8192"), label="Mine")
    second = await world.change("owner", ADD, **local(credential="second", context_size="4096"))
    third = await world.change(
        "owner", CREATE, provider="openai_compatible", model={"name": "local", "type": "LLM"}, verify=False,
        values=[{"field": "base_url", "value": "http://127.0.0.1:9/v1"}],
    )  # fmt: skip

    assert second["model"]["id"] == first["model"]["id"]
    assert (second["model"]["label"], second["model"]["contextWindow"]) == ("Mine", 8192)
    assert second["model"]["activeCredential"] == {"name": "first"}
    assert [one["name"] for one in second["model"]["credentials"]["nodes"]] == ["first", "second"]
    assert third["credential"]["isActive"] is False


async def test_the_credential_that_becomes_active_describes_a_custom_model(world: World) -> None:
    await world.change("owner", ADD, **local(credential="first", context_size="8192"))
    added = await world.change("owner", ADD, **local(credential="second", context_size="4096"))
    second = next(one for one in added["model"]["credentials"]["nodes"] if one["name"] == "second")

    activated = await world.change("owner", ACTIVATE, id=second["id"])

    assert activated == {"credential": {"isActive": True}, "model": {"contextWindow": 4096}, "errors": []}


async def test_a_custom_model_is_what_its_form_values_say_and_else_the_manifests_default(world: World) -> None:
    plain = (await world.change("owner", ADD, **local("plain")))["model"]
    said = (await world.change(
        "owner", ADD, **local("said", context_size="16000", max_output_tokens="1000", supports_vision="true",
                              supports_tools="false"),
    ))["model"]  # fmt: skip

    def highest(model: Any) -> Any:
        return next(rule["max"] for rule in model["parameterRules"] if rule["name"] == "max_tokens")

    assert (said["contextWindow"], highest(said)) == (16000, 1000)
    assert "VISION" in said["features"]
    assert "VISION" not in plain["features"]
    assert "TOOL_CALL" not in said["features"]
    assert plain["contextWindow"] != 16000


async def test_a_credential_is_attached_to_a_predefined_model_and_the_model_stays_what_it_is(world: World) -> None:
    given = {
        "model": {"provider": "openai", "name": "gpt-4o", "type": "LLM"},
        "credential": {"new": {"name": "own", "values": [{"field": "api_key", "value": KEY}]}},
        "verify": False,
    }

    added = await world.change("owner", ADD, **given)
    labelled = await world.refused("owner", ADD, **given, label="Mine")
    removed = await world.refused("owner", REMOVE, id=added["model"]["id"])
    updated = await world.refused("owner", UPDATE, id=added["model"]["id"], label="Mine")

    assert (added["model"]["source"], added["model"]["activeCredential"]) == ("PREDEFINED", {"name": "own"})
    assert [(error["code"], error["path"]) for error in (labelled, removed, updated)] == [
        ("INVALID_INPUT", ["label"]), ("INVALID_INPUT", ["id"]), ("INVALID_INPUT", ["label"]),
    ]  # fmt: skip
    stored = await world.data("owner", '{ workspace { credentials(provider: "openai") { totalCount } } }')
    assert stored["workspace"]["credentials"]["totalCount"] == 1


async def test_a_label_is_changed_and_cleared(world: World) -> None:
    model_id = (await world.change("owner", ADD, **local()))["model"]["id"]

    labelled = await world.change("admin", UPDATE, id=model_id, label=" My model ")
    left_out = await world.change("admin", UPDATE, id=model_id)
    long = await world.refused("admin", UPDATE, id=model_id, label="x" * 201)
    cleared = await world.change("admin", UPDATE, id=model_id, label=None)
    others = [
        (await world.refused(principal, UPDATE, id=model_id, label="x"))["code"]
        for principal in ("member", "editor", "service", "stranger")
    ]

    assert [one["model"]["label"] for one in (labelled, left_out, cleared)] == ["My model", "My model", "local"]
    assert (long["code"], long["path"]) == ("INVALID_INPUT", ["label"])
    assert others == ["FORBIDDEN"] * 3 + ["NOT_FOUND"]


async def test_a_removed_model_keeps_its_credentials_and_is_added_again_by_one(world: World) -> None:
    first = (await world.change("owner", ADD, **local(credential="first", context_size="8192"), label="Mine"))["model"]
    await world.change("owner", ADD, **local(credential="second"))
    await world.change(
        "owner", DEFAULT, defaults=[{"type": "LLM", "model": {"provider": "openai_compatible", "name": "local"}}]
    )
    await world.change("owner", ENABLE, id=first["id"], enabled=False)

    removed = await world.change("admin", REMOVE, id=first["id"])
    (kept,) = removed["provider"]["removedModels"]
    conflict = await world.refused("owner", ACTIVATE, id=kept["credentials"][1]["id"])
    defaults = await world.data("owner", "{ workspace { defaultModels { type model { name } } } }")
    twice = await world.refused("owner", REMOVE, id=first["id"])
    again = await world.change(
        "owner", ADD, model=local()["model"], credential={"existingId": kept["credentials"][0]["id"]}
    )

    assert removed["deletedId"] == first["id"]
    assert removed["provider"]["models"]["totalCount"] == 0
    assert (kept["name"], kept["type"], [one["name"] for one in kept["credentials"]]) == (
        "local", "LLM", ["first", "second"],
    )  # fmt: skip
    assert (conflict["code"], conflict["path"]) == ("CONFLICT", ["id"])
    assert "addModel" in conflict["message"]
    assert {one["model"] for one in defaults["workspace"]["defaultModels"]} == {None}
    assert (twice["code"], twice["path"]) == ("NOT_FOUND", ["id"])
    assert (again["model"]["id"], again["model"]["label"], again["model"]["status"]) == (first["id"], "local", "ACTIVE")
    assert (again["model"]["contextWindow"], again["model"]["activeCredential"]) == (8192, {"name": "first"})
    assert (await world.data("owner", REMOVED))["workspace"]["provider"] == {
        "removedModels": [], "models": {"totalCount": 1},
    }  # fmt: skip


async def test_a_removed_model_is_listed_until_its_last_credential_is_deleted(world: World) -> None:
    added = (await world.change("owner", ADD, **local()))["model"]
    await world.change("owner", REMOVE, id=added["id"])

    listed = await world.data("owner", REMOVED)
    hidden = await world.ask("member", REMOVED)
    deleted = await world.change("owner", DELETE, id=added["credentials"]["nodes"][0]["id"])

    assert listed["workspace"]["provider"]["removedModels"] == [
        {"name": "local", "credentials": [{"name": "API key 1"}]}
    ]
    assert hidden["data"]["workspace"]["provider"]["removedModels"] is None
    assert deleted == {"deletedModelId": None, "provider": {"removedModels": []}, "errors": []}


async def test_a_kept_credential_belongs_to_its_model_and_workspace(world: World) -> None:
    other = (await world.change("owner", ADD, **local("other")))["model"]["credentials"]["nodes"][0]["id"]
    existing = {"model": local()["model"], "credential": {"existingId": other}}

    wrong = await world.refused("owner", ADD, **existing)
    foreign = await world.refused("stranger", ADD, **existing)
    garbage = await world.refused("owner", ADD, **existing | {"credential": {"existingId": "garbage"}})

    assert (wrong["code"], wrong["path"]) == ("INVALID_INPUT", ["credential", "existingId"])
    assert {(error["code"], tuple(error["path"])) for error in (foreign, garbage)} == {
        ("NOT_FOUND", ("credential", "existingId"))
    }
    assert await names(world, provider="openai_compatible") == ["other"]


@pytest.mark.parametrize(
    ("model", "code", "path"),
    [
        ({"provider": "echo", "name": "x", "type": "LLM"}, "INVALID_INPUT", ["model", "provider"]),
        ({"provider": "nothing", "name": "x", "type": "LLM"}, "NOT_FOUND", ["model", "provider"]),
        ({"provider": "openai_compatible", "name": " ", "type": "LLM"}, "INVALID_INPUT", ["model", "name"]),
        ({"provider": "openai_compatible", "name": "x" * 201, "type": "LLM"}, "INVALID_INPUT", ["model", "name"]),
    ],
)
async def test_a_model_that_cannot_be_added_is_refused_by_name(
    world: World, model: dict[str, str], code: str, path: list[str]
) -> None:
    error = await world.refused("owner", ADD, **local() | {"model": model})

    assert (error["code"], error["path"]) == (code, path)


async def test_a_price_of_the_workspaces_own_stands_in_place_of_the_manifests(world: World) -> None:
    model_id = ids.model_id(world.home.id, _key("gpt-4o"))
    manifests = (await world.change("owner", PRICE, id=model_id))["model"]["pricing"]

    own = await world.change(
        "admin", PRICE, id=model_id, pricing={"currency": "EUR", "input": "1.250", "output": "0", "cachedInput": "0.5"}
    )
    cleared = await world.change("admin", PRICE, id=model_id, pricing=None)
    member = await world.refused("member", PRICE, id=model_id, pricing=None)

    assert manifests["overridden"] is False
    assert own["model"]["pricing"] == {
        "currency": "EUR", "input": "1.250", "output": "0", "cachedInput": "0.5", "cacheWrite": None,
        "unit": "TOKEN", "overridden": True,
    }  # fmt: skip
    assert cleared["model"]["pricing"] == manifests
    assert member["code"] == "FORBIDDEN"


@pytest.mark.parametrize(
    ("pricing", "path"),
    [
        ({"currency": "euro", "input": "1"}, "currency"),
        ({"currency": "EUR", "input": "-1"}, "input"),
        ({"currency": "EUR", "input": "1000000001"}, "input"),
        ({"currency": "EUR", "input": "0.00000000001"}, "input"),
        ({"currency": "EUR", "input": "1", "output": "-0.01"}, "output"),
        ({"currency": "EUR", "input": "1", "cachedInput": "1e99"}, "cachedInput"),
        ({"currency": "EUR", "input": "1", "output": "1", "unit": "CHARACTER"}, "output"),
    ],
)
async def test_a_price_that_is_none_is_refused_and_changes_nothing(
    world: World, pricing: dict[str, str], path: str
) -> None:
    model_id = ids.model_id(world.home.id, _key("gpt-4o"))

    error = await world.refused("owner", PRICE, id=model_id, pricing=pricing)
    after = await world.change("owner", PRICE, id=model_id)

    assert (error["code"], error["path"]) == ("INVALID_INPUT", ["pricing", path])
    assert after["model"]["pricing"]["overridden"] is False


async def test_models_are_listed_by_provider_and_manifest_then_by_name_under_every_filter(world: World) -> None:
    for name in ("zebra", "alpha", "middle"):
        await world.change("owner", ADD, **local(name, supports_vision=str(name == "zebra").lower()))
    added = await world.change(
        "owner", ADD, model={"provider": "openai", "name": "a-tuned", "type": "LLM"}, verify=False,
        credential={"new": {"values": [{"field": "api_key", "value": KEY}]}},
    )  # fmt: skip

    everything = await names(world)
    of_openai = await names(world, provider="Open AI")

    assert added["model"]["source"] == "CUSTOM"
    assert of_openai[-1] == "a-tuned", "after those of the manifest"
    here = [*of_openai, "alpha", "middle", "zebra", *ECHO_MODELS]
    assert [name for name in everything if name in here] == here
    assert await names(world, provider="openai_compatible", features=["VISION"]) == ["zebra"]
    assert await names(world, search="ALPH") == ["alpha"]
    assert await names(world, status=["ACTIVE"]) == ["a-tuned", "alpha", "middle", "zebra", *ECHO_MODELS]
    assert set(await names(world, provider="openai", status=["NO_CONFIGURE"])) == set(of_openai) - {"a-tuned"}
    assert await names(world, status=[]) == []
    assert await names(world, provider="echo", type="RERANK") == ["echo-rerank"]
    assert await names(world, provider="openai", type="RERANK") == []
    assert await names(world, provider="nothing") == []


def _key(name: str) -> ModelKey:
    return ModelKey(provider="openai", name=name, type=ModelType.LLM)

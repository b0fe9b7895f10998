"""Credentials as their owners change them: kept secrets, hosts, versions, validation, and what a deletion takes along."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

import core.validation
from core.jobs import ValidateCredential
from core.settings import Settings
from graph import ids
from storage.audit import audit_entries
from storage.resources import open_app, open_resources
from storage.transaction import SqlStorage
from tests.conftest import MovableClock, settings_for, sqlite_in
from tests.fake_provider import FakeProvider
from tests.graph.world import World, make_world
from tests.waiting import LIMIT_S
from workers.main import make_worker
from workers.revalidate_credentials import revalidate_credentials
from workers.validate_credential import validate_credential

KEY = "sk-0123456789abcdefghijklmnop"
OTHER_KEY = "sk-zyxwvutsrqponmlkjihgfedcba"
SHOWN = "id name version status isActive problem { code message } values { field value } keyVersion"
ADD_MODEL = f"""mutation ($input: AddModelInput!) {{ addModel(input: $input) {{
  model {{ id contextWindow activeCredential {{ {SHOWN} }} }} errors {{ code message path }} }} }}"""
CREATE = f"""mutation ($input: CreateCredentialInput!) {{ createCredential(input: $input) {{
  credential {{ {SHOWN} }} provider {{ preferredType }} model {{ activeCredential {{ name }} }} errors {{ code message path }} }} }}"""
UPDATE = f"""mutation ($input: UpdateCredentialInput!) {{ updateCredential(input: $input) {{
  credential {{ {SHOWN} }} provider {{ name }} model {{ contextWindow features }} errors {{ code message path }} }} }}"""
VALIDATE = f"""mutation ($input: ValidateCredentialInput!) {{ validateCredential(input: $input) {{
  credential {{ {SHOWN} validatedAt }} errors {{ code path }} }} }}"""
ACTIVATE = """mutation ($input: ActivateCredentialInput!) { activateCredential(input: $input) {
  credential { id isActive } model { activeCredential { name } contextWindow } errors { code message path } } }"""
DELETE = """mutation ($input: DeleteCredentialInput!) { deleteCredential(input: $input) {
  deletedId deletedModelId provider { customStatus activeCredential { id } }
  model { status problem { code } credentials { totalCount } } errors { code path } } }"""
PREFER = """mutation ($input: SetPreferredProviderTypeInput!) { setPreferredProviderType(input: $input) {
  provider { preferredType preferredTypeChosen } errors { code message path } } }"""
DEFAULTS = """mutation ($input: SetDefaultModelsInput!) { setDefaultModels(input: $input) {
  defaultModels { type model { name status problem { code } } problem { code } } errors { code message path } } }"""
READ = f"query ($id: ID!) {{ node(id: $id) {{ ... on Credential {{ {SHOWN} }} }} }}"


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeProvider]:
    with FakeProvider() as provider:
        yield provider


@pytest.fixture
def provider(upstream: FakeProvider) -> FakeProvider:
    upstream.reset()
    return upstream


@pytest.fixture
def world_settings(sqlite_template: Path, redis_url: str, tmp_path: Path) -> Settings:
    return settings_for(
        sqlite_in(tmp_path, sqlite_template), redis_url, tmp_path, EGRESS_ALLOW="127.0.0.0/8:*", FIRST_BYTE_SECONDS="1"
    )


@pytest.fixture
async def world(world_settings: Settings) -> AsyncIterator[World]:
    async with open_app(world_settings) as app:
        yield await make_world(app)


def entered(**values: str | None) -> list[dict[str, str | None]]:
    return [{"field": field, "value": value} for field, value in values.items()]


async def add(world: World, provider: FakeProvider, *, name: str = "local", **more: Any) -> Any:
    """Add a custom model with a credential and return that."""
    values = {"base_url": provider.url, "api_key": KEY, "context_size": "8192"} | more.pop("values", {})
    payload = await world.change(
        "owner",
        ADD_MODEL,
        model={"provider": "openai_compatible", "name": name, "type": "LLM"},
        credential={"new": {"values": entered(**values), "name": more.pop("credential", None)}},
        **more,
    )
    return payload["model"]["activeCredential"]


async def echo(world: World, name: str | None = None, **more: Any) -> Any:
    made = await world.change("owner", CREATE, provider="echo", name=name, values=entered(prefix="so"), **more)
    return made["credential"]


def values_of(credential: Any) -> dict[str, str]:
    return {value["field"]: value["value"] for value in credential["values"]}


async def test_an_update_keeps_what_is_left_out_and_describes_the_model_anew(
    world: World, provider: FakeProvider
) -> None:
    made = await add(world, provider)
    provider.reset()

    changed = await world.change(
        "admin", UPDATE, id=made["id"], values=entered(context_size="4096", supports_vision="true")
    )

    credential = changed["credential"]
    assert values_of(credential) == values_of(made) | {"context_size": "4096", "supports_vision": "true"}
    assert (credential["version"], credential["status"], credential["name"]) == (2, "VALID", "API key 1")
    assert changed["model"]["contextWindow"] == 4096
    assert "VISION" in changed["model"]["features"]
    assert {call.key for call in provider.requests} == {KEY}, "asked with the kept key"


async def test_null_clears_what_is_optional_and_not_what_is_required(world: World, provider: FakeProvider) -> None:
    made = await add(world, provider)

    cleared = await world.change("owner", UPDATE, id=made["id"], values=entered(context_size=None))
    refused = await world.refused("owner", UPDATE, id=made["id"], values=entered(base_url=None))

    assert "context_size" not in values_of(cleared["credential"])
    assert (refused["code"], refused["path"]) == ("INVALID_INPUT", ["values", "base_url"])


async def test_a_stored_secret_never_travels_to_another_host(world: World, provider: FakeProvider) -> None:
    made = await add(world, provider)
    moved = provider.url.replace("127.0.0.1", "localhost")
    provider.reset()

    refused = await world.refused("owner", UPDATE, id=made["id"], values=entered(base_url=moved))
    after = (await world.data("owner", READ, id=made["id"]))["node"]

    assert (refused["code"], refused["path"]) == ("INVALID_INPUT", ["values", "api_key"])
    assert after == made
    assert provider.requests == []
    with_key = await world.change("owner", UPDATE, id=made["id"], values=entered(base_url=moved, api_key=OTHER_KEY))
    assert values_of(with_key["credential"])["base_url"] == moved
    assert {call.key for call in provider.requests} == {OTHER_KEY}


async def test_values_that_the_provider_refuses_change_nothing(world: World, provider: FakeProvider) -> None:
    made = await add(world, provider)

    refused = await world.refused("owner", UPDATE, id=made["id"], values=entered(api_key="sk-x:unauthorized"))
    silent = await world.refused("owner", UPDATE, id=made["id"], values=entered(api_key="sk-x:server_error"))
    after = (await world.data("owner", READ, id=made["id"]))["node"]

    assert (refused["code"], refused["path"]) == ("CREDENTIAL_INVALID", ["values"])
    assert "sk-x" not in refused["message"]
    assert silent["code"] == "UPSTREAM_UNAVAILABLE"
    assert after == made


async def test_an_update_that_is_not_verified_waits_for_its_validation(world: World, provider: FakeProvider) -> None:
    made = await add(world, provider)
    provider.answers("unauthorized", key=OTHER_KEY)

    changed = await world.change("owner", UPDATE, id=made["id"], values=entered(api_key=OTHER_KEY), verify=False)
    renamed = await world.change("owner", UPDATE, id=made["id"], name="other")
    await _work(world)
    after = (await world.data("owner", READ, id=made["id"]))["node"]

    assert changed["credential"]["status"] == "UNVERIFIED"
    assert (renamed["credential"]["status"], renamed["credential"]["version"]) == ("UNVERIFIED", 3)
    assert (after["status"], after["problem"]["code"]) == ("INVALID", "UPSTREAM_AUTHENTICATION")
    assert OTHER_KEY not in str(after)


async def test_names_are_changed_alone_and_stay_unique(world: World) -> None:
    first, second = await echo(world), await echo(world)

    renamed = await world.change("owner", UPDATE, id=first["id"], name=" main ")
    taken = await world.refused("owner", UPDATE, id=second["id"], name="main")
    long = await world.refused("owner", UPDATE, id=second["id"], name="x" * 65)
    empty = await world.refused("owner", UPDATE, id=second["id"], name=" ")
    cleared = await world.change("owner", UPDATE, id=first["id"], name=None)

    assert (renamed["credential"]["name"], renamed["credential"]["status"]) == ("main", "VALID")
    assert (taken["code"], taken["path"]) == ("ALREADY_EXISTS", ["name"])
    assert [(error["code"], error["path"]) for error in (long, empty)] == [("INVALID_INPUT", ["name"])] * 2
    assert cleared["credential"]["name"] == "API key 1"
    assert (await world.data("owner", READ, id=second["id"]))["node"] == second


async def test_a_stale_version_is_a_conflict_and_changes_nothing(world: World) -> None:
    made = await echo(world)

    good = await world.change("owner", UPDATE, id=made["id"], values=entered(prefix="one"), expectedVersion=1)
    stale = await world.refused("admin", UPDATE, id=made["id"], values=entered(prefix="two"), expectedVersion=1)
    after = (await world.data("owner", READ, id=made["id"]))["node"]

    assert (stale["code"], stale["path"]) == ("CONFLICT", ["expectedVersion"])
    assert "version 2" in stale["message"]
    assert after == good["credential"]


async def test_of_concurrent_updates_of_a_version_one_wins(world: World) -> None:
    made = await echo(world)

    async def update(number: int) -> Any:
        given = {"id": made["id"], "values": entered(prefix=f"n{number}"), "expectedVersion": 1}
        return (await world.data("owner", UPDATE, input=given))["updateCredential"]

    payloads = await asyncio.gather(*(update(number) for number in range(10)))

    assert sum(payload["credential"] is not None for payload in payloads) == 1
    assert {error["code"] for payload in payloads for error in payload["errors"]} == {"CONFLICT"}
    assert (await world.data("owner", READ, id=made["id"]))["node"]["version"] == 2


@pytest.mark.parametrize("query", [UPDATE, VALIDATE, ACTIVATE, DELETE])
async def test_a_foreign_credential_is_as_unknown_as_none_and_a_member_may_not(world: World, query: str) -> None:
    made = await echo(world)
    unknown = ids.credential_id(world.home.id, world.away.id)

    answers = [
        (await world.refused(principal, query, id=credential_id))["code"]
        for principal, credential_id in (
            ("stranger", made["id"]), ("stranger", unknown), ("owner", unknown), ("owner", "garbage"),
            ("member", made["id"]), ("editor", made["id"]), ("service", made["id"]),
        )
    ]  # fmt: skip

    assert answers == ["NOT_FOUND"] * 4 + ["FORBIDDEN"] * 3
    assert (await world.data("owner", READ, id=made["id"]))["node"] == made


async def test_a_model_whose_credential_is_refused_may_be_made_the_default_and_tells(
    world: World, provider: FakeProvider
) -> None:
    made = await add(world, provider)
    provider.answers("unauthorized")
    await world.change("owner", VALIDATE, id=made["id"])
    model = {"provider": "openai_compatible", "name": "local"}

    changed = await world.change("owner", DEFAULTS, defaults=[{"type": "LLM", "model": model}])

    (default,) = [one for one in changed["defaultModels"] if one["type"] == "LLM"]
    assert default["model"] == {"name": "local", "status": "ACTIVE", "problem": {"code": "CREDENTIAL_INVALID"}}
    assert default["problem"] == {"code": "CREDENTIAL_INVALID"}


@pytest.mark.parametrize(
    ("scenario", "status", "code"),
    [
        ("unauthorized", "INVALID", "UPSTREAM_AUTHENTICATION"),
        ("forbidden", "INVALID", "UPSTREAM_PERMISSION"),
        ("server_error", "VALID", "UPSTREAM_UNAVAILABLE"),
        ("rate_limited", "VALID", "UPSTREAM_RATE_LIMITED"),
        ("hangs_up", "VALID", "UPSTREAM_UNAVAILABLE"),
    ],
)
async def test_only_a_definite_refusal_makes_a_credential_invalid(
    world: World, provider: FakeProvider, scenario: str, status: str, code: str
) -> None:
    made = await add(world, provider)
    provider.answers(scenario)

    met = (await world.change("owner", VALIDATE, id=made["id"]))["credential"]
    provider.reset()
    again = (await world.change("owner", VALIDATE, id=made["id"]))["credential"]

    assert (met["status"], met["problem"]["code"]) == (status, code)
    assert (again["status"], again["problem"]) == ("VALID", None)
    assert met["version"] == again["version"] == 1, "the status is nobody's change"


@pytest.mark.parametrize(("first", "status"), [("text", "VALID"), ("unauthorized", "INVALID")])
async def test_validations_at_once_that_learn_nothing_leave_the_status(
    world: World, provider: FakeProvider, first: str, status: str
) -> None:
    made = await add(world, provider)
    provider.answers(first)
    await world.change("owner", VALIDATE, id=made["id"])
    provider.answers("server_error")

    met = await asyncio.gather(*(world.change("owner", VALIDATE, id=made["id"]) for _ in range(5)))
    after = (await world.data("owner", READ, id=made["id"]))["node"]

    assert {payload["credential"]["id"] for payload in met} == {made["id"]}
    assert (after["status"], after["problem"]["code"]) == (status, "UPSTREAM_UNAVAILABLE")


async def test_a_call_that_the_provider_does_not_authenticate_has_its_credential_validated(
    world: World, provider: FakeProvider
) -> None:
    made = await add(world, provider)
    provider.answers("unauthorized")
    complete = """mutation ($input: CompletionInput!) { complete(input: $input) { errors { code } } }"""
    given = {
        "model": {"provider": "openai_compatible", "name": "local"},
        "messages": [{"role": "USER", "text": "hi"}],
    }

    failed = await world.data("member", complete, input=given)
    async with asyncio.timeout(LIMIT_S):
        while (await world.data("owner", READ, id=made["id"]))["node"]["status"] != "INVALID":
            await _work(world)
    refused = await world.data("member", complete, input=given)

    assert failed["complete"]["errors"] == [{"code": "UPSTREAM_AUTHENTICATION"}]
    assert refused["complete"]["errors"] == [{"code": "CREDENTIAL_INVALID"}]


async def test_every_credential_is_validated_again_a_day_after_its_last_answer(
    world_settings: Settings, provider: FakeProvider, clock: MovableClock
) -> None:
    async with open_resources(world_settings, kind="worker", clock=clock) as resources:
        world = await make_world(resources.app)
        old = await add(world, provider)
        clock.advance(timedelta(hours=23).total_seconds())
        early = await revalidate_credentials(resources)
        recent = await add(world, provider, name="recent")
        provider.answers("unauthorized")
        clock.advance(timedelta(hours=2).total_seconds())
        due = await revalidate_credentials(resources)
        twice = await revalidate_credentials(resources)
        await _work(world)
        statuses = [(await world.data("owner", READ, id=one["id"]))["node"]["status"] for one in (old, recent)]

    assert (early, due, twice) == (0, 1, 1)
    assert statuses == ["INVALID", "VALID"]
    assert [call.key for call in provider.requests].count(KEY) == 3, "once each when added, once a day later"


async def test_a_timeout_leaves_the_status_and_stores_nothing(
    world: World, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await add(world, provider)
    monkeypatch.setattr(core.validation, "LIMIT_S", 0.2)
    provider.answers("silent")

    met = (await world.change("owner", VALIDATE, id=made["id"]))["credential"]
    refused = await world.refused("owner", UPDATE, id=made["id"], values=entered(api_key=OTHER_KEY))
    after = (await world.data("owner", READ, id=made["id"]))["node"]

    assert (met["status"], met["problem"]["code"]) == ("VALID", "UPSTREAM_TIMEOUT")
    assert refused["code"] == "UPSTREAM_TIMEOUT"
    assert "verify: false" in refused["message"]
    assert (after["version"], after["status"]) == (1, "VALID")


async def test_an_interrupted_validation_leaves_the_status_as_it_was(world: World, provider: FakeProvider) -> None:
    made = await add(world, provider)
    provider.answers("silent")
    job = ValidateCredential(workspace_id=world.home.id, credential_id=ids.given_credential(made["id"]), version=1)

    running = asyncio.create_task(validate_credential(world.app, job))
    async with asyncio.timeout(LIMIT_S):
        while (await world.data("owner", READ, id=made["id"]))["node"]["status"] != "VALIDATING":
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert (await world.data("owner", READ, id=made["id"]))["node"] == made


async def test_deleting_the_active_one_leaves_none_active_and_says_so(world: World) -> None:
    first, second = await echo(world), await echo(world)

    deleted = await world.change("owner", DELETE, id=first["id"])
    after = (await world.data("owner", READ, id=second["id"]))["node"]
    third = await echo(world)

    assert deleted["deletedId"] == first["id"]
    assert (deleted["deletedModelId"], deleted["model"]) == (None, None)
    assert deleted["provider"]["activeCredential"] is None
    assert after["isActive"] is False
    assert third["isActive"] is True, "the first one where none is active becomes it"


async def test_the_last_credential_of_a_predefined_model_returns_it_to_the_providers_key(world: World) -> None:
    values = entered(api_key=KEY)
    await world.change("owner", CREATE, provider="openai", values=values, verify=False)
    of_model = {"provider": "openai", "model": {"name": "gpt-4o", "type": "LLM"}, "values": values, "verify": False}
    own = await world.change("owner", CREATE, name="own", **of_model)
    spare = await world.change("owner", CREATE, name="spare", **of_model)

    one_left = await world.change("owner", DELETE, id=own["credential"]["id"])
    none_left = await world.change("owner", DELETE, id=spare["credential"]["id"])

    assert own["model"]["activeCredential"] == spare["model"]["activeCredential"] == {"name": "own"}
    assert (one_left["model"]["status"], one_left["model"]["problem"]["code"]) == (
        "CREDENTIAL_REMOVED", "CREDENTIAL_REMOVED",
    )  # fmt: skip
    assert (none_left["model"]["status"], none_left["model"]["problem"]) == ("ACTIVE", None)
    assert (one_left["model"]["credentials"]["totalCount"], none_left["model"]["credentials"]["totalCount"]) == (2, 1)
    assert none_left["deletedModelId"] is None


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"provider": "openai_compatible"}, ["model"]),
        ({"provider": "echo", "model": {"name": "echo", "type": "LLM"}}, ["model"]),
        ({"provider": "openai", "model": {"name": "gpt-4o", "type": "RERANK"}}, ["model", "type"]),
    ],
)
async def test_what_a_providers_methods_do_not_offer_is_refused(
    world: World, given: dict[str, Any], path: list[str]
) -> None:
    error = await world.refused("owner", CREATE, values=entered(api_key=KEY), verify=False, **given)

    assert (error["code"], error["path"]) == ("INVALID_INPUT", path)


SPACED = "sk-0123 456789abcdefghijklmnop"
MISTAKES: dict[str, tuple[str, dict[str, str], str, str]] = {
    "a key with a blank": ("openai", {"api_key": SPACED}, "api_key", "holds a blank"),
    "a key of two lines": ("elevenlabs", {"api_key": "sk-0123\n456789"}, "api_key", "line breaks"),
    "a key of strange letters": ("cohere", {"api_key": "sk-ключ0123456789"}, "api_key", "characters that no key has"),
    "a service account": ("gemini", {"api_key": '{"type": "service_account"}'}, "api_key", "Vertex AI"),
    "an endpoint of Anthropic": (
        "anthropic", {"api_key": KEY, "base_url": "https://api.example.com/v1/messages"}, "base_url",
        "enter https://api.example.com.",
    ),
    "a model of Gemini": (
        "gemini", {"api_key": KEY, "base_url": "https://api.example.com/v1beta/models/gemini-3-flash:generateContent"},
        "base_url", "enter https://api.example.com.",
    ),
    "an endpoint of Cohere": (
        "cohere", {"api_key": KEY, "base_url": "https://api.example.com/v2/rerank"}, "base_url",
        "enter https://api.example.com.",
    ),
    "a voice of ElevenLabs": (
        "elevenlabs", {"api_key": KEY, "base_url": "https://api.example.com/v1/text-to-speech/abc"}, "base_url",
        "enter https://api.example.com.",
    ),
    "a URL with a query": (
        "openai", {"api_key": KEY, "base_url": "https://api.example.com/v1/chat/completions?key=secret"}, "base_url",
        "enter https://api.example.com/v1.",
    ),
    "a header of two lines": ("openai", {"api_key": KEY, "organization": "org-ключ"}, "organization", "cannot be sent"),
}  # fmt: skip
MODEL_MISTAKES: dict[str, tuple[str, dict[str, str], str, str]] = {
    "the target of Azure": (
        "azure_openai",
        {"endpoint": "https://r.openai.azure.com/openai/deployments/d/chat/completions", "deployment": "d",
         "base_model": "gpt-4o", "api_key": KEY},
        "endpoint", "https://r.openai.azure.com:",
    ),
    "a model's version": (
        "azure_openai",
        {"endpoint": "https://r.openai.azure.com", "deployment": "d", "base_model": "gpt-4o", "api_style": "dated",
         "api_version": "2024-08-06-turbo", "api_key": KEY},
        "api_version", "such as 2024-10-21",
    ),
    "an endpoint of Ollama": (
        "ollama", {"base_url": "https://host.example.com/api/chat"}, "base_url", "enter https://host.example.com.",
    ),
    "an endpoint of Xinference": (
        "xinference", {"server_url": "https://host.example.com/v1", "model_uid": "m"}, "server_url",
        "enter https://host.example.com.",
    ),
    "a header that may not be set": (
        "openai_compatible", {"base_url": "https://host.example.com/v1", "extra_headers": "Host: elsewhere"},
        "extra_headers", "cannot be used",
    ),
}  # fmt: skip


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("mistake", MISTAKES)
async def test_the_usual_mistakes_are_caught_before_anything_leaves(world: World, mistake: str, verify: bool) -> None:
    provider, values, field, says = MISTAKES[mistake]

    error = await world.refused("owner", CREATE, provider=provider, values=entered(**values), verify=verify)

    assert error["path"] == ["values", field]
    assert error["code"] == ("CREDENTIAL_INVALID" if field == "api_key" else "INVALID_INPUT")
    assert says in error["message"]
    assert "secret" not in error["message"]


@pytest.mark.parametrize("mistake", MODEL_MISTAKES)
async def test_the_usual_mistakes_with_a_model_are_caught_without_verification(world: World, mistake: str) -> None:
    provider, values, field, says = MODEL_MISTAKES[mistake]

    error = await world.refused(
        "owner",
        ADD_MODEL,
        model={"provider": provider, "name": "m", "type": "LLM"},
        credential={"new": {"values": entered(**values)}},
        verify=False,
    )

    assert (error["code"], error["path"]) == ("INVALID_INPUT", ["credential", "new", "values", field])
    assert says in error["message"]


async def test_a_preference_is_stored_until_it_is_cleared(world: World) -> None:
    chosen = await world.change("owner", PREFER, provider="Echo", type="CUSTOM")
    made = await echo(world)
    await world.change("owner", DELETE, id=made["id"])
    kept = await world.data("member", '{ workspace { provider(name: "echo") { preferredTypeChosen } } }')
    cleared = await world.change("owner", PREFER, provider="echo", type=None)
    not_hosted = await world.refused("owner", PREFER, provider="echo", type="SYSTEM")
    unknown = await world.refused("owner", PREFER, provider="nothing", type="CUSTOM")
    member = await world.refused("member", PREFER, provider="echo", type="CUSTOM")

    assert chosen["provider"] == {"preferredType": "CUSTOM", "preferredTypeChosen": True}
    assert kept["workspace"]["provider"]["preferredTypeChosen"] is True
    assert cleared["provider"]["preferredTypeChosen"] is False
    assert (not_hosted["code"], not_hosted["path"]) == ("INVALID_INPUT", ["type"])
    assert (unknown["code"], member["code"]) == ("NOT_FOUND", "FORBIDDEN")


async def test_no_secret_is_in_the_audit_log(world: World, provider: FakeProvider) -> None:
    made = await add(world, provider)
    await world.change("owner", UPDATE, id=made["id"], name="renamed", values=entered(api_key=OTHER_KEY))
    storage = world.app.storage
    assert isinstance(storage, SqlStorage)
    async with storage.connect() as connection:
        rows = await connection.rows(select(audit_entries).where(audit_entries.c.action == "credential.update"))

    (row,) = rows
    assert row.changes == {
        "name": {"from": "API key 1", "to": "renamed"},
        "values": {"api_key": {"from": "(secret)", "to": "(secret)"}},
    }


async def _work(world: World) -> None:
    """Let a worker do all that waits."""
    async with open_resources(world.app.settings, kind="worker", clock=world.app.clock) as resources:
        await resources.relay.sweep()
        async with asyncio.timeout(LIMIT_S):
            await make_worker(resources, burst=True).async_run()

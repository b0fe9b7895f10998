"""The provider-settings page in one query: what it shows, and how many SQL statements that takes at any size."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine as SqlEngine
from sqlalchemy import event, update

from core.app import App
from core.catalog import Catalog
from core.entities import Credential, CredentialStatus, ModelRow, ModelSource
from core.ids import uuid7
from core.model_types import ModelKey, ModelType
from core.provider import Manifest, Provider, Values
from core.secret import Secret
from graph.context import make_context
from graph.execution import Engine
from graph.schema import schema
from storage.credentials import credentials
from storage.resources import Resources, open_resources
from tests.conftest import settings_for, sqlite_in
from tests.graph.world import ENGINE, SECONDS, World, make_world

PROVIDERS = 20
PREDEFINED = 10
CUSTOM = 5
CREDENTIALS = 3

_BESIDE = (" processes", " outbox", "SET last_used_at")
"""What statements of leases, jobs and last uses name: a process runs them now and then, whatever is asked."""

PAGE = """{ workspace { id name viewerPermissions keyVersion
  defaultModels { type model { id name } problem { code } }
  providers(first: 50) { totalCount pageInfo { hasNextPage endCursor } nodes {
    id name label description iconUrl helpUrl supportedModelTypes configurationMethods
    preferredType preferredTypeChosen effectiveType systemStatus customStatus canAddModel problem { code message }
    credentialForm { name label type required default placeholder help maxLength decidesHost
      options { value label showOn { field value } } showOn { field value } }
    activeCredential { id name status }
    credentials(first: 50) { totalCount nodes { id name level model { provider name type } status isActive
      values { field value isSecret } problem { code message } lastUsedAt validatedAt createdAt version keyVersion } }
    removedModels { name type credentials { id name } }
    models(first: 100) { totalCount nodes { id name label type source features contextWindow maxOutputTokens enabled
      deprecated status problem { code message } isDefault effectiveType pricing { currency input output }
      activeCredential { id name } } } } } } }"""


def many_providers(app: App, count: int = PROVIDERS) -> Catalog:
    """Return a catalog of providers of ten models each, made from one that ships."""
    shipped = app.catalog.provider("openai")
    assert shipped is not None
    cards = shipped.manifest.models
    providers: dict[str, Provider] = {}
    for number in range(count):
        models = tuple(
            replace(cards[model % len(cards)], name=f"model-{model}", position=model, deprecated=False)
            for model in range(PREDEFINED)
        )
        name = f"provider_{number}"
        manifest = replace(shipped.manifest, name=name, aliases=(), models=models, position=number)
        providers[name] = _Shown(manifest)
    return Catalog(providers)


class _Shown(Provider):
    """A provider that is shown and not called."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest

    async def validate(self, *given: Any) -> None:
        raise AssertionError("nobody is asked")


async def fill(world: World, providers: int = PROVIDERS) -> None:
    """Configure providers: custom models, and credentials of the provider, of a custom and of a predefined model."""
    app, workspace_id = world.app, world.home.id
    async with app.storage.transaction() as tx:
        await tx.workspaces.touch(workspace_id)
        for number in range(providers):
            provider = f"provider_{number}"
            keys = [ModelKey(provider=provider, name=f"custom-{one}", type=ModelType.LLM) for one in range(CUSTOM)]
            of_models = [keys[0], ModelKey(provider=provider, name="model-0", type=ModelType.LLM)]
            made = [await _credential(app, tx, workspace_id, provider, key) for key in (None, *of_models)]
            await tx.providers.set_active(workspace_id, provider, made[0].id)
            for key in (*keys, of_models[1]):
                active = next((one.id for one in made if one.model == key), None)
                source = ModelSource.CUSTOM if key in keys else ModelSource.PREDEFINED
                await tx.models.put(
                    workspace_id, ModelRow(key=key, source=source, label=None, active_credential_id=active)
                )


@pytest.fixture
async def process(sqlite_template: Path, redis_url: str, tmp_path: Path) -> AsyncIterator[Resources]:
    async with open_resources(
        settings_for(sqlite_in(tmp_path, sqlite_template), redis_url, tmp_path), kind="api"
    ) as opened:
        yield opened


async def made_world(process: Resources, providers: int = PROVIDERS) -> World:
    """Return a world whose workspace has many providers configured."""
    app = replace(process.app, catalog=many_providers(process.app, providers))
    world = await make_world(app)
    await fill(world, providers)
    return world


@contextmanager
def counted() -> Iterator[list[str]]:
    """Gather the SQL statements of every engine, but for those that begin a transaction or that processes run beside."""
    statements: list[str] = []

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        if not statement.startswith(("BEGIN", "PRAGMA")) and not any(word in statement for word in _BESIDE):
            statements.append(statement)

    event.listen(SqlEngine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(SqlEngine, "before_cursor_execute", note)


@pytest.mark.parametrize("providers", [PROVIDERS, 50])
async def test_the_page_takes_at_most_twelve_statements_at_any_size(process: Resources, providers: int) -> None:
    world = await made_world(process, providers)

    with counted() as cold:
        page = (await world.data("owner", PAGE))["workspace"]["providers"]
    with counted() as warm:
        again = (await world.data("owner", PAGE))["workspace"]["providers"]

    nodes = page["nodes"]
    assert (page["totalCount"], len(nodes)) == (providers, providers)
    assert sum(len(node["models"]["nodes"]) for node in nodes) == providers * (PREDEFINED + CUSTOM)
    assert sum(len(node["credentials"]["nodes"]) for node in nodes) == providers * CREDENTIALS
    assert again == page
    assert len(cold) <= 12, cold
    assert len(warm) <= 4, warm


async def test_the_page_says_what_each_provider_and_model_is(process: Resources) -> None:
    world = await made_world(process, 1)

    (node,) = (await world.data("owner", PAGE))["workspace"]["providers"]["nodes"]

    assert (node["customStatus"], node["effectiveType"], node["problem"]) == ("ACTIVE", "CUSTOM", None)
    assert [one["level"] for one in node["credentials"]["nodes"]] == ["PROVIDER", "MODEL", "MODEL"]
    assert {value["value"] for one in node["credentials"]["nodes"] for value in one["values"]} == {
        "sk-012************op", "org-1",
    }  # fmt: skip
    assert [one["name"] for one in node["models"]["nodes"][:2]] == ["model-0", "model-1"]
    assert [(one["name"], one["status"]) for one in node["models"]["nodes"][-CUSTOM:]] == [
        ("custom-0", "ACTIVE"), *((f"custom-{number}", "NO_CONFIGURE") for number in range(1, CUSTOM)),
    ]  # fmt: skip


SELECTIONS = {
    "the page": PAGE,
    "aliases, fragments and conditions": """{ workspace { providers(first: 3) { nodes { ...P } } } }
      fragment P on Provider { __typename provider: name models(first: 4) { nodes { ...M key: name name @skip(if: true) } } }
      fragment M on Node { __typename id ... on Model { s: status t: type p: pricing { unit } pricing { input unit: currency } } }""",
    "what is guarded": "{ workspace { providers(first: 2) { nodes { name activeCredential { name } removedModels { name } } } } }",
    "relations": """{ workspace { models(first: 5) { nodes { name provider { name workspace { slug } }
      workspace { id providers(first: 1) { totalCount } } } edges { cursor node { label } } } } }""",
}


@pytest.mark.parametrize("principal", ["owner", "member"])
@pytest.mark.parametrize("selection", SELECTIONS)
async def test_a_planned_answer_is_the_one_that_graphql_gives(
    process: Resources, principal: str, selection: str
) -> None:
    world = await made_world(process, 3)
    plain = Engine(schema)
    plain._executor = schema.execution_context_class

    answers = []
    for engine in (ENGINE, plain):
        context = make_context(world.app, await world.viewer(principal))
        prepared = engine.prepare(SELECTIONS[selection], None, context)
        answers.append(json.loads(await engine.execute(prepared, {}, context, SECONDS)))

    assert _sorted(answers[0]) == _sorted(answers[1])


async def test_what_cannot_be_opened_is_shown_as_such_beside_the_rest(process: Resources) -> None:
    world = await made_world(process, 1)
    await world.data("owner", PAGE)
    async with process.storage.connect() as connection:
        await connection.run(update(credentials).where(credentials.c.model_name == "").values(sealed=b"broken"))
    async with world.app.storage.transaction() as tx:
        await tx.workspaces.touch(world.home.id)

    (node,) = (await world.data("owner", PAGE))["workspace"]["providers"]["nodes"]

    assert [one["status"] for one in node["credentials"]["nodes"]] == ["UNREADABLE", "VALID", "VALID"]
    assert node["credentials"]["nodes"][0]["values"] == []
    assert node["credentials"]["nodes"][0]["problem"]["code"] == "CREDENTIAL_UNREADABLE"


def _sorted(answer: Any) -> Any:
    """Return an answer with its errors in one order: they come as they are found."""
    return answer | {"errors": sorted(map(json.dumps, answer.get("errors", ())))}


async def _credential(app: App, tx: Any, workspace_id: Any, provider: str, key: ModelKey | None) -> Credential:
    credential_id, now = uuid7(), app.clock.now()
    values: Values = {"api_key": Secret("sk-0123456789abcdefghijklmnop"), "organization": "org-1"}
    made = Credential(
        id=credential_id,
        workspace_id=workspace_id,
        provider=provider,
        model=key,
        name="main",
        status=CredentialStatus.VALID,
        problem=None,
        sealed=await app.vault.seal(tx, workspace_id, credential_id, values),
        version=1,
        validated_at=now,
        last_used_at=now,
        created_at=now,
        updated_at=now,
    )
    await tx.credentials.insert(made)
    return made

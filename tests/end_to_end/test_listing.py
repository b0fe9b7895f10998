"""A provider's own list of models: read, kept, called, and what becomes of models that vanish from it."""

import json
from typing import Any

from core.jobs import RefreshModels
from graph import ids
from tests.fake_provider import FakeProvider, Scenario
from tests.product import Product, text_of
from workers.refresh_models import refresh_models

KEY = "sk-ant-test-0123456789abcdef"
CREATE = """mutation ($input: CreateCredentialInput!) { createCredential(input: $input) {
  credential { id } errors { code message path } } }"""
REFRESH = """mutation ($input: RefreshModelsInput!) { refreshModels(input: $input) {
  provider { name modelsRefreshedAt } errors { code message path } } }"""
MODELS = """query ($all: Boolean) { workspace { id models(provider: "anthropic", includeDeprecated: $all) { nodes {
  name label source deprecated features contextWindow maxOutputTokens status } } } }"""


OPENAI = """{ workspace { models(provider: "openai", first: 100, includeDeprecated: true) { nodes {
  name type source contextWindow pricing { input } } } } }"""


def listed(*names: str) -> Scenario:
    data = [{"id": name, "display_name": name.title(), "max_input_tokens": 1000, "max_tokens": 100} for name in names]
    return Scenario(body=json.dumps({"data": data, "has_more": False}).encode(), content_type="application/json")


def answer_lists(provider: FakeProvider, scenario: Scenario) -> None:
    provider.answers_at("/v1/models", scenario)


async def with_credential(product: Product, provider: FakeProvider) -> None:
    values = [{"field": "api_key", "value": KEY}, {"field": "base_url", "value": provider.root}]
    await product.changed(CREATE, provider="anthropic", values=values)


async def refused(product: Product, provider: str) -> Any:
    (error,) = (await product.data(REFRESH, input={"provider": provider}))["refreshModels"]["errors"]
    return error


async def remote(product: Product) -> dict[str, Any]:
    nodes = (await product.data(MODELS, all=True))["workspace"]["models"]["nodes"]
    return {node["name"]: node for node in nodes if node["source"] == "REMOTE"}


async def test_what_a_list_names_is_a_model_that_the_providers_credential_serves(
    product: Product, provider: FakeProvider
) -> None:
    await with_credential(product, provider)
    answer_lists(provider, listed("claude-new", "claude-sonnet-4-5"))

    payload = await product.changed(REFRESH, provider="claude")
    events = await product.stream(model={"provider": "anthropic", "name": "claude-new"})

    assert payload["provider"]["name"] == "anthropic"
    assert payload["provider"]["modelsRefreshedAt"] is not None
    found = await remote(product)
    assert list(found) == ["claude-new"], "what the manifest has is predefined"
    assert found["claude-new"] == {
        "name": "claude-new",
        "label": "Claude-New",
        "source": "REMOTE",
        "deprecated": False,
        "features": found["claude-new"]["features"],
        "contextWindow": 1000,
        "maxOutputTokens": 100,
        "status": "ACTIVE",
    }
    assert "TOOL_CALL" in found["claude-new"]["features"]
    assert text_of(events) == "Hello from the fake provider."
    assert provider.calls[-1].key == KEY


async def test_a_list_of_names_alone_tells_types_and_whose_snapshot_a_model_is(
    product: Product, provider: FakeProvider
) -> None:
    values = [{"field": "api_key", "value": KEY}, {"field": "base_url", "value": provider.url}]
    await product.changed(CREATE, provider="openai", values=values)
    names = ("gpt-4o", "gpt-4o-2024-08-06", "gpt-new", "text-embedding-new", "sora-new")
    data = [{"id": name, "object": "model", "owned_by": "openai"} for name in names]
    answer_lists(provider, Scenario(body=json.dumps({"object": "list", "data": data}).encode()))

    await product.changed(REFRESH, provider="openai")
    events = await product.stream(model={"provider": "openai", "name": "gpt-4o-2024-08-06"})

    nodes = (await product.data(OPENAI))["workspace"]["models"]["nodes"]
    found = {node["name"]: node for node in nodes}
    remote_ones = [node["name"] for node in nodes if node["source"] == "REMOTE"]
    assert remote_ones == ["gpt-4o-2024-08-06", "gpt-new", "text-embedding-new"]
    assert found["text-embedding-new"]["type"] == "TEXT_EMBEDDING"
    assert found["gpt-4o-2024-08-06"]["contextWindow"] == found["gpt-4o"]["contextWindow"]
    assert found["gpt-4o"]["pricing"] is not None
    assert found["gpt-4o-2024-08-06"]["pricing"] is None
    assert events[-1]["cost"] is None
    assert provider.calls[-1].model == "gpt-4o-2024-08-06"


async def test_a_model_that_vanishes_is_deprecated_and_stays_callable(product: Product, provider: FakeProvider) -> None:
    await with_credential(product, provider)
    answer_lists(provider, listed("claude-a", "claude-b"))
    await product.changed(REFRESH, provider="anthropic")

    answer_lists(provider, listed("claude-b"))
    await product.changed(REFRESH, provider="anthropic")

    shown = (await product.data(MODELS, all=False))["workspace"]["models"]["nodes"]
    assert [node["name"] for node in shown if node["source"] == "REMOTE"] == ["claude-b"]
    assert {name: node["deprecated"] for name, node in (await remote(product)).items()} == {
        "claude-a": True,
        "claude-b": False,
    }
    events = await product.stream(model={"provider": "anthropic", "name": "claude-a"})
    assert events[-1]["__typename"] == "CompletionFinished"

    answer_lists(provider, listed("claude-a", "claude-b"))
    await product.changed(REFRESH, provider="anthropic")
    assert (await remote(product))["claude-a"]["deprecated"] is False


async def test_a_list_that_cannot_be_read_changes_nothing(product: Product, provider: FakeProvider) -> None:
    await with_credential(product, provider)
    answer_lists(provider, listed("claude-a"))
    await product.changed(REFRESH, provider="anthropic")
    before = await remote(product)

    answer_lists(provider, Scenario(status=500, body=b'{"type": "error", "error": {"type": "api_error"}}'))
    error = await refused(product, "anthropic")

    assert error["code"] == "UPSTREAM_UNAVAILABLE"
    assert await remote(product) == before


async def test_without_a_credential_or_a_list_there_is_nothing_to_read(product: Product) -> None:
    assert (await refused(product, "anthropic"))["code"] == "CREDENTIAL_MISSING"
    assert (await refused(product, "openai_compatible"))["code"] == "INVALID_INPUT"
    assert (await refused(product, "nobody"))["code"] == "NOT_FOUND"


async def test_a_worker_reads_the_list_and_minds_no_refusal(product: Product, provider: FakeProvider) -> None:
    await with_credential(product, provider)
    answer_lists(provider, listed("claude-a"))
    workspace = (await product.data(MODELS, all=False))["workspace"]["id"]
    workspace_id = ids.given_uuid(workspace, "Workspace")
    job = RefreshModels(workspace_id=workspace_id, provider="anthropic")

    await refresh_models(product.app, job)
    assert list(await remote(product)) == ["claude-a"]

    answer_lists(provider, Scenario(status=401, body=b'{"error": {"type": "authentication_error"}}'))
    await refresh_models(product.app, job)
    await refresh_models(product.app, RefreshModels(workspace_id=workspace_id, provider="gone"))
    assert list(await remote(product)) == ["claude-a"]

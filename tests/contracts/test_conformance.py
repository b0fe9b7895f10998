"""Providers that ship, put to the conformance kit: every type of model that each serves, in every way to fail."""

import pytest

from core.cards import custom_card
from core.catalog import catalog_of
from core.model_types import ModelType
from core.provider import Call, Manifest, Provider, Values
from core.secret import Secret
from core.wire.egress import target_of
from core.wire.http import Http
from tests.catalogs import CATALOG
from tests.conformance import CAPABILITIES, KEY, Conformance, ask
from tests.contracts.adapters import BY_MANIFEST
from tests.fake_provider import FakeProvider


def shipped(name: str) -> Manifest:
    found = CATALOG.manifest(name)
    assert found is not None
    return found


class Shipped(Conformance):
    """A provider that ships, built as the catalog builds it."""

    def build(self, http: Http) -> Provider:
        return catalog_of([self.manifest], http).providers[self.manifest.name]


class TestOpenAI(Shipped):
    manifest = shipped("openai")
    voice = "alloy"

    def values(self, url: str) -> Values:
        return {"base_url": f"{url}/v1", "api_key": Secret(KEY)}


class TestOpenAICompatible(Shipped):
    manifest = shipped("openai_compatible")

    def values(self, url: str) -> Values:
        return {"base_url": f"{url}/v1", "api_key": Secret(KEY)}


class TestAzureOpenAI(Shipped):
    manifest = shipped("azure_openai")

    def values(self, url: str) -> Values:
        return {"endpoint": url, "deployment": "mine", "auth": "key", "api_key": Secret(KEY), "api_style": "v1"}


class TestAzureOpenAIByDate(Shipped):
    manifest = shipped("azure_openai")

    def values(self, url: str) -> Values:
        dated = {"api_style": "dated", "api_version": "2024-10-21"}
        return {"endpoint": url, "deployment": "mine", "auth": "key", "api_key": Secret(KEY), **dated}


class TestXinference(Shipped):
    manifest = shipped("xinference")

    def values(self, url: str) -> Values:
        return {"server_url": url, "api_key": Secret(KEY)}


class TestElevenLabs(Shipped):
    manifest = shipped("elevenlabs")

    def values(self, url: str) -> Values:
        return {"base_url": url, "api_key": Secret(KEY)}


class TestCohere(Shipped):
    manifest = shipped("cohere")
    free_posts = frozenset({"/cohere/v1/check-api-key"})  # asks no model

    def values(self, url: str) -> Values:
        return {"base_url": f"{url}/cohere", "api_key": Secret(KEY)}


class TestAnthropic(Shipped):
    manifest = shipped("anthropic")

    def values(self, url: str) -> Values:
        return {"base_url": url, "api_key": Secret(KEY)}


class TestOllama(Shipped):
    manifest = shipped("ollama")
    free_posts = frozenset({"/api/show"})  # shows a model, and asks none

    def values(self, url: str) -> Values:
        return {"base_url": url, "api_key": Secret(KEY), "upstream_model": "llama:latest"}


class TestGemini(Shipped):
    manifest = shipped("gemini")
    voice = "Kore"

    def values(self, url: str) -> Values:
        return {"base_url": url, "api_key": Secret(KEY)}


@pytest.mark.parametrize("name", BY_MANIFEST)
async def test_a_provider_by_manifest_alone_answers_in_all_its_types(
    name: str, provider: FakeProvider, http: Http
) -> None:
    manifest = shipped(name)
    made = catalog_of([manifest], http).providers[name]
    values: Values = {"base_url": provider.url, "api_key": Secret(KEY)}

    await made.validate(values, None, None)
    for kind in manifest.model_types:
        card = next((card for card in manifest.models if card.type is kind), custom_card(manifest, "m", kind, {}))
        await ask(made, kind, Call(model=card.name, card=card, values=values))

    assert manifest.dialect == "openai_compatible"
    assert {request.key for request in provider.requests} == {KEY}


@pytest.mark.parametrize("name", BY_MANIFEST)
async def test_a_provider_by_manifest_alone_stands_at_its_own_address(name: str, http: Http) -> None:
    base_url = shipped(name).options["base_url"]

    assert base_url.startswith("https://")
    assert not base_url.endswith("/")
    assert target_of(base_url).port == 443


def test_every_model_of_a_manifest_is_of_a_type_that_its_adapter_serves() -> None:
    for manifest in CATALOG.manifests():
        adapter = CATALOG.provider(manifest.name)
        for kind in manifest.model_types:
            assert getattr(adapter, CAPABILITIES[kind]) is not None, (manifest.name, kind)


def test_a_speaking_model_knows_its_usual_format() -> None:
    cards = [
        card
        for manifest in CATALOG.manifests()
        for card in (*manifest.models, *manifest.base_models, *manifest.defaults.values())
        if card.type is ModelType.TTS
    ]

    assert len(cards) > 8
    for card in cards:
        formats = card.properties.get("formats")
        usual = card.properties.get("default_format", formats[0] if formats else None)
        assert usual is not None, card.name
        assert not formats or usual in formats, card.name

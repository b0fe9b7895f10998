"""Azure OpenAI: both URL schemes, a key or a token of Entra, and the mistakes that people make."""

import json
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

import pytest

from core.cards import custom_card
from core.errors import InvalidInput, UpstreamAuthentication, UpstreamBadRequest, UpstreamPermission, UpstreamProtocol
from core.model_types import ModelFeature, ModelKey, ModelType
from core.model_types.text_embedding import EmbeddingRequest
from core.provider import Call, Manifest, Provider, Value
from core.providers import azure_openai
from core.secret import Secret
from core.wire.http import Http
from tests import make
from tests.catalogs import CATALOG
from tests.fake_provider import FakeProvider, Scenario

KEY = "0123456789abcdef0123456789abcdef"
CLIENT_SECRET = "abc~0123456789-client-secret"
TOKEN_PATH = "/tenant-1/oauth2/v2.0/token"


def manifest() -> Manifest:
    found = CATALOG.manifest("azure_openai")
    assert found is not None
    return found


@pytest.fixture
def azure(http: Http, provider: FakeProvider) -> Provider:
    from dataclasses import replace

    here = f"http://{provider.address}"
    return azure_openai.build(replace(manifest(), options={"entra": {"authority": here}}), http)


def values(provider: FakeProvider, **more: str) -> Mapping[str, Value]:
    plain: dict[str, Value] = {
        "endpoint": f"http://{provider.address}",
        "deployment": "my gpt",
        "api_style": "v1",
        "auth": "key",
        "api_key": Secret(KEY),
    }
    return {**plain, **more}


def entra(provider: FakeProvider, **more: str) -> Mapping[str, Value]:
    return {
        **values(provider, auth="entra", tenant_id="tenant-1", client_id="app-1", **more),
        "api_key": "",
        "client_secret": Secret(CLIENT_SECRET),
    }


def call(of: Mapping[str, Value]) -> Call:
    card = custom_card(manifest(), "mine", ModelType.LLM, {"base_model": "gpt-4o"})
    return Call(model="mine", card=card, values=of)


async def ask(azure: Provider, of: Mapping[str, Value]) -> None:
    assert azure.llm is not None
    async with aclosing(azure.llm.stream(call(of), make.chat())) as batches:
        async for _ in batches:
            pass


async def test_both_schemes_lead_to_the_deployment(azure: Provider, provider: FakeProvider) -> None:
    assert azure.text_embedding is not None
    dated = values(provider, api_style="dated", api_version="2024-10-21")

    await ask(azure, values(provider))
    await ask(azure, dated)
    await azure.text_embedding.embed(call(dated), EmbeddingRequest(texts=("x",)))

    paths = [request.path for request in provider.requests]
    assert paths == [
        "/openai/v1/chat/completions",
        "/openai/deployments/my%20gpt/chat/completions?api-version=2024-10-21",
        "/openai/deployments/my%20gpt/embeddings?api-version=2024-10-21",
    ]
    for request in provider.requests:
        assert request.model == "my gpt"
        assert request.headers["api-key"] == KEY
        assert "authorization" not in request.headers


async def test_a_token_of_entra_is_asked_for_once(azure: Provider, provider: FakeProvider) -> None:
    token = json.dumps({"access_token": "token-1", "expires_in": 3600, "token_type": "Bearer"}).encode()
    provider.answers_at(TOKEN_PATH, Scenario(body=token))

    await ask(azure, entra(provider))
    await ask(azure, entra(provider))

    asked = [request for request in provider.requests if request.path == TOKEN_PATH]
    assert len(asked) == 1
    assert b"grant_type=client_credentials" in asked[0].body
    assert b"cognitiveservices.azure.com%2F.default" in asked[0].body
    assert [request.key for request in provider.calls] == ["token-1", "token-1"]
    assert all("api-key" not in request.headers for request in provider.calls)


@pytest.mark.parametrize("style", ["v1", "dated"])
async def test_a_token_of_entra_is_in_no_message(azure: Provider, provider: FakeProvider, style: str) -> None:
    provider.answers_at(TOKEN_PATH, Scenario(body=b'{"access_token": "eyJ0eXAi.opaque.token", "expires_in": 3600}'))
    echo = b'{"error": {"code": "400", "message": "cannot route KEY anywhere"}}'
    provider.answers(Scenario(status=400, body=echo))

    with pytest.raises(UpstreamBadRequest, match="cannot route") as raised:
        await ask(azure, entra(provider, api_style=style, api_version="2024-10-21"))

    assert provider.calls[-1].key == "eyJ0eXAi.opaque.token"
    assert "opaque" not in raised.value.message


async def test_a_stream_that_ends_without_its_mark_is_cut_off(azure: Provider, provider: FakeProvider) -> None:
    provider.answers("no_done")

    with pytest.raises(UpstreamProtocol, match="ended before"):
        await ask(azure, values(provider))


async def test_a_token_about_to_end_is_asked_for_anew(azure: Provider, provider: FakeProvider) -> None:
    provider.answers_at(TOKEN_PATH, Scenario(body=b'{"access_token": "short", "expires_in": 60}'))

    await ask(azure, entra(provider))
    await ask(azure, entra(provider))

    assert sum(request.path == TOKEN_PATH for request in provider.requests) == 2


async def test_an_application_that_entra_does_not_know_is_no_valid_credential(
    azure: Provider, provider: FakeProvider
) -> None:
    refusal = {"error": "invalid_client", "error_description": f"AADSTS7000215: {CLIENT_SECRET} is wrong"}
    provider.answers_at(TOKEN_PATH, Scenario(status=401, body=json.dumps(refusal).encode()))

    with pytest.raises(UpstreamAuthentication, match="client secret") as raised:
        await azure.validate(entra(provider), None, None)

    assert CLIENT_SECRET not in raised.value.message
    assert provider.calls == []


@pytest.mark.parametrize(
    ("style", "path"),
    [("v1", "/openai/v1/models"), ("dated", "/openai/models?api-version=2024-10-21")],
)
async def test_a_credential_is_tried_at_the_list_of_models(
    style: str, path: str, azure: Provider, provider: FakeProvider
) -> None:
    await azure.validate(values(provider, api_style=style, api_version="2024-10-21"), None, None)

    assert [(request.method, request.path) for request in provider.requests] == [("GET", path)]


@pytest.mark.parametrize(
    ("scenario", "error", "hint"),
    [
        (Scenario(status=401, body=b'{"error": {"code": "401", "message": "Access denied"}}'), UpstreamAuthentication, "resource or region"),
        (Scenario(status=403, body=b'{"error": {"code": "403", "message": "no"}}'), UpstreamPermission, "OpenAI User"),
        (Scenario(status=404, body=b'{"error": {"code": "404", "message": "Resource not found"}}'), UpstreamBadRequest, "2024-10-21"),
    ],
)  # fmt: skip
async def test_a_refusal_says_what_mends_it(
    scenario: Scenario, error: type[Exception], hint: str, azure: Provider, provider: FakeProvider
) -> None:
    provider.answers(scenario)

    with pytest.raises(error, match=hint):
        await azure.validate(values(provider), None, None)


@pytest.mark.parametrize(
    ("wrong", "path", "says"),
    [
        ({"endpoint": "https://r.openai.azure.com/openai/deployments/d"}, "endpoint", "https://r.openai.azure.com:"),
        ({"endpoint": "https://r.openai.azure.com/openai/v1"}, "endpoint", "https://r.openai.azure.com:"),
        ({"endpoint": "https://r.openai.azure.com/openai"}, "endpoint", "https://r.openai.azure.com:"),
        ({"api_style": "dated", "api_version": "0613"}, "api_version", "2024-10-21"),
        ({"api_style": "dated", "api_version": ""}, "api_version", "2024-10-21"),
        ({"deployment": ""}, "deployment", "missing"),
    ],
)
async def test_what_people_paste_is_caught_before_anything_leaves(
    wrong: dict[str, str], path: str, says: str, azure: Provider, provider: FakeProvider
) -> None:
    with pytest.raises(InvalidInput) as raised:
        await azure.validate(values(provider, **wrong), None, None)

    assert raised.value.path == (path,)
    assert says.rstrip(":") in raised.value.message
    assert provider.requests == []


def test_a_deployment_is_what_its_base_model_is() -> None:
    card = custom_card(manifest(), "mine", ModelType.LLM, {"base_model": "gpt-4o"})
    embedding = custom_card(manifest(), "vectors", ModelType.TEXT_EMBEDDING, {"base_model": "text-embedding-3-small"})
    other = custom_card(manifest(), "mine", ModelType.LLM, {"base_model": "text-embedding-3-small"})

    assert (card.name, card.label, card.context_window) == ("mine", "mine", 128_000)
    assert ModelFeature.VISION in card.features
    assert card.pricing is not None
    assert embedding.properties["dimensions"] == 1536
    assert other.pricing is None


async def test_validation_takes_a_model_of_any_type(azure: Provider, provider: FakeProvider) -> None:
    key = ModelKey(provider="azure_openai", name="mine", type=ModelType.TTS)
    made: Any = values(provider)

    await azure.validate(made, key, custom_card(manifest(), "mine", ModelType.TTS, {"base_model": "tts-1"}))

    assert len(provider.requests) == 1

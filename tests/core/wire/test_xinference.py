"""Xinference: a model is asked for by its uid, and a wrong uid, type or address says what mends it."""

from collections.abc import Mapping

import pytest

from core.errors import InvalidInput, UpstreamAuthentication, UpstreamModelNotFound
from core.model_types import ModelKey, ModelType
from core.model_types.rerank import RerankRequest
from core.model_types.text_embedding import EmbeddingRequest
from core.provider import Call, Manifest, ModelCard, Provider, Value
from core.providers import xinference
from core.secret import Secret
from core.wire.http import Http
from tests import fake_tasks
from tests.fake_provider import FakeProvider, Scenario


@pytest.fixture
def xinf(http: Http) -> Provider:
    made = Manifest(name="p", label="", description="", model_types=(), methods=frozenset(), dialect="xinference")
    return xinference.build(made, http)


def values(provider: FakeProvider, **more: Value) -> Mapping[str, Value]:
    return {"server_url": f"http://{provider.address}", **more}


def key(kind: ModelType = ModelType.TEXT_EMBEDDING) -> ModelKey:
    return ModelKey(provider="xinference", name="bge-m3", type=kind)


def call(of: Mapping[str, Value]) -> Call:
    return Call(model="bge-m3", card=ModelCard(name="bge-m3", label="", type=ModelType.TEXT_EMBEDDING), values=of)


async def test_a_model_is_asked_for_by_its_uid_or_its_name(xinf: Provider, provider: FakeProvider) -> None:
    assert xinf.text_embedding is not None
    assert xinf.rerank is not None
    request = EmbeddingRequest(texts=("one",))

    found = await xinf.text_embedding.embed(call(values(provider, model_uid="bge-1")), request)
    await xinf.rerank.rerank(
        call(values(provider, api_key=Secret("k-123456"))), RerankRequest(query="q", documents=("d",))
    )

    assert list(found.vectors[0]) == fake_tasks.vector("one")
    first, second = provider.requests
    assert (first.path, first.model, first.key) == ("/v1/embeddings", "bge-1", "")
    assert (second.path, second.model, second.key) == ("/v1/rerank", "bge-m3", "k-123456")


async def test_a_credential_is_tried_at_the_model_that_runs(xinf: Provider, provider: FakeProvider) -> None:
    provider.answers_at("/v1/models/bge-m3", Scenario(body=b'{"model_type": "embedding", "id": "bge-m3"}'))

    await xinf.validate(values(provider), key(), None)

    assert [(request.method, request.path) for request in provider.requests] == [("GET", "/v1/models/bge-m3")]


async def test_a_model_of_another_type_is_refused(xinf: Provider, provider: FakeProvider) -> None:
    provider.answers_at("/v1/models/bge-m3", Scenario(body=b'{"model_type": "rerank"}'))

    with pytest.raises(InvalidInput, match="rerank"):
        await xinf.validate(values(provider), key(), None)
    await xinf.validate(values(provider), key(ModelType.RERANK), None)


async def test_a_uid_that_does_not_run_says_what_to_do(xinf: Provider, provider: FakeProvider) -> None:
    refusal = Scenario(status=404, body=b'{"detail": "Model not found in the model list, uid: bge-m3"}')
    provider.answers_at("/v1/models/bge-m3", refusal)

    with pytest.raises(UpstreamModelNotFound, match="launch it"):
        await xinf.validate(values(provider), key(), None)


async def test_a_server_with_logins_refuses_a_wrong_key(xinf: Provider, provider: FakeProvider) -> None:
    provider.answers(Scenario(status=401, body=b'{"detail": "Could not validate credentials"}'))

    with pytest.raises(UpstreamAuthentication):
        await xinf.validate(values(provider, api_key=Secret("wrong")), key(), None)


@pytest.mark.parametrize(("url", "says"), [("http://host:9997/v1", "http://host:9997."), ("", "missing")])
async def test_an_address_with_v1_says_what_to_enter(
    url: str, says: str, xinf: Provider, provider: FakeProvider
) -> None:
    with pytest.raises(InvalidInput) as raised:
        await xinf.validate({"server_url": url}, key(), None)

    assert raised.value.path == ("server_url",)
    assert says in raised.value.message
    assert provider.requests == []

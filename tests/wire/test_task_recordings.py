"""Every recorded answer of embeddings decodes to what the official clients make of it."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from core.errors import ModelyardError
from core.model_types import ModelType, Usage
from core.model_types.rerank import RerankRequest
from core.model_types.text_embedding import EmbeddingRequest
from core.provider import Call, EmbeddingModels, Manifest, ModelCard, Values
from core.providers import openai_compatible
from core.wire.conversing import Server
from core.wire.dialects.cohere_tasks import CohereEmbeddings, cohere_rerankers
from core.wire.egress import Egress
from core.wire.http import Http
from tests.wire.recordings import KINDS, Recording, Replay, load

FOLDER = os.environ.get("MODELYARD_RECORDINGS", "")
RECORDINGS = load(Path(FOLDER), ("openai-embeddings", "voyage", "cohere"), ("embeddings",)) if FOLDER else []
RANKINGS = load(Path(FOLDER), ("cohere",), ("rerank",)) if FOLDER else []

pytestmark = pytest.mark.skipif(not FOLDER, reason="MODELYARD_RECORDINGS names no folder of recorded answers")

VOYAGE: dict[str, Any] = {"dimensions_parameter": "output_dimension", "purpose_parameter": "input_type"}


@pytest.fixture(scope="module")
async def replay() -> AsyncIterator[Replay]:
    async with Replay.serve([*RECORDINGS, *RANKINGS]) as server:
        yield server


@pytest.fixture(scope="module")
async def http() -> AsyncIterator[Http]:
    async with Http.open(egress=Egress(["127.0.0.1:*"])) as client:
        yield client


def test_the_folder_holds_recordings() -> None:
    assert len(RECORDINGS) >= 9
    assert len(RANKINGS) >= 2


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.name)
@pytest.mark.parametrize("piece_bytes", [0, 1, 7, 1000])
async def test_a_recorded_embedding_decodes(recording: Recording, piece_bytes: int, replay: Replay, http: Http) -> None:
    replay.piece_bytes = piece_bytes
    adapter = _embedding(recording, http)
    call = Call(
        model="m",
        card=ModelCard(name="m", label="m", type=ModelType.TEXT_EMBEDDING),
        values={"base_url": replay.base_url(recording)},
    )
    sent = recording.request.get("input") or recording.request["texts"]
    request = EmbeddingRequest(
        texts=(sent,) if isinstance(sent, str) else tuple(sent), dimensions=recording.request.get("dimensions")
    )
    expected = recording.expected

    if expected["error"]:
        with pytest.raises(ModelyardError) as raised:
            await adapter.embed(call, request)
        assert raised.value.code in KINDS[expected["error"]["kind"]]
        return
    found = await adapter.embed(call, request)

    assert found.usage is not None
    assert found.usage.input_tokens == expected["usage"]["input_total"]
    assert len(found.vectors) == expected["embeddings"]["count"]
    assert {len(vector) for vector in found.vectors} == {expected["embeddings"]["dimensions"]}
    assert [round(value, 6) for value in found.vectors[0][:4]] == expected["embeddings"]["first"]


@pytest.mark.parametrize("recording", RANKINGS, ids=lambda recording: recording.name)
async def test_a_recorded_ranking_decodes(recording: Recording, replay: Replay, http: Http) -> None:
    replay.piece_bytes = 7
    call = Call(
        model="m",
        card=ModelCard(name="m", label="m", type=ModelType.RERANK),
        values={"base_url": replay.base_url(recording)},
    )
    request = RerankRequest(query="q", documents=tuple(recording.request["documents"]))

    found = await cohere_rerankers(http, _server).rerank(call, request)

    assert [{"index": hit.index, "score": hit.score} for hit in found.hits] == recording.expected["rerank"]
    assert found.usage == Usage(requests=recording.expected["search_units"])


def _server(values: Values) -> Server:
    return Server(base_url=str(values["base_url"]).removesuffix("/v1"), headers={}, secrets=())


def _embedding(recording: Recording, http: Http) -> EmbeddingModels:
    if recording.name.startswith("cohere"):
        return CohereEmbeddings(http, _server)
    options = VOYAGE if recording.name.startswith("voyage") else {}
    adapter = openai_compatible.build(_manifest(options), http).text_embedding
    assert adapter is not None
    return adapter


def _manifest(options: dict[str, Any]) -> Manifest:
    return Manifest(
        name="p", label="", description="", model_types=(), methods=frozenset(), dialect="d", options=options
    )

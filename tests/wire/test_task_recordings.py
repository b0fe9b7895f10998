"""Every recorded answer of embeddings decodes to what the official clients make of it."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from core.errors import ModelyardError
from core.model_types import ModelType
from core.model_types.text_embedding import EmbeddingRequest
from core.provider import Call, Manifest, ModelCard
from core.providers import openai_compatible
from core.wire.egress import Egress
from core.wire.http import Http
from tests.wire.recordings import KINDS, Recording, Replay, load

FOLDER = os.environ.get("MODELYARD_RECORDINGS", "")
RECORDINGS = load(Path(FOLDER), ("openai-embeddings", "voyage"), ("embeddings",)) if FOLDER else []

pytestmark = pytest.mark.skipif(not FOLDER, reason="MODELYARD_RECORDINGS names no folder of recorded answers")

VOYAGE: dict[str, Any] = {"dimensions_parameter": "output_dimension", "purpose_parameter": "input_type"}


@pytest.fixture(scope="module")
async def replay() -> AsyncIterator[Replay]:
    async with Replay.serve(RECORDINGS) as server:
        yield server


@pytest.fixture(scope="module")
async def http() -> AsyncIterator[Http]:
    async with Http.open(egress=Egress(["127.0.0.1:*"])) as client:
        yield client


def test_the_folder_holds_recordings() -> None:
    assert len(RECORDINGS) >= 7


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.name)
@pytest.mark.parametrize("piece_bytes", [0, 7, 1000])
async def test_a_recorded_embedding_decodes(recording: Recording, piece_bytes: int, replay: Replay, http: Http) -> None:
    replay.piece_bytes = piece_bytes
    options = VOYAGE if recording.name.startswith("voyage") else {}
    provider = openai_compatible.build(_manifest(options), http)
    assert provider.text_embedding is not None
    call = Call(
        model="m",
        card=ModelCard(name="m", label="m", type=ModelType.TEXT_EMBEDDING),
        values={"base_url": replay.base_url(recording)},
    )
    sent = recording.request["input"]
    request = EmbeddingRequest(
        texts=(sent,) if isinstance(sent, str) else tuple(sent), dimensions=recording.request.get("dimensions")
    )
    expected = recording.expected

    if expected["error"]:
        with pytest.raises(ModelyardError) as raised:
            await provider.text_embedding.embed(call, request)
        assert raised.value.code in KINDS[expected["error"]["kind"]]
        return
    found = await provider.text_embedding.embed(call, request)

    assert found.usage is not None
    assert found.usage.input_tokens == expected["usage"]["input_total"]
    assert len(found.vectors) == expected["embeddings"]["count"]
    assert {len(vector) for vector in found.vectors} == {expected["embeddings"]["dimensions"]}
    assert [round(value, 6) for value in found.vectors[0][:4]] == expected["embeddings"]["first"]


def _manifest(options: dict[str, Any]) -> Manifest:
    return Manifest(
        name="p", label="", description="", model_types=(), methods=frozenset(), dialect="d", options=options
    )

"""Embedding, reranking, transcription and speech in the dialects of Cohere, Gemini and Ollama."""

import base64
import json
import struct
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest

from core.errors import ContentFiltered, InvalidInput, UpstreamModelNotFound, UpstreamProtocol, UpstreamUnavailable
from core.model_types import ModelType, Usage
from core.model_types.rerank import RerankRequest
from core.model_types.speech2text import Audio, TranscriptionRequest
from core.model_types.text_embedding import EmbeddingPurpose, EmbeddingRequest
from core.model_types.tts import SpeechRequest
from core.provider import Call, EmbeddingModels, ModelCard, Values
from core.wire.conversing import Server
from core.wire.dialects.cohere_tasks import CohereEmbeddings, CohereTranscriptions, cohere_rerankers
from core.wire.dialects.gemini_tasks import GeminiEmbeddings, GeminiSpeech
from core.wire.dialects.ollama_embed import OllamaEmbeddings
from core.wire.http import Http
from tests import fake_tasks
from tests.fake_provider import FakeProvider, Scenario

KEY = "sk-test-0123456789abcdefghij"
EMBED = EmbeddingRequest(texts=("one", "three"), purpose=EmbeddingPurpose.QUERY, dimensions=2)


def server_at(provider: FakeProvider) -> Callable[[Values], Server]:
    headers = {"authorization": f"Bearer {KEY}"}
    return lambda _: Server(base_url=f"http://{provider.address}", headers=headers, secrets=(KEY,))


def call(model: str = "m") -> Call:
    return Call(model=model, card=ModelCard(name=model, label="", type=ModelType.TEXT_EMBEDDING), values={})


EMBEDDINGS: dict[str, tuple[Callable[[Http, Any], EmbeddingModels], str, Any, Usage | None]] = {
    "cohere": (
        CohereEmbeddings,
        "/v2/embed",
        {
            "model": "m",
            "texts": ["one", "three"],
            "input_type": "search_query",
            "embedding_types": ["float"],
            "truncate": "NONE",
            "output_dimension": 2,
        },
        Usage(input_tokens=8),
    ),
    "ollama": (
        OllamaEmbeddings,
        "/api/embed",
        {"model": "m", "input": ["one", "three"], "truncate": False, "dimensions": 2},
        Usage(input_tokens=8),
    ),
    "gemini": (
        GeminiEmbeddings,
        "/models/m:batchEmbedContents",
        {
            "requests": [
                {
                    "model": "models/m",
                    "content": {"parts": [{"text": text}]},
                    "taskType": "RETRIEVAL_QUERY",
                    "outputDimensionality": 2,
                }
                for text in ("one", "three")
            ]
        },
        None,
    ),
}


@pytest.mark.parametrize("name", EMBEDDINGS)
async def test_texts_are_embedded_as_each_dialect_has_it(name: str, provider: FakeProvider, http: Http) -> None:
    make, path, body, usage = EMBEDDINGS[name]

    found = await make(http, server_at(provider)).embed(call(), EMBED)

    assert [list(vector) for vector in found.vectors] == [fake_tasks.vector(text, 2) for text in EMBED.texts]
    assert found.usage == usage
    (sent,) = provider.requests
    assert (sent.path, sent.key, sent.json) == (path, KEY, body)


@pytest.mark.parametrize("name", EMBEDDINGS)
async def test_the_shortest_request_says_nothing_more(name: str, provider: FakeProvider, http: Http) -> None:
    make, _, _, _ = EMBEDDINGS[name]

    await make(http, server_at(provider)).embed(call(), EmbeddingRequest(texts=("one",)))

    text = json.dumps(provider.requests[0].json)
    assert "imension" not in text
    assert "taskType" not in text
    assert ("search_document" in text) is (name == "cohere")


@pytest.mark.parametrize("name", EMBEDDINGS)
@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"embeddings": {"int8": [[1]]}}', b'{"embeddings": []}'])
async def test_vectors_that_are_none_are_refused(name: str, body: bytes, provider: FakeProvider, http: Http) -> None:
    make, _, _, _ = EMBEDDINGS[name]
    provider.answers(Scenario(body=body))

    with pytest.raises(UpstreamProtocol):
        await make(http, server_at(provider)).embed(call(), EMBED)


async def test_a_model_that_ollama_has_not_pulled_is_not_found(provider: FakeProvider, http: Http) -> None:
    provider.answers(Scenario(status=404, body=b'{"error": "model \\"m\\" not found, try pulling it first"}'))

    with pytest.raises(UpstreamModelNotFound, match="pulling"):
        await OllamaEmbeddings(http, server_at(provider)).embed(call(), EMBED)


async def test_cohere_ranks_and_charges_by_searches(provider: FakeProvider, http: Http) -> None:
    body = {
        "results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}],
        "meta": {"billed_units": {"search_units": 3}},
    }
    provider.answers(Scenario(body=json.dumps(body).encode()))

    request = RerankRequest(query="q", documents=("a", "b"), top_n=2)
    found = await cohere_rerankers(http, server_at(provider)).rerank(call("rerank-v4.0-pro"), request)

    assert [hit.index for hit in found.hits] == [1, 0]
    assert found.usage == Usage(requests=3)
    (sent,) = provider.requests
    assert sent.path == "/v2/rerank"
    assert sent.json == {"model": "rerank-v4.0-pro", "query": "q", "documents": ["a", "b"], "top_n": 2}


async def test_cohere_writes_down_speech(provider: FakeProvider, http: Http) -> None:
    audio = Audio(content=b"RIFF....WAVE", mime_type="audio/wav", filename="a.wav")
    adapter = CohereTranscriptions(http, server_at(provider))

    found = await adapter.transcribe(call(), TranscriptionRequest(audio=audio, language="en"))

    assert found.text == "a.wav: 12 bytes"
    (sent,) = provider.requests
    assert sent.path == "/v2/audio/transcriptions"
    assert fake_tasks.form(sent)["language"] == "en"


# ---- the speech of Gemini


async def speak(provider: FakeProvider, http: Http, format: str | None = "pcm", **more: Any) -> list[bytes | Usage]:
    request = SpeechRequest(text="Hello there", voice="Kore", format=format, **more)
    async with aclosing(GeminiSpeech(http, server_at(provider)).speak(call("models/m"), request)) as sound:
        return [piece async for piece in sound]


@pytest.mark.parametrize("pieces", [1, 3, 40])
async def test_gemini_speaks_and_says_what_it_used(pieces: int, provider: FakeProvider, http: Http) -> None:
    provider.answers(pieces=pieces)

    heard = await speak(provider, http)

    assert heard == [b"<Kore>", b"Hello", b"there", Usage(input_tokens=5, output_tokens=40)]
    (sent,) = provider.requests
    assert sent.path == "/models/m:streamGenerateContent?alt=sse"
    assert sent.json["generationConfig"]["responseModalities"] == ["AUDIO"]


async def test_a_long_speech_may_come_in_one_event(provider: FakeProvider, http: Http) -> None:
    spoken = bytes(4 * 1024 * 1024)
    data = {"mimeType": "audio/L16", "data": base64.b64encode(spoken).decode()}
    candidate = {"content": {"parts": [{"inlineData": data}]}, "finishReason": "STOP"}
    provider.answers(Scenario(body=event(candidates=[candidate]), content_type="text/event-stream"))

    heard = await speak(provider, http)

    assert b"".join(piece for piece in heard if isinstance(piece, bytes)) == spoken


async def test_a_wav_has_a_head_with_the_rate_that_gemini_names(provider: FakeProvider, http: Http) -> None:
    head, *rest = await speak(provider, http, "wav")

    assert isinstance(head, bytes)
    assert (head[:4], head[8:16], len(head)) == (b"RIFF", b"WAVEfmt ", 44)
    assert struct.unpack("<I", head[24:28]) == (16_000,)
    assert rest[0] == b"<Kore>"


def event(**more: Any) -> bytes:
    return b"data: " + json.dumps(more).encode() + b"\r\n\r\n"


SOUND = {"inlineData": {"mimeType": "audio/L16", "data": "aGk="}}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", UpstreamProtocol),
        (event(candidates=[{"content": {"parts": [SOUND]}}]), UpstreamProtocol),
        (event(candidates=[{"finishReason": "STOP"}]), UpstreamProtocol),
        (event(candidates=[{"content": {"parts": [{"inlineData": {"data": "*"}}]}}]), UpstreamProtocol),
        (b"data: {\r\n\r\n", UpstreamProtocol),
        (event(promptFeedback={"blockReason": "PROHIBITED_CONTENT"}), ContentFiltered),
        (event(candidates=[{"finishReason": "PROHIBITED_CONTENT"}]), ContentFiltered),
        (event(error={"code": 500, "status": "INTERNAL", "message": "no"}), UpstreamUnavailable),
    ],
)
async def test_what_is_no_whole_sound_has_its_name(
    body: bytes, error: type[Exception], provider: FakeProvider, http: Http
) -> None:
    provider.answers(Scenario(body=body, content_type="text/event-stream"))

    with pytest.raises(error):
        await speak(provider, http)


async def test_the_options_of_speech_do_not_change_what_the_input_says(provider: FakeProvider, http: Http) -> None:
    with pytest.raises(InvalidInput):
        await speak(provider, http, provider_options={"generationConfig": {}})

    assert provider.requests == []

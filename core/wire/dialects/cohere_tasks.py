"""Cohere's embeddings, reranking and transcription, of version 2 of its API."""

from collections.abc import Callable
from typing import Any

import msgspec

from core.errors import UpstreamProtocol
from core.model_types import Usage
from core.model_types.speech2text import Transcript, TranscriptionRequest
from core.model_types.text_embedding import EmbeddingPurpose, EmbeddingRequest, Embeddings
from core.provider import Call, Values
from core.wire.asking import ask, passed_on, read
from core.wire.conversing import Server
from core.wire.dialects.openai_chat import Endpoint
from core.wire.dialects.rerank import Reranking
from core.wire.http import Http
from core.wire.multipart import encode_form
from core.wire.vectors import vectors_of

ServerOf = Callable[[Values], Server]

_PURPOSES = {
    None: "search_document",
    EmbeddingPurpose.DOCUMENT: "search_document",
    EmbeddingPurpose.QUERY: "search_query",
}


class _Units(msgspec.Struct):
    input_tokens: float | None = None


class _Meta(msgspec.Struct):
    billed_units: _Units | None = None


class _Vectors(msgspec.Struct):
    floats: list[list[float]] | None = msgspec.field(name="float", default=None)


class _Embedded(msgspec.Struct):
    embeddings: _Vectors
    meta: _Meta | None = None


class _Transcribed(msgspec.Struct):
    text: str


class CohereEmbeddings:
    """Its embedding models; the base URL is that of the server, without a version."""

    max_texts = 96

    def __init__(self, http: Http, server_of: ServerOf) -> None:
        self._http = http
        self._server_of = server_of

    async def embed(self, call: Call, request: EmbeddingRequest) -> Embeddings:
        """Return a vector for each text, those without a purpose as documents. See `EmbeddingModels`."""
        server = self._server_of(call.values)
        body: dict[str, Any] = {
            "model": call.model,
            "texts": list(request.texts),
            "input_type": _PURPOSES[request.purpose],
            "embedding_types": ["float"],
            "truncate": "NONE",
        }
        if request.dimensions is not None:
            body["output_dimension"] = request.dimensions
        body |= passed_on(request.provider_options, "model", "texts", "images", "inputs", "embedding_types")
        reply = await ask(
            self._http, f"{server.base_url}/v2/embed", headers=server.headers, body=body, secrets=server.secrets
        )
        found = read(reply, _Embedded, server.secrets)
        if found.embeddings.floats is None:
            raise UpstreamProtocol("The provider's answer holds no vectors.")
        units = found.meta.billed_units if found.meta is not None else None
        tokens = units.input_tokens if units is not None else None
        return Embeddings(
            vectors=vectors_of(found.embeddings.floats, request),
            usage=Usage(input_tokens=round(tokens)) if tokens is not None else None,
        )


class CohereTranscriptions:
    """Its transcription models."""

    def __init__(self, http: Http, server_of: ServerOf) -> None:
        self._http = http
        self._server_of = server_of

    async def transcribe(self, call: Call, request: TranscriptionRequest) -> Transcript:
        """Return the words. See `Transcribers`."""
        server = self._server_of(call.values)
        fields: dict[str, Any] = {"model": call.model}
        if request.language is not None:
            fields["language"] = request.language
        fields |= passed_on(request.provider_options, "model", "file")
        audio = request.audio
        content_type, body = encode_form(
            fields, name="file", filename=audio.filename, mime_type=audio.mime_type, content=audio.content
        )
        reply = await ask(
            self._http,
            f"{server.base_url}/v2/audio/transcriptions",
            headers={**server.headers, "content-type": content_type},
            body=body,
            secrets=server.secrets,
        )
        return Transcript(text=read(reply, _Transcribed, server.secrets).text)


def cohere_rerankers(http: Http, server_of: ServerOf) -> Reranking:
    """Return its rerankers, which are asked as Jina's are, and charge by searches."""

    async def endpoint_of(values: Values) -> Endpoint:
        server = server_of(values)
        return Endpoint(base_url=server.base_url, headers=server.headers, secrets=server.secrets)

    return Reranking(http, endpoint_of, path="v2/rerank")

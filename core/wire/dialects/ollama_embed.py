"""Ollama's embeddings: POST /api/embed."""

from collections.abc import Callable
from typing import Any

import msgspec

from core.model_types import Usage
from core.model_types.text_embedding import EmbeddingRequest, Embeddings
from core.provider import Call, Values
from core.wire.asking import ask, passed_on, read
from core.wire.conversing import Server
from core.wire.credential import text_of
from core.wire.http import Http
from core.wire.vectors import vectors_of


class _Embedded(msgspec.Struct):
    embeddings: list[list[float]]
    prompt_eval_count: int | None = None


class OllamaEmbeddings:
    """Its embedding models; the base URL is that of the server, without /api."""

    max_texts = 256

    def __init__(self, http: Http, server_of: Callable[[Values], Server]) -> None:
        self._http = http
        self._server_of = server_of

    async def embed(self, call: Call, request: EmbeddingRequest) -> Embeddings:
        """Return a vector for each text; one too long is an error, not cut in silence. See `EmbeddingModels`."""
        server = self._server_of(call.values)
        model = text_of(call.values, "upstream_model") or call.model
        body: dict[str, Any] = {"model": model, "input": list(request.texts), "truncate": False}
        if request.dimensions is not None:
            body["dimensions"] = request.dimensions
        body |= passed_on(request.provider_options, "model", "input")
        reply = await ask(
            self._http, f"{server.base_url}/api/embed", headers=server.headers, body=body, secrets=server.secrets
        )
        found = read(reply, _Embedded, server.secrets)
        tokens = found.prompt_eval_count
        return Embeddings(
            vectors=vectors_of(found.embeddings, request),
            usage=Usage(input_tokens=tokens) if tokens is not None else None,
        )

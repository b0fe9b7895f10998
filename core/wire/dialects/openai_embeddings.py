"""OpenAI's embeddings, as nearly every other server has them: POST /embeddings."""

from collections.abc import Awaitable, Callable

import msgspec

from core.model_types import Usage
from core.model_types.text_embedding import EmbeddingRequest, Embeddings
from core.provider import Call, Values
from core.wire.asking import ask, passed_on, read
from core.wire.dialects.openai_chat import Endpoint, Quirks
from core.wire.http import Http
from core.wire.vectors import Sent, vectors_of


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    total_tokens: int | None = None


class _One(msgspec.Struct):
    embedding: Sent
    index: int | None = None


class _Answer(msgspec.Struct):
    data: list[_One]
    usage: _Usage | None = None


class OpenAIEmbeddings:
    """The embedding models of a provider that speaks this dialect."""

    def __init__(self, http: Http, endpoint_of: Callable[[Values], Awaitable[Endpoint]], quirks: Quirks) -> None:
        self._http = http
        self._endpoint_of = endpoint_of
        self._quirks = quirks
        self.max_texts = quirks.max_texts

    async def embed(self, call: Call, request: EmbeddingRequest) -> Embeddings:
        """Return a vector for each text. See `EmbeddingModels`."""
        endpoint = await self._endpoint_of(call.values)
        body = self._body(endpoint.model or call.model, request)
        reply = await ask(
            self._http, endpoint.url("embeddings"), headers=endpoint.headers, body=body, secrets=endpoint.secrets
        )
        answer = read(reply, _Answer, endpoint.secrets)
        placed = all(one.index is not None for one in answer.data)
        ordered = sorted(answer.data, key=lambda one: one.index or 0) if placed else answer.data
        return Embeddings(vectors=vectors_of([one.embedding for one in ordered], request), usage=_usage(answer.usage))

    def _body(self, model: str, request: EmbeddingRequest) -> dict[str, object]:
        quirks = self._quirks
        body: dict[str, object] = {"model": model, "input": list(request.texts)}
        if quirks.base64_vectors:
            body["encoding_format"] = "base64"
        if request.dimensions is not None:
            body[quirks.dimensions_parameter] = request.dimensions
        if quirks.purpose_parameter is not None and request.purpose is not None:
            body[quirks.purpose_parameter] = request.purpose.lower()
        if request.end_user is not None and quirks.end_user_parameter:
            body[quirks.end_user_parameter] = request.end_user
        return body | passed_on(request.provider_options, "model", "input")


def _usage(usage: _Usage | None) -> Usage | None:
    if usage is None:
        return None
    tokens = usage.prompt_tokens if usage.prompt_tokens is not None else usage.total_tokens
    return Usage(input_tokens=tokens) if tokens is not None else None

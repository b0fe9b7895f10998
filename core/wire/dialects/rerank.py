"""Reranking, as Jina, Xinference, vLLM, Voyage and Text Embeddings Inference have it: POST /rerank."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from core.errors import UpstreamProtocol
from core.model_types import Usage
from core.model_types.rerank import Hit, Ranking, RerankRequest
from core.provider import Call, Values
from core.wire.asking import ask, passed_on, read
from core.wire.dialects.openai_chat import Endpoint
from core.wire.failures import failure_in_stream
from core.wire.http import Http


class _Tokens(msgspec.Struct):
    total_tokens: int | None = None
    input_tokens: int | None = None


class _Units(msgspec.Struct):
    search_units: float | None = None


class _Meta(msgspec.Struct):
    billed_units: _Units | None = None
    tokens: _Tokens | None = None


class _Hit(msgspec.Struct):
    index: int
    relevance_score: float | None = None
    score: float | None = None


class _Answer(msgspec.Struct):
    results: list[_Hit] | None = None
    data: list[_Hit] | None = None
    usage: _Tokens | None = None
    meta: _Meta | None = None
    error: Any = None


class Reranking:
    """The rerankers of a provider. `path` follows the base URL; `style_of` tells how a credential's server is asked."""

    def __init__(
        self,
        http: Http,
        endpoint_of: Callable[[Values], Awaitable[Endpoint]],
        *,
        path: str = "rerank",
        top_n: str = "top_n",
        style_of: Callable[[Values], str] = lambda _: "jina",
    ) -> None:
        self._http = http
        self._endpoint_of = endpoint_of
        self._path = path
        self._top_n = top_n
        self._style_of = style_of

    async def rerank(self, call: Call, request: RerankRequest) -> Ranking:
        """Return the hits. See `Rerankers`."""
        endpoint = await self._endpoint_of(call.values)
        is_tei = self._style_of(call.values) == "tei"
        body = _tei_body(request) if is_tei else self._body(endpoint.model or call.model, request)
        reply = await ask(
            self._http, endpoint.url(self._path), headers=endpoint.headers, body=body, secrets=endpoint.secrets
        )
        answer = read(reply, _Answer | list[_Hit], endpoint.secrets)  # type: ignore[arg-type]
        if isinstance(answer, _Answer) and answer.error:
            raise failure_in_stream({"error": answer.error}, secrets=endpoint.secrets)
        return ranking_of(answer, request)

    def _body(self, model: str, request: RerankRequest) -> dict[str, object]:
        body: dict[str, object] = {"model": model, "query": request.query, "documents": list(request.documents)}
        if request.top_n is not None:
            body[self._top_n] = request.top_n
        return body | passed_on(request.provider_options, "model", "query", "documents")


def ranking_of(answer: "_Answer | list[_Hit]", request: RerankRequest) -> Ranking:
    """Return what was found.

    Raises:
        UpstreamProtocol: a document is named that was not given, or twice, or has no score.
    """
    sent = answer if isinstance(answer, list) else answer.results if answer.results is not None else answer.data
    if sent is None:
        raise UpstreamProtocol("The provider's answer holds no ranking.")
    hits: dict[int, Hit] = {}
    for one in sent:
        score = one.relevance_score if one.relevance_score is not None else one.score
        if score is None or not 0 <= one.index < len(request.documents) or one.index in hits:
            raise UpstreamProtocol(
                "The provider's ranking names a document that was not given, twice, or without score."
            )
        hits[one.index] = Hit(one.index, score)
    return Ranking(hits=tuple(hits.values()), usage=None if isinstance(answer, list) else _usage(answer))


def _tei_body(request: RerankRequest) -> dict[str, object]:
    return {
        "query": request.query,
        "texts": list(request.documents),
        **passed_on(request.provider_options, "query", "texts"),
    }


def _usage(answer: _Answer) -> Usage | None:
    units = answer.meta.billed_units if answer.meta is not None else None
    counted = answer.usage or (answer.meta.tokens if answer.meta is not None else None)
    tokens = (counted.total_tokens or counted.input_tokens or 0) if counted is not None else 0
    if units is not None and units.search_units is not None:
        return Usage(input_tokens=tokens, requests=max(1, round(units.search_units)))
    return Usage(input_tokens=tokens) if tokens else None

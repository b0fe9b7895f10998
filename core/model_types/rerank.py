"""Rerankers: documents in, ordered by how well they answer a query."""

from typing import Any

import msgspec

from core.model_types import Usage, estimated_tokens

MAX_DOCUMENTS = 1000
_PART = 500
_PARTS_A_REQUEST = 100
"""Cohere charges a search for each 100 documents, of which one of more than 500 tokens is several (2026-11-21)."""


class RerankRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Documents to order. `top_n` None keeps all; hits below `score_threshold` are left out."""

    query: str
    documents: tuple[str, ...]
    top_n: int | None = None
    score_threshold: float | None = None
    end_user: str | None = None
    provider_options: dict[str, Any] = {}


class Hit(msgspec.Struct, frozen=True):
    """A document by its place in the request, and how well it answers; scores of two models do not compare."""

    index: int
    score: float


class Ranking(msgspec.Struct, frozen=True, kw_only=True):
    """What a reranker found. `usage` None: the provider reported nothing."""

    hits: tuple[Hit, ...]
    usage: Usage | None = None


def best(request: RerankRequest, hits: tuple[Hit, ...]) -> tuple[Hit, ...]:
    """Return the hits that were asked for, the best first; of equals the one that stood first."""
    threshold = request.score_threshold
    kept = (hit for hit in hits if threshold is None or hit.score >= threshold)
    return tuple(sorted(kept, key=lambda hit: (-hit.score, hit.index))[: request.top_n])


def bound_usage(request: RerankRequest) -> Usage:
    """Return what a call uses at most: a token for each byte; providers count long documents as several."""
    query = len(request.query.encode("utf-8", "surrogatepass"))
    sizes = [query + len(one.encode("utf-8", "surrogatepass")) for one in request.documents]
    parts = sum(max(1, -(-size // _PART)) for size in sizes)
    return Usage(input_tokens=sum(sizes) + 4 * len(sizes), requests=max(1, -(-parts // _PARTS_A_REQUEST)))


def estimate_usage(request: RerankRequest) -> Usage:
    """Return the usage of a call whose provider reported none: the query is read with each document."""
    query = estimated_tokens(request.query) * len(request.documents)
    return Usage(input_tokens=query + estimated_tokens(*request.documents), estimated=True)

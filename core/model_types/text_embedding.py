"""Text embeddings: texts in, one vector each out."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import msgspec

from core.model_types import Usage, estimated_tokens

MAX_TEXTS = 2048


class EmbeddingPurpose(StrEnum):
    """What the vectors are for; some models embed a question differently from what answers it."""

    DOCUMENT = "DOCUMENT"
    QUERY = "QUERY"


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Texts to embed. `dimensions` None is the model's own size."""

    texts: tuple[str, ...]
    purpose: EmbeddingPurpose | None = None
    dimensions: int | None = None
    end_user: str | None = None
    provider_options: dict[str, Any] = {}


class Embeddings(msgspec.Struct, frozen=True, kw_only=True):
    """A vector for each text, in their order. `usage` None: the provider reported nothing."""

    vectors: tuple[Sequence[float], ...]
    usage: Usage | None = None


def estimate_usage(request: EmbeddingRequest) -> Usage:
    """Return the usage of a call whose provider reported none."""
    return Usage(input_tokens=estimated_tokens(*request.texts), estimated=True)

"""Moderation: text in, whether and how it is harmful out."""

from collections.abc import Mapping
from typing import Any

import msgspec

from core.model_types import Usage, estimated_tokens


class ModerationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A text to judge."""

    text: str
    end_user: str | None = None
    provider_options: dict[str, Any] = {}


class Category(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of harm; `score` is from 0 to 1, None where the model gives none."""

    flagged: bool
    score: float | None = None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a moderation model found, by the provider's own names of the categories."""

    flagged: bool
    categories: Mapping[str, Category]
    usage: Usage | None = None


def estimate_usage(request: ModerationRequest) -> Usage:
    """Return the usage of a call whose provider reported none."""
    return Usage(input_tokens=estimated_tokens(request.text), estimated=True)

"""A part of a list: how it is asked for, and what comes back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from uuid import UUID

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRequest:
    """A part of a list ordered by id: `limit` rows after or before an id, newest first unless `oldest_first`.

    `backwards` takes the last ones of the range instead of the first ones.
    """

    limit: int
    after: UUID | None = None
    before: UUID | None = None
    backwards: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice(Generic[T]):
    """A part of a list in list order. `total` is None above 10,000."""

    items: Sequence[T]
    has_next: bool
    has_previous: bool
    total: int | None

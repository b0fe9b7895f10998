"""Calls and tokens of the last minute."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol
from uuid import UUID


class RateOf(StrEnum):
    """Whose calls are counted."""

    TOKEN = "TOKEN"
    WORKSPACE = "WORKSPACE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How many calls there may be in any minute, and how many tokens they may use; None: as many as they like."""

    of: RateOf
    id: UUID
    requests: int | None
    tokens: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A call that was counted at a moment, with so many tokens. `is_local`: only this process knows of it."""

    rates: tuple[Rate, ...]
    at: float
    tokens: int
    is_local: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Limited:
    """Which rate has no room for a call, of `requests` or tokens, and in how many seconds it has."""

    rate: Rate
    requests: bool
    retry_after: float


class Rates(Protocol):
    """Calls and tokens of the last minute, by all processes. Each step is atomic over all the rates of a call."""

    async def take(self, rates: Sequence[Rate], tokens: int) -> Taken | Limited:
        """Count a call that will use about so many tokens, where each rate has room for it, else nowhere.

        One that foresees more tokens than a rate allows has room when nothing else was used in the last minute.
        """
        ...

    async def correct(self, taken: Taken, tokens: int) -> None:
        """Count a call with the tokens that it has used in the end."""
        ...

    async def give_back(self, taken: Taken) -> None:
        """Count a call no more: it was not made."""
        ...

"""Settlements that wait to be booked."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from core.entities import Invocation


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """How a call has ended and what its holds have used: see `InvocationLog.settle`.

    `was_refused`: its caller was told that it was not begun, and it may all the same have been written down.
    """

    invocation: Invocation
    charges: Mapping[UUID, int] | None
    spent: Mapping[UUID, int] | None
    was_refused: bool = False


class Unsettled(Protocol):
    """Settlements that wait to be booked, kept outside the process. ServerUnavailable while Redis is away."""

    async def put(self, settlement: Settlement) -> None:
        """Keep a settlement until a worker has booked it."""
        ...

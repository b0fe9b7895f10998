"""Who a secret stands for."""

from collections.abc import Mapping, Sequence
from typing import Protocol
from uuid import UUID

from core.access import Viewer


class Identity(Protocol):
    """Who a secret stands for."""

    async def viewer(self, token_hash: bytes) -> Viewer | None:
        """Return the viewer of a SHA-256 of a secret, by one read; None when unknown, revoked or expired."""
        ...

    async def viewers(self, token_ids: Sequence[UUID]) -> Mapping[UUID, Viewer | None]:
        """Return the viewer that each of these tokens stands for now, None where it stands for none; one read."""
        ...

"""Results of calls, kept for those who ask again."""

from typing import Protocol
from uuid import UUID


class ResultStore(Protocol):
    """Results of calls, kept for all processes for 10 minutes. ServerUnavailable while Redis is away."""

    async def put(self, invocation_id: UUID, result: bytes) -> None: ...
    async def get(self, invocation_id: UUID) -> bytes | None: ...

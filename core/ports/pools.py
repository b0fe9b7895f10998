"""What is stored of pools."""

from typing import Protocol
from uuid import UUID

from core.entities import Pool


class Pools(Protocol):
    """Pools of workspaces. Each change needs `workspaces.touch` in the same transaction."""

    async def put(self, workspace_id: UUID, pool: Pool) -> None:
        """Replace the pool and all its members; those whose id stays are the same ones."""
        ...

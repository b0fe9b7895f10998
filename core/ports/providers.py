"""What is stored of a workspace's choices for a provider."""

from datetime import datetime
from typing import Protocol
from uuid import UUID

from core.model_types.llm import ProviderType


class ProviderRows(Protocol):
    """What a workspace chose for a provider."""

    async def set_active(self, workspace_id: UUID, provider: str, credential_id: UUID | None) -> None: ...
    async def set_preferred(self, workspace_id: UUID, provider: str, preferred: ProviderType | None) -> None: ...
    async def set_refreshed(self, workspace_id: UUID, provider: str, at: datetime) -> None:
        """Store when the provider's own list of models was read."""
        ...

"""What is stored of a workspace's own models and of its settings of models."""

from typing import Protocol
from uuid import UUID

from core.entities import ModelRow, ModelSetting
from core.model_types import ModelKey, ModelType


class Models(Protocol):
    """Custom and configured models of a workspace."""

    async def put(self, workspace_id: UUID, row: ModelRow) -> None:
        """Insert the row or replace all but its key of the one there."""
        ...

    async def delete(self, workspace_id: UUID, key: ModelKey) -> None:
        """Delete the row with its setting and its place as a default; its credentials stay."""
        ...

    async def put_setting(self, workspace_id: UUID, setting: ModelSetting) -> None: ...
    async def put_default(self, workspace_id: UUID, model_type: ModelType, key: ModelKey | None) -> None:
        """Set the default of the type; None clears it."""
        ...

"""Snapshots of what workspaces have configured."""

from typing import Protocol
from uuid import UUID

from core.configuration import Configuration


class Configurations(Protocol):
    """Snapshots of workspaces' configurations, kept in process memory and verified by version.

    They know no balances: as if nothing of a quota were used.
    """

    async def get(self, workspace_id: UUID, version: int | None = None) -> Configuration:
        """Return the snapshot, at least as new as `version`; None reads the version first. NotFound if it is gone."""
        ...

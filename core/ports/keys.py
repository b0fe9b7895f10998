"""What is stored of the data keys of workspaces."""

from collections.abc import Mapping, Sequence
from typing import Protocol
from uuid import UUID

from core.entities import Credential, KeyRotation, Sealed


class Keys(Protocol):
    """The data keys of workspaces. A caller that changes them has touched the workspace in the same transaction."""

    async def rotations(self, workspace_ids: Sequence[UUID]) -> Mapping[UUID, KeyRotation]:
        """Return the newest rotation of each workspace that ever had one."""
        ...

    async def begin_rotation(self, workspace_id: UUID) -> None:
        """Add the next version of the workspace's key: from the commit on it seals what is written."""
        ...

    async def outdated(self, workspace_id: UUID, after: UUID | None, *, limit: int) -> Sequence[Credential]:
        """Return credentials sealed by an older version than the newest, in order of id, after one of them."""
        ...

    async def reseal(self, credential: Credential, sealed: Sealed) -> bool:
        """Replace the sealed values if the credential is still what it was; tell if so."""
        ...

    async def end_rotation(self, workspace_id: UUID) -> int:
        """Destroy the versions that no credential names, and mark the rotation finished; return how many they were."""
        ...

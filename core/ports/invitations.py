"""What is stored of invitations."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from core.entities import Invitation
from core.ports.paging import PageRequest, Slice


class Invitations(Protocol):
    """Invitations: one an e-mail address and workspace."""

    async def put(self, invitation: Invitation, secret_hash: bytes) -> None:
        """Insert with the SHA-256 of its secret; an older one of the same address ends with it."""
        ...

    async def accept(self, secret_hash: bytes, at: datetime) -> Invitation | None:
        """Use up an invitation that is neither used nor expired, and return it; None where there is none such."""
        ...

    async def by_hash(self, secret_hash: bytes) -> Invitation | None: ...
    async def get_many(self, invitation_ids: Sequence[UUID]) -> Mapping[UUID, Invitation]: ...
    async def page(self, workspace_id: UUID, page: PageRequest) -> Slice[Invitation]:
        """Return those of a workspace that are neither used nor over, newest first."""
        ...

    async def delete(self, invitation_id: UUID) -> bool:
        """Delete an invitation that is not used; tell whether it was."""
        ...

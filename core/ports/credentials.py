"""What is stored of credentials."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from core.entities import Credential, CredentialStatus
from core.errors import Problem


class Credentials(Protocol):
    """Sealed credentials. Each change needs `workspaces.touch` in the same transaction, but for `set_status`."""

    async def get(self, workspace_id: UUID, credential_id: UUID) -> Credential | None: ...
    async def insert(self, credential: Credential) -> None:
        """AlreadyExists if the name is taken within (workspace, provider, model, type)."""
        ...

    async def update(self, credential: Credential, *, version: int) -> bool:
        """Write name, values, status and version over a credential that still has this version; tell if so.

        AlreadyExists if the name is taken.
        """
        ...

    async def set_status(
        self,
        workspace_id: UUID,
        credential_id: UUID,
        *,
        version: int,
        status: CredentialStatus,
        problem: Problem | None,
        validated_at: datetime | None,
    ) -> bool:
        """Set the status if the credential still has this version, raising the configuration's version; tell if so."""
        ...

    async def last_used(self, workspace_ids: Sequence[UUID], credential_ids: Sequence[UUID]) -> Mapping[UUID, datetime]:
        """Return when each was last used; those that never were are left out."""
        ...

    async def delete(self, workspace_id: UUID, credential_id: UUID) -> bool:
        """Delete; where it was active, nothing is active afterwards. Tell whether it was there."""
        ...

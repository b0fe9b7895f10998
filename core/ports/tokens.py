"""What is stored of bearer tokens."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from core.entities import ApiToken
from core.ports.paging import PageRequest, Slice


class Tokens(Protocol):
    """Bearer tokens."""

    async def insert(self, token: ApiToken, secret_hash: bytes) -> None: ...
    async def get(self, token_id: UUID) -> ApiToken | None: ...
    async def get_many(self, token_ids: Sequence[UUID]) -> Mapping[UUID, ApiToken]: ...
    async def revoke_of_member(self, workspace_id: UUID, account_id: UUID, at: datetime) -> None:
        """Revoke the tokens of a workspace that stand for an account."""
        ...

    async def locked(self, token_id: UUID) -> ApiToken | None:
        """Return a token that nobody else changes before the transaction ends."""
        ...

    async def update(self, token: ApiToken) -> None:
        """Write the name, the limits and the time of expiry."""
        ...

    async def revoke(self, token_id: UUID, at: datetime) -> bool:
        """Revoke once; a second time changes nothing. Tell whether it was this time."""
        ...

    async def page(
        self, page: PageRequest, *, workspace_id: UUID | None, account_id: UUID | None, include_revoked: bool
    ) -> Slice[ApiToken]:
        """Return the tokens of a workspace, or those that stand for an account, newest first."""
        ...

"""What is stored of memberships."""

from collections.abc import Mapping, Sequence
from typing import Protocol
from uuid import UUID

from core.access import Role
from core.entities import Member
from core.ports.paging import PageRequest, Slice


class Members(Protocol):
    """Memberships. Changes of a workspace's members need `workspaces.touch` in the same transaction."""

    async def insert(self, member: Member) -> None:
        """AlreadyExists if the account is a member already."""
        ...

    async def get_many(self, member_ids: Sequence[UUID]) -> Mapping[UUID, Member]: ...
    async def of_accounts(self, account_ids: Sequence[UUID]) -> Mapping[UUID, Sequence[Member]]:
        """Return the memberships of each account, oldest first."""
        ...

    async def find(self, workspace_id: UUID, account_id: UUID) -> Member | None:
        """Return the place of an account in a workspace."""
        ...

    async def set_role(self, member_id: UUID, role: Role) -> bool:
        """Change the role, unless that would leave the workspace without an OWNER; tell whether it was changed."""
        ...

    async def delete(self, member_id: UUID) -> bool:
        """Delete the membership, unless it is the last OWNER's; tell whether it was deleted."""
        ...

    async def page(self, workspace_id: UUID, page: PageRequest, *, role: str | None) -> Slice[Member]: ...

"""What is stored of quotas and of their ledger."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from core.entities import EntryKind, Quota, QuotaEntry, QuotaType
from core.ledger import Change as LedgerChange
from core.ports.paging import PageRequest, Slice


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What an entry of the ledger says besides its amounts: who, for which order, and why."""

    account_id: UUID | None = None
    order_id: UUID | None = None
    text: str | None = None


class Quotas(Protocol):
    """Balances of hosted use. What changes which there are needs `workspaces.touch` in the same transaction."""

    async def insert(self, quota: Quota, kind: EntryKind, note: Note) -> bool:
        """Insert with the entry of its limit, unless one that is live has its place; tell whether it was inserted."""
        ...

    async def change(
        self, quota_id: UUID, change: LedgerChange, note: Note, *, ended_too: bool = False
    ) -> Quota | None:
        """Change the limit, or what is used, by an entry; None where there is no such live quota, or none at all."""
        ...

    async def archive(self, quota_id: UUID, at: datetime) -> bool:
        """End a quota; tell whether it was live."""
        ...

    async def locked(self, quota_id: UUID) -> Quota | None:
        """Return a quota that nobody else changes before the transaction ends."""
        ...

    async def get_many(self, quota_ids: Sequence[UUID]) -> Mapping[UUID, Quota]: ...
    async def of_workspace(self, workspace_id: UUID, *, include_archived: bool = False) -> Sequence[Quota]:
        """Return the quotas of a workspace with their balances as they are now, oldest first."""
        ...

    async def workspaces_without(self, provider: str, quota_type: QuotaType, *, limit: int) -> Sequence[UUID]:
        """Return workspaces that never had a quota of this provider and type."""
        ...

    async def entries(self, workspace_id: UUID, quota_id: UUID, page: PageRequest) -> Slice[QuotaEntry]:
        """Return the changes of a quota, newest first."""
        ...

    async def entries_of(self, invocation_ids: Sequence[UUID]) -> Mapping[UUID, Sequence[QuotaEntry]]:
        """Return the changes that each of these calls has made, oldest first."""
        ...

    async def entries_by_id(self, entry_ids: Sequence[UUID]) -> Mapping[UUID, QuotaEntry]: ...

"""Records of calls, for reading."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from core.entities import Invocation
from core.model_types import ModelType
from core.ports.paging import PageRequest, Slice


@dataclass(frozen=True, slots=True, kw_only=True)
class InvocationQuery:
    """Which invocations are asked for; what is None does not restrict."""

    principal: UUID | None = None
    provider: str | None = None
    model_name: str | None = None
    type: ModelType | None = None
    provider_type: str | None = None
    status: tuple[str, ...] | None = None
    credential_id: UUID | None = None
    account_id: UUID | None = None
    token_id: UUID | None = None
    end_user: str | None = None
    tags: Mapping[str, str] | None = None
    since: datetime | None = None
    until: datetime | None = None


class Invocations(Protocol):
    """Records of calls, for reading."""

    async def get_many(self, workspace_ids: Sequence[UUID], ids: Sequence[UUID]) -> Mapping[UUID, Invocation]: ...
    async def page(self, workspace_id: UUID, page: PageRequest, query: InvocationQuery) -> Slice[Invocation]:
        """Return invocations, newest first."""
        ...

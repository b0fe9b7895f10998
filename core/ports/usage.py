"""What calls used, added up."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from core.entities import UsageBucket, UsageDimension, UsageInterval
from core.ports.invocations import InvocationQuery


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageQuery:
    """Which usage is asked for: of ended calls admitted from `since` until before `until`, at most `limit` buckets.

    `tag` is the name of the tag that the dimension TAG is of. `calls` restricts as in a list of calls, but by no time.
    """

    since: datetime
    until: datetime
    interval: UsageInterval | None
    by: tuple[UsageDimension, ...]
    tag: str
    calls: InvocationQuery
    limit: int


class UsageSums(Protocol):
    """What calls used, added up."""

    async def buckets(self, workspace_id: UUID, query: UsageQuery) -> Sequence[UsageBucket]:
        """Return the buckets that hold a call, by time, then by key."""
        ...

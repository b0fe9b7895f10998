"""The state of the installation's parts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentHealth:
    """Whether a part of the installation answers, and how fast, in seconds."""

    ok: bool
    engine: str
    latency: float | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerHealth:
    """One worker as it last reported itself."""

    name: str
    last_seen_at: datetime
    queued: int
    ongoing: int
    complete: int
    failed: int
    retried: int


class Health(Protocol):
    """The state of the installation's parts."""

    async def database(self) -> ComponentHealth: ...
    async def redis(self) -> ComponentHealth: ...
    async def workers(self) -> Sequence[WorkerHealth]: ...

"""The keys by which an operation is done once."""

from dataclasses import dataclass
from typing import Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeated:
    """What a key stands for already: the hash of the input it came with, and what that made."""

    input_hash: bytes
    result_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class OnceKey:
    """What makes a repeat of an operation one: its place, and the hash of its input. `result_id` is what it makes."""

    workspace_id: UUID
    principal: UUID
    operation: str
    key: str
    input_hash: bytes
    result_id: UUID


class OnceKeys(Protocol):
    """The keys by which operations are done once, remembered for 24 hours."""

    async def find(self, workspace_id: UUID, principal: UUID, operation: str, key: str) -> Repeated | None:
        """Return what a key stands for already."""
        ...

    async def claim(self, key: OnceKey) -> Repeated | None:
        """Write the key with the transaction; return what it stands for already if it does, and write nothing then."""
        ...

    async def forget(self, result_id: UUID) -> None:
        """Forget the key of what was not made after all."""
        ...

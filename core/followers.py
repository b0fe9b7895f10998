"""Those who follow changes in this process: whose token each is, what it takes, and how one is sent away."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from core.access import Permission
from core.errors import ModelyardError


class Follower:
    """One who follows the changes of a workspace by a token that needs a permission there."""

    __slots__ = ("error", "gone", "permission", "token_id", "workspace_id")

    def __init__(self, token_id: UUID, workspace_id: UUID, permission: Permission) -> None:
        self.token_id = token_id
        self.workspace_id = workspace_id
        self.permission = permission
        self.error: ModelyardError | None = None
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(self, error: ModelyardError) -> None:
        """Send this follower away with an error; a second time changes nothing."""
        if self.error is None:
            self.error = error
            self.gone.set_result(None)


class Followers:
    """Everyone who follows now."""

    def __init__(self) -> None:
        self._present: set[Follower] = set()

    def __iter__(self) -> Iterator[Follower]:
        return iter(list(self._present))

    @contextmanager
    def with_(self, follower: Follower) -> Iterator[None]:
        """Count a follower in during the block."""
        self._present.add(follower)
        try:
            yield
        finally:
            self._present.discard(follower)

    def end(self, error: ModelyardError) -> None:
        """Send everyone away."""
        for follower in self:
            follower.end(error)

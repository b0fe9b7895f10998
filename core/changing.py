"""A change of a workspace's configuration: one at a time, and told of once it is committed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from core.app import App
from core.changes import differences
from core.configuration import Configuration
from core.ports.transaction import Transaction


@dataclass(slots=True, kw_only=True)
class Changing:
    """A change under way. `after` is the configuration as it is once the block has ended."""

    tx: Transaction
    before: Configuration
    after: Configuration


@asynccontextmanager
async def changing(app: App, workspace_id: UUID) -> AsyncIterator[Changing]:
    """Open a transaction in which nobody else changes the workspace; what differs at its end is told of.

    Raises:
        NotFound: the workspace is gone.
    """
    async with app.storage.transaction() as tx:
        await tx.workspaces.touch(workspace_id)
        before = await tx.configuration(workspace_id)
        change = Changing(tx=tx, before=before, after=before)
        yield change
        change.after = await tx.configuration(workspace_id)
        for difference in differences(before, change.after):
            tx.news.add(difference)

"""Snapshots of workspaces' configurations: loaded whole but for balances, kept in memory, verified by version."""

import asyncio
from collections import OrderedDict
from uuid import UUID

from core.configuration import Configuration, unspent
from storage.snapshot import version_of
from storage.transaction import SqlStorage

CHANNEL = "modelyard:configuration"
"""Messages: the 16 bytes of a workspace's id, then its new version in 8 bytes, big-endian."""

_KEPT = 2000


def to_message(workspace_id: UUID, version: int) -> bytes:
    """Return the message that tells of a change."""
    return workspace_id.bytes + version.to_bytes(8, "big")


def from_message(message: bytes) -> tuple[UUID, int] | None:
    """Return the workspace and version that a message tells of; None if it is none of ours."""
    if len(message) != 24:
        return None
    return UUID(bytes=message[:16]), int.from_bytes(message[16:], "big")


class Cache:
    """Keeps snapshots of the workspaces used last; concurrent loads of one workspace are one."""

    def __init__(self, storage: SqlStorage) -> None:
        self._storage = storage
        self._kept: OrderedDict[UUID, Configuration] = OrderedDict()
        self._loading: dict[UUID, asyncio.Task[Configuration]] = {}

    async def get(self, workspace_id: UUID, version: int | None = None) -> Configuration:
        """Return the snapshot, at least as new as `version`; None reads the version first. NotFound if it is gone."""
        if version is None:
            async with self._storage.single() as connection:
                version = await version_of(connection, workspace_id)
        kept = self._kept.get(workspace_id)
        if kept is not None and kept.version >= version:
            self._kept.move_to_end(workspace_id)
            return kept
        joined = self._loading.get(workspace_id)
        if joined is not None:
            configuration = await asyncio.shield(joined)
            if configuration.version >= version:
                return configuration
        return await asyncio.shield(self._begin(workspace_id))

    def changed(self, workspace_id: UUID, version: int) -> None:
        """Drop a snapshot that is older than this version."""
        kept = self._kept.get(workspace_id)
        if kept is not None and kept.version < version:
            del self._kept[workspace_id]

    async def close(self) -> None:
        """Wait for loads that are under way."""
        if self._loading:
            await asyncio.wait(list(self._loading.values()))

    def _begin(self, workspace_id: UUID) -> asyncio.Task[Configuration]:
        task = self._loading.get(workspace_id)
        if task is None:
            task = self._loading[workspace_id] = asyncio.create_task(self._load(workspace_id))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    async def _load(self, workspace_id: UUID) -> Configuration:
        try:
            async with self._storage.read() as tx:
                configuration = unspent(await tx.configuration(workspace_id))
        finally:
            del self._loading[workspace_id]
        kept = self._kept.get(workspace_id)
        if kept is None or kept.version < configuration.version:
            self._kept[workspace_id] = configuration
        self._kept.move_to_end(workspace_id)
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return configuration

"""Tells every process what commits have brought, in their order: versions of configurations, and what has changed."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from core.errors import ServerUnavailable
from storage import configurations
from storage.changes import RedisChanges
from storage.transaction import Committed

log = logging.getLogger(__name__)

_KEPT = 10_000
_LAST_WORDS_S = 1.0
_PAUSES_S = (0.1, 0.5, 1.0)
"""Between tries: a connection that has died is only found out by using it."""


_GROUP = 256
"""How many messages go to Redis in one round trip."""


class Teller:
    """Publishes messages in their order, those that wait together, so that nobody hears an earlier state last."""

    def __init__(self, changes: RedisChanges) -> None:
        self._changes = changes
        self._waiting: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(_KEPT)

    def tell(self, committed: Committed) -> None:
        """Publish what a commit brought, soon. Never blocks."""
        for workspace_id, version in committed.versions.items():
            self._put(configurations.CHANNEL, configurations.to_message(workspace_id, version))
        for change in committed.news:
            version = committed.versions.get(change.workspace_id, 0)
            self._put(change.channel, msgspec.structs.replace(change, version=version).to_message())

    async def run(self) -> None:
        """Publish what waits, until cancelled."""
        while True:
            messages = [await self._waiting.get()]
            while len(messages) < _GROUP and not self._waiting.empty():
                messages.append(self._waiting.get_nowait())
            try:
                await self._publish(messages)
            finally:
                for _ in messages:
                    self._waiting.task_done()

    async def flush(self) -> None:
        """Wait a moment until all is published: the process is about to end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_S):
                await self._waiting.join()

    async def _publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Publish messages. Where Redis is away, those who follow have lost it too, and know it."""
        for pause in _PAUSES_S:
            try:
                await self._changes.publish_all(messages)
            except ServerUnavailable as error:
                log.warning("changes were not published yet: %s", error)
                await asyncio.sleep(pause)
            else:
                return

    def _put(self, channel: str, message: bytes) -> None:
        try:
            self._waiting.put_nowait((channel, message))
        except asyncio.QueueFull:
            log.warning("a change is not published: %d wait already", _KEPT)

"""Puts the outbox's jobs into the queue: at once after a commit, and again by the sweep when one was lost."""

import asyncio
import logging

from storage import outbox
from storage.queue import Queue
from storage.transaction import SqlStorage

log = logging.getLogger(__name__)

_GROUP = 100
_AGAIN_S = 1.0


class Relay:
    """Relays jobs. Two relays at once do no harm: a run has one id in the queue, and a worker claims it first."""

    def __init__(self, storage: SqlStorage, queue: Queue) -> None:
        self._storage = storage
        self._queue = queue
        self._nudged = asyncio.Event()

    def nudge(self) -> None:
        """Tell that a job was committed."""
        self._nudged.set()

    async def run(self) -> None:
        """Relay whenever nudged, until cancelled."""
        while True:
            await self._nudged.wait()
            self._nudged.clear()
            try:
                await self.sweep()
            except Exception as error:
                log.warning("jobs wait to be relayed: %s", error)
                self._nudged.set()
                await asyncio.sleep(_AGAIN_S)

    async def sweep(self) -> int:
        """Relay everything that is due; return how many jobs that were."""
        relayed = 0
        while True:
            async with self._storage.single() as connection:
                jobs = await outbox.due(connection, limit=_GROUP)
            for job in jobs:
                await self._queue.put(job.name, job.id, job.run)
            if jobs:
                async with self._storage.connect() as connection:
                    await outbox.mark_queued(connection, jobs)
            relayed += len(jobs)
            if len(jobs) < _GROUP:
                return relayed

"""Whether the database, Redis and the workers answer, and how fast."""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import replace

from sqlalchemy import literal, select

from core.errors import ServerUnavailable
from core.ports.clock import Clock
from core.ports.health import ComponentHealth, WorkerHealth
from storage import processes
from storage.queue import Queue
from storage.transaction import SqlStorage

_PATIENCE_S = 3.0
_WITHOUT_REDIS = "Meanwhile each process spreads calls over pools, and counts calls a minute, by what it knows alone."
_ALIVE = select(literal(1))


class SqlHealth:
    """Asks the parts of the installation."""

    def __init__(self, storage: SqlStorage, queue: Queue, clock: Clock, engine: str) -> None:
        self._storage = storage
        self._queue = queue
        self._clock = clock
        self._engine = engine

    async def database(self) -> ComponentHealth:
        """Return whether the database answers."""
        return await self._ask(self._engine, self._database())

    async def redis(self) -> ComponentHealth:
        """Return whether Redis answers."""
        found = await self._ask("redis", self._queue.ping())
        return found if found.ok else replace(found, problem=f"{found.problem} {_WITHOUT_REDIS}")

    async def workers(self) -> Sequence[WorkerHealth]:
        """Return the workers that are alive."""
        async with self._storage.read() as tx:
            return await processes.workers(tx.connection)

    async def _ask(self, engine: str, question: Coroutine[None, None, None]) -> ComponentHealth:
        began = self._clock.monotonic()
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await question
        except ServerUnavailable as error:
            return ComponentHealth(ok=False, engine=engine, problem=error.message)
        except TimeoutError:
            return ComponentHealth(ok=False, engine=engine, problem=f"No answer within {_PATIENCE_S:g} seconds.")
        return ComponentHealth(ok=True, engine=engine, latency=self._clock.monotonic() - began)

    async def _database(self) -> None:
        async with self._storage.single() as connection:
            await connection.row(_ALIVE)

"""The job queue: arq over Redis, with JSON."""

from typing import Any
from uuid import UUID

import msgspec
from arq.connections import ArqRedis
from redis.asyncio import ConnectionPool
from redis.asyncio.client import Pipeline

from storage.redis import redis_errors

QUEUE = "modelyard:jobs"


def encode(value: dict[str, Any]) -> bytes:
    """Return what arq stores, as JSON; an exception by its type alone, since its text may quote anything."""
    return msgspec.json.encode(value, enc_hook=lambda found: type(found).__name__)


def decode(data: bytes) -> dict[str, Any]:
    """Return what `encode` made bytes of."""
    found: dict[str, Any] = msgspec.json.decode(data, type=dict[str, Any])
    return found


class _Pipeline(Pipeline):
    """A pipeline that gives its connection back when it is cancelled while it unwatches, where redis-py 5 keeps it."""

    async def reset(self) -> None:
        try:
            await super().reset()  # type: ignore[no-untyped-call]
        finally:
            if self.connection:
                await self.connection.disconnect(nowait=True)
                self.watching = False
                await super().reset()  # type: ignore[no-untyped-call]


class _Redis(ArqRedis):
    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:  # noqa: FBT001, FBT002
        return _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


class Queue:
    """Hands jobs to the workers. `redis` is what an arq worker runs on."""

    def __init__(self, pool: ConnectionPool) -> None:
        self.redis: ArqRedis = _Redis(
            pool_or_conn=pool, job_serializer=encode, job_deserializer=decode, default_queue_name=QUEUE
        )

    async def put(self, name: str, job_id: UUID, run: int) -> None:
        """Queue a run of a job; the same run that waits already is not queued twice. ServerUnavailable if away."""
        with redis_errors():
            await self.redis.enqueue_job(name, str(job_id), _job_id=f"{name}:{job_id}:{run}")

    async def length(self) -> int:
        """Return how many jobs wait."""
        with redis_errors():
            return int(await self.redis.zcard(QUEUE))

    async def ping(self) -> None:
        """Return when Redis has answered. ServerUnavailable if it does not."""
        with redis_errors():
            await self.redis.ping()

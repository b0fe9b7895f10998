"""Results of calls with a key in Redis: `modelyard:result:<id>`, gone 10 minutes after it was written."""

from uuid import UUID

from redis.asyncio import ConnectionPool, Redis

from core.recorder import KEPT_S
from storage.redis import answers_within

_TIMEOUT_S = 5.0


class RedisResults:
    """The results of all processes."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._redis: Redis = Redis(connection_pool=pool)

    async def put(self, invocation_id: UUID, result: bytes) -> None:
        """Keep a result. ServerUnavailable while Redis is away."""
        async with answers_within(_TIMEOUT_S):
            await self._redis.set(_key(invocation_id), result, ex=int(KEPT_S))

    async def get(self, invocation_id: UUID) -> bytes | None:
        """Return a result that is kept. ServerUnavailable while Redis is away."""
        async with answers_within(_TIMEOUT_S):
            found: bytes | None = await self._redis.get(_key(invocation_id))
        return found


def _key(invocation_id: UUID) -> str:
    return f"modelyard:result:{invocation_id.hex}"

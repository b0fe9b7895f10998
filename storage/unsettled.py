"""Settlements that could not be booked, in Redis: the hash `modelyard:unsettled`, by the ids of their invocations."""

import logging
from collections.abc import Sequence

import msgspec
from redis.asyncio import ConnectionPool, Redis

from core.ports.unsettled import Settlement
from storage.redis import answers_within

log = logging.getLogger(__name__)

UNSETTLED = "modelyard:unsettled"
_TIMEOUT_S = 5.0

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Settlement).decode


class RedisUnsettled:
    """What waits to be booked, of all processes. All of it raises ServerUnavailable while Redis is away."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._redis: Redis = Redis(connection_pool=pool)

    async def put(self, settlement: Settlement) -> None:
        """Keep a settlement until it is removed."""
        async with answers_within(_TIMEOUT_S):
            await self._redis.hset(UNSETTLED, settlement.invocation.id.hex, _encode(settlement).decode())  # type: ignore[misc]

    async def all(self) -> Sequence[Settlement]:
        """Return what waits."""
        async with answers_within(_TIMEOUT_S):
            found = await self._redis.hvals(UNSETTLED)  # type: ignore[misc]
        return [settlement for one in found if (settlement := _known(one)) is not None]

    async def remove(self, settlement: Settlement) -> None:
        """Forget a settlement that is booked."""
        async with answers_within(_TIMEOUT_S):
            await self._redis.hdel(UNSETTLED, settlement.invocation.id.hex)  # type: ignore[misc]


def _known(data: bytes) -> Settlement | None:
    """Return a settlement; None for one of another version of this program, which is left to that."""
    try:
        return _decode(data)
    except msgspec.MsgspecError as error:
        log.warning("a settlement cannot be read: %s", error)
        return None

"""Each test's worker finds nothing in Redis that another test has left."""

import pytest
from redis.asyncio import Redis

from storage.redis import absolute


@pytest.fixture(autouse=True)
async def _empty_redis(redis_url: str) -> None:
    async with Redis.from_url(absolute(redis_url)) as redis:
        await redis.flushall()

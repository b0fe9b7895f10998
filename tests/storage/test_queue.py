"""The queue keeps no connection, also when what uses it is cut short."""

import asyncio
import gc
import warnings
from contextlib import suppress

from redis.asyncio import Redis

from storage.queue import Queue
from storage.redis import absolute, open_pool


async def test_a_pipeline_cancelled_while_it_unwatches_gives_its_connection_back(redis_url: str) -> None:
    pool = open_pool(redis_url)
    queue, watched = Queue(pool), asyncio.Event()

    async def look(redis: Redis) -> None:
        async with queue.redis.pipeline(transaction=True) as pipe:
            await pipe.watch("key")
            await redis.client_pause(5_000)
            watched.set()

    async with Redis.from_url(absolute(redis_url)) as redis:
        looking = asyncio.create_task(look(redis))
        await watched.wait()
        await asyncio.sleep(0.05)
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
        await redis.client_unpause()

        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            del looking
            gc.collect()
        assert [one.message for one in warned] == []
        await queue.ping()
    await pool.aclose()

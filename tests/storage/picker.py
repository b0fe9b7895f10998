"""A process that picks: `python -m tests.storage.picker REDIS_URL`, told a pool, then how often, by lines."""

import asyncio
import sys
from uuid import UUID

import msgspec

from core.entities import Pool
from core.ids import uuid7
from core.ports.pool_state import Place
from storage.clock import SystemClock
from storage.commands import Commands
from storage.pool_state import RedisPoolState
from storage.redis import open_pool

WORKSPACE = UUID(int=0)


async def serve(redis_url: str) -> None:
    """Pick as often as each line says, all at once, and say the places that were picked."""
    pool = msgspec.json.decode(sys.stdin.buffer.readline(), type=Pool)
    places = [
        Place(member_id=one.id, credential_id=one.credential_id or one.id, number=number, weight=one.weight)
        for number, one in enumerate(pool.members)
    ]
    state = RedisPoolState(Commands(open_pool(redis_url)), uuid7(), SystemClock())

    async def pick() -> int:
        picked = await state.pick(WORKSPACE, pool, places, (0, 0))
        assert picked.lease is not None
        return picked.lease.place.number

    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.buffer.readline):
        found = await asyncio.gather(*(pick() for _ in range(int(line))))
        print(msgspec.json.encode(found).decode(), flush=True)


asyncio.run(serve(sys.argv[1]))

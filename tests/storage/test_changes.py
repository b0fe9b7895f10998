"""News between processes: heard from the moment of listening, by every listener, after a lost connection too."""

import asyncio
import uuid
from pathlib import Path

import pytest
from redis.asyncio import Redis

from core.errors import ServerUnavailable
from storage.changes import RedisChanges
from storage.redis import absolute, open_pool
from tests.waiting import LIMIT_S


async def test_every_listener_of_a_channel_hears_and_no_other(redis_url: str) -> None:
    channel, other = str(uuid.uuid4()), str(uuid.uuid4())
    pool, far_pool = open_pool(redis_url), open_pool(redis_url)
    here, far = RedisChanges(pool), RedisChanges(far_pool)

    async with here.listen(channel) as one, here.listen(channel) as two, here.listen(other) as three:
        await far.publish(channel, b"first")
        await far.publish(other, b"else")
        await far.publish(channel, b"second")
        heard = [await anext(one), await anext(one), await anext(two), await anext(two), await anext(three)]

    assert heard == [b"first", b"second", b"first", b"second", b"else"]
    for changes, used in ((here, pool), (far, far_pool)):
        await changes.close()
        await used.aclose()


async def test_a_channel_can_be_left_and_heard_again(redis_url: str) -> None:
    channel = str(uuid.uuid4())
    pool = open_pool(redis_url)
    changes = RedisChanges(pool)

    for word in (b"one", b"two", b"three"):
        async with changes.listen(channel) as messages:
            await changes.publish(channel, word)
            assert await anext(messages) == word
        await changes.publish(channel, b"nobody hears")

    await changes.close()
    await pool.aclose()


async def test_listeners_go_on_after_a_lost_connection(redis_url: str) -> None:
    channel = str(uuid.uuid4())
    pool = open_pool(redis_url)
    changes = RedisChanges(pool)

    async with changes.listen(channel) as messages:
        async with Redis.from_url(absolute(redis_url)) as admin:
            await admin.client_kill_filter(_type="pubsub")
        heard = asyncio.ensure_future(anext(messages))
        async with asyncio.timeout(LIMIT_S):
            while not heard.done():
                await changes.publish(channel, b"again")
                await asyncio.sleep(0.05)
        assert await heard == b"again"

    await changes.close()
    await pool.aclose()


async def test_a_reader_that_does_not_read_loses_the_oldest_and_holds_no_more_than_a_bound(redis_url: str) -> None:
    channel = str(uuid.uuid4())
    pool = open_pool(redis_url)
    changes = RedisChanges(pool)

    async with changes.listen(channel) as idle, changes.listen(channel) as messages:
        for number in range(1100):
            await changes.publish(channel, b"%d" % number)
            assert await anext(messages) == b"%d" % number
        assert await anext(idle) == b"100"

    await changes.close()
    await pool.aclose()


async def test_a_listener_that_is_to_be_complete_ends_where_it_may_have_missed_something(redis_url: str) -> None:
    channel, crowded = str(uuid.uuid4()), str(uuid.uuid4())
    pool = open_pool(redis_url)
    changes = RedisChanges(pool)

    async with changes.listen(channel, complete=True) as messages, changes.listen(crowded, complete=True) as idle:
        await changes.publish(channel, b"before")
        for number in range(1100):
            await changes.publish(crowded, b"%d" % number)
        assert await anext(messages) == b"before"
        async with Redis.from_url(absolute(redis_url)) as admin:
            await admin.client_kill_filter(_type="pubsub")
        for missing in (messages, idle):
            with pytest.raises(ServerUnavailable, match="missed"):
                async with asyncio.timeout(LIMIT_S):
                    async for _ in missing:
                        pass

    await changes.close()
    await pool.aclose()


async def test_without_redis_listening_and_publishing_say_so(tmp_path: Path) -> None:
    pool = open_pool(f"unix://{tmp_path}/nothing.sock")
    changes = RedisChanges(pool)

    with pytest.raises(ServerUnavailable, match="Redis"):
        await changes.publish("x", b"y")
    with pytest.raises(ServerUnavailable, match="Redis"):
        async with asyncio.timeout(LIMIT_S), changes.listen("x"):
            pass

    await changes.close()
    await pool.aclose()


def test_a_sockets_path_is_taken_whole_however_it_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)

    assert absolute("unix://.modelyard/valkey.sock") == f"unix://{tmp_path}/.modelyard/valkey.sock"
    assert absolute("unix:///run/valkey.sock?db=2") == "unix:///run/valkey.sock?db=2"
    assert absolute("redis://h:1/0") == "redis://h:1/0"

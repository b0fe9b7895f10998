"""News between processes by publish and subscribe, over one connection for all listeners of a process."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from core.errors import ServerUnavailable
from storage.redis import redis_errors

log = logging.getLogger(__name__)

_KEPT = 1000
_SUBSCRIBE_S = 5.0
_AGAIN_S = 0.5
_BEAT_S = 5.0


class _Listener:
    """One reader of a channel: a bounded queue that loses its oldest message when nobody reads.

    One that is to be complete ends there instead, and wherever else something may have been missed.
    """

    def __init__(self, *, complete: bool) -> None:
        self.complete = complete
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue(_KEPT)

    def give(self, message: bytes) -> None:
        if self.queue.full():
            if self.complete:
                self.lose()
                return
            self.queue.get_nowait()
        self.queue.put_nowait(message)

    def lose(self) -> None:
        """End after what was heard before."""
        if self.queue.full():
            self.queue.get_nowait()
        self.queue.put_nowait(None)

    async def messages(self) -> AsyncIterator[bytes]:
        while (message := await self.queue.get()) is not None:
            yield message
        raise ServerUnavailable("News may have been missed: the connection that brings them was lost.", retry_after=1.0)


class RedisChanges:
    """Publishes and listens. After a lost connection, listeners go on; what was published meanwhile is lost."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._redis = Redis(connection_pool=pool)
        self._listeners: defaultdict[str, set[_Listener]] = defaultdict(set)
        self._confirmed: dict[str, asyncio.Event] = {}
        self._pubsub: PubSub | None = None
        self._reader: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()

    async def publish(self, channel: str, message: bytes) -> None:
        """Send a message to who listens now. ServerUnavailable when Redis is away."""
        with redis_errors():
            await self._redis.publish(channel, message)

    async def publish_all(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Send messages with their channels, in this order. ServerUnavailable when Redis is away."""
        with redis_errors():
            pipe = self._redis.pipeline(transaction=False)
            for channel, message in messages:
                pipe.publish(channel, message)
            await pipe.execute()

    @asynccontextmanager
    async def listen(self, channel: str, *, complete: bool = False) -> AsyncIterator[AsyncIterator[bytes]]:
        """Iterate messages from the moment the block is entered. ServerUnavailable when Redis is away.

        With `complete` the messages end with ServerUnavailable when some may have been missed.
        """
        listener = _Listener(complete=complete)
        self._listeners[channel].add(listener)
        try:
            await self._subscribe(channel)
            yield listener.messages()
        finally:
            self._listeners[channel].discard(listener)
            if not self._listeners[channel]:
                del self._listeners[channel]
                await self._unsubscribe(channel)

    async def close(self) -> None:
        """Stop listening."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait([self._reader])

    async def _subscribe(self, channel: str) -> None:
        confirmed = self._confirmed.get(channel)
        if confirmed is None:
            confirmed = self._confirmed[channel] = asyncio.Event()
            self._wanted.set()
            if self._pubsub is not None:
                with redis_errors():
                    await self._pubsub.subscribe(channel)
        if self._reader is None:
            self._reader = asyncio.create_task(self._read())
        try:
            async with asyncio.timeout(_SUBSCRIBE_S):
                await confirmed.wait()
        except TimeoutError:
            raise ServerUnavailable("Redis cannot be reached; ask again in a moment.", retry_after=1.0) from None

    async def _unsubscribe(self, channel: str) -> None:
        self._confirmed.pop(channel, None)
        if not self._confirmed:
            self._wanted.clear()
        if self._pubsub is not None:
            with suppress(RedisError, OSError):
                await self._pubsub.unsubscribe(channel)

    async def _read(self) -> None:
        while True:
            try:
                await self._read_connected()
            except (RedisError, OSError) as error:
                log.warning("news from other processes is not heard for now: %s", error)
            except Exception:
                log.exception("news from other processes is not heard for now")
            self._lost()
            await asyncio.sleep(_AGAIN_S)

    def _lost(self) -> None:
        for event in self._confirmed.values():
            event.clear()
        for listeners in self._listeners.values():
            for listener in listeners:
                if listener.complete:
                    listener.lose()

    async def _read_connected(self) -> None:
        await self._wanted.wait()
        async with self._redis.pubsub() as pubsub:
            first = set(self._confirmed)
            await pubsub.subscribe(*first)
            self._pubsub = pubsub
            try:
                if late := set(self._confirmed) - first:
                    await pubsub.subscribe(*late)
                is_asked = False
                while True:
                    message = await pubsub.get_message(timeout=_BEAT_S)
                    if message is not None:
                        is_asked = False
                        self._take(message)
                    elif is_asked:
                        raise ConnectionError("Redis does not answer any more")
                    else:
                        is_asked = True
                        await pubsub.ping()
            finally:
                self._pubsub = None

    def _take(self, message: dict[str, object]) -> None:
        channel, data = message["channel"], message["data"]
        if not isinstance(channel, bytes):  # the answer to a ping
            return
        name = channel.decode()
        if message["type"] == "subscribe":
            if name in self._confirmed:
                self._confirmed[name].set()
        elif message["type"] == "message" and isinstance(data, bytes):
            for listener in self._listeners.get(name, ()):
                listener.give(data)

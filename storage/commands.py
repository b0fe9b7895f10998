"""Commands to Redis that are given at the same time, sent in one round trip."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import ConnectionPool, Redis
from redis.exceptions import NoScriptError, RedisError

from core.errors import ServerUnavailable
from storage.batch import Batch
from storage.redis import answers_within, unreachable

_TIMEOUT_S = 2.0
_AT_ONCE = 64

_Command = tuple[Any, ...]


class Commands:
    """Does commands, each atomic by itself. Raises ServerUnavailable where Redis does not answer soon.

    What is given while Redis is being asked goes out together as soon as that is answered: many calls at once take few
    connections and round trips.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        self.redis: Redis = Redis(connection_pool=pool)
        self._batch: Batch[_Command, Any] = Batch(self._run, limit=_AT_ONCE)
        self._scripts: dict[str, str] = {}

    async def do(self, *command: Any) -> Any:
        """Return what Redis answers to a command."""
        return await self._batch.do(command)

    async def script(self, text: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Return what a script in Lua answers."""
        digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        if digest not in self._scripts:
            self._scripts[digest] = text
            return await self.do("EVAL", text, len(keys), *keys, *arguments)
        return await self.do("EVALSHA", digest, len(keys), *keys, *arguments)

    async def close(self) -> None:
        """Wait until all that was given is answered."""
        await self._batch.close()

    @asynccontextmanager
    async def soon(self) -> AsyncIterator[None]:
        """Take a Redis that does not answer soon for one that is away.

        Connections that wait to be used are dropped then: to a Redis that was restarted each would fail once.
        """
        try:
            async with answers_within(_TIMEOUT_S):
                yield
        except ServerUnavailable:
            await self.redis.connection_pool.disconnect(inuse_connections=False)
            raise

    async def _run(self, commands: Sequence[_Command]) -> Sequence[Any]:
        """Let Redis do commands in one round trip, or two more where it has forgotten the scripts."""
        async with self.soon():
            found = await self._send(commands)
            unknown = [place for place, one in enumerate(found) if isinstance(one, NoScriptError)]
            if unknown:
                await self._send([("SCRIPT LOAD", text) for text in self._scripts.values()])
                again = await self._send([commands[place] for place in unknown])
                for place, one in zip(unknown, again, strict=True):
                    found[place] = one
        return [one if not isinstance(one, RedisError) else unreachable() for one in found]

    async def _send(self, commands: Sequence[_Command]) -> list[Any]:
        pipe = self.redis.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        found: list[Any] = await pipe.execute(raise_on_error=False)
        return found

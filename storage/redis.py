"""Connections to Redis or Valkey, and how their failures are told."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode

from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from core.errors import ServerUnavailable

_CONNECT_S = 5.0
_SCHEME = "unix://"


def open_pool(url: str) -> ConnectionPool:
    """Return a pool of connections; nothing connects before the first command."""
    return ConnectionPool.from_url(absolute(url), socket_connect_timeout=_CONNECT_S, health_check_interval=30)


def absolute(url: str) -> str:
    """Return the address with the path of a socket made absolute, as redis-py takes it."""
    if not url.startswith(_SCHEME):
        return url
    path, _, query = url.removeprefix(_SCHEME).partition("?")
    address = _SCHEME + quote(str(Path(path).absolute()))
    return f"{address}?{urlencode(parse_qsl(query))}" if query else address


@asynccontextmanager
async def answers_within(seconds: float) -> AsyncIterator[None]:
    """Take a Redis that does not answer in time for one that is away: ServerUnavailable."""
    with redis_errors():
        async with asyncio.timeout(seconds):
            yield


@contextmanager
def redis_errors() -> Iterator[None]:
    """Turn the failures of Redis into ServerUnavailable."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise unreachable() from error


def unreachable() -> ServerUnavailable:
    """Return that Redis is away."""
    return ServerUnavailable("Redis cannot be reached; ask again in a moment.", retry_after=1.0)

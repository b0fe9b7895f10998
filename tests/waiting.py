"""How tests wait for what must come: for the condition itself, with a limit that only a fault reaches."""

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LIMIT_S = 60.0
"""How long anything may take on the slowest machine that is also busy with other things."""


async def wait_for(condition: Callable[[], object], seconds: float = LIMIT_S) -> None:
    """Wait until a condition holds.

    Raises:
        AssertionError: it does not after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        await asyncio.sleep(0.01)


def wait_until(condition: Callable[[], object], seconds: float = LIMIT_S) -> None:
    """Wait until a condition holds, where no loop runs.

    Raises:
        AssertionError: it does not after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


@contextmanager
def reserved_port() -> Iterator[int]:
    """Give a port of 127.0.0.1 that the kernel gives to nobody else until the block ends, and that a server may take.

    Who is told a port before it listens there would else race for it with every other process: it stays bound here,
    without listening, and a server binds beside it as servers do, with SO_REUSEADDR.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]

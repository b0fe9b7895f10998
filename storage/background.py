"""The tasks that a process runs beside its work, ended together."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

log = logging.getLogger(__name__)


class Background:
    """Owns tasks until the block that opened it ends."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator["Background"]:
        """Own tasks during the block; at its end cancel them and wait for them."""
        background = cls()
        try:
            yield background
        finally:
            for task in background._tasks:
                task.cancel()
            if background._tasks:
                await asyncio.wait(set(background._tasks))

    def start(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run `work`; a failure is logged."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def every(self, seconds: float, work: Callable[[], Awaitable[object]]) -> None:
        """Call `work` again and again, with a pause between; a failure is logged and stops nothing."""
        self.start(_repeat(seconds, work))

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a background task failed", exc_info=error)


async def _repeat(seconds: float, work: Callable[[], Awaitable[object]]) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except Exception as error:
            log.warning("%s failed and is tried again in %g s: %s", work.__qualname__, seconds, error)

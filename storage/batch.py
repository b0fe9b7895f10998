"""Joins calls that wait at the same time into one piece of work, without making a lone one wait."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Batch(Generic[K, V]):
    """Gathers items while a piece of work is under way, and hands them all to the next one.

    `work` returns, in order, each item's result or the exception that is its own. What it raises, all get. Work begins
    after an item was given, never before, so a read sees everything that was committed when it was asked for.
    """

    def __init__(self, work: Callable[[Sequence[K]], Awaitable[Sequence[V | BaseException]]], *, limit: int) -> None:
        self._work = work
        self._limit = limit
        self._waiting: list[tuple[K, asyncio.Future[V]]] = []
        self._task: asyncio.Task[None] | None = None

    async def do(self, item: K) -> V:
        """Return the result of an item. A caller that is cancelled does not stop the work."""
        future: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._task is None:
            self._task = asyncio.create_task(self._drain())
        return await future

    async def close(self) -> None:
        """Wait until everything that was given is done."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def _drain(self) -> None:
        try:
            while self._waiting:
                taken, self._waiting = self._waiting[: self._limit], self._waiting[self._limit :]
                await self._do(taken)
        finally:
            self._task = None

    async def _do(self, taken: Sequence[tuple[K, asyncio.Future[V]]]) -> None:
        results: Sequence[V | BaseException]
        try:
            results = await self._work([item for item, _ in taken])
        except BaseException as error:
            results = [error] * len(taken)
            if not isinstance(error, Exception):
                raise
        finally:
            for (_, future), result in zip(taken, results, strict=True):
                if future.done():
                    continue
                if isinstance(result, BaseException):
                    future.set_exception(result)
                else:
                    future.set_result(result)

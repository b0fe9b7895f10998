"""Changes told at a pace: one that follows another of its object too soon comes late, as it is by then."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Generic, Protocol, TypeVar

from core.changes import ChangeKind


class Told(Protocol):
    """A change as a follower is told of it."""

    kind: ChangeKind
    id: Any


C = TypeVar("C", bound=Told)


async def paced(
    changes: AsyncGenerator[C, None],
    every_s: float,
    look: Callable[[], Awaitable[C | None]],
    told: Callable[[], Awaitable[None]],
) -> AsyncGenerator[C, None]:
    """Yield the changes, each object's once in `every_s` seconds at most; only an update waits.

    `look` is asked as often, while nothing comes, for a change that nobody tells of; `told` is called before each.
    """
    pace: _Pace[C] = _Pace(every_s)
    waiting: asyncio.Task[C] | None = None
    async with aclosing(changes):
        try:
            while True:
                waiting = waiting or asyncio.ensure_future(anext(changes))
                pause = pace.pause()
                if pause > 0:
                    await asyncio.wait([waiting], timeout=pause)
                change: C | None = None
                if pause <= 0:
                    change = pace.due()
                elif waiting.done():
                    done, waiting = waiting, None
                    try:
                        change = pace.admitted(done.result())
                    except StopAsyncIteration:
                        return
                elif not pace.late:
                    change = await look()
                if change is not None:
                    await told()
                    pace.note(change)
                    yield change
        finally:
            if waiting is not None:
                waiting.cancel()
                await asyncio.wait([waiting])


class _Pace(Generic[C]):
    """When each object was told of last, and the updates that are `late`, by the objects' ids."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._clock = asyncio.get_running_loop().time
        self._told_at: dict[str, float] = {}
        self.late: dict[str, C] = {}

    def pause(self) -> float:
        """Return how many seconds there are to wait until one that is late is due, if any is."""
        return min((self._told_at[one] + self._every_s - self._clock() for one in self.late), default=self._every_s)

    def due(self) -> C:
        """Return the one that is late for longest; it waits no more."""
        return self.late.pop(min(self.late, key=self._told_at.__getitem__))

    def admitted(self, change: C) -> C | None:
        """Return a change that may be told now, in place of one that waits; None for one that has to wait."""
        is_soon = self._clock() < self._told_at.get(change.id, float("-inf")) + self._every_s
        if is_soon and change.kind is ChangeKind.UPDATED:
            self.late[change.id] = change
            return None
        self.late.pop(change.id, None)
        return change

    def note(self, change: C) -> None:
        """Take note that a change is told now."""
        self._told_at[change.id] = self._clock()

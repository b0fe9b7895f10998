"""How often streamed answers are read: as soon as something comes, and less often while the process falls behind.

What comes meanwhile is read at once and goes on joined, which costs little more than a single piece. So a process that
has more to do than it can still begins calls promptly, and its streams advance in larger steps instead of ever later.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

BEAT_S = 0.01
"""How often it is looked how late the loop is, while streams are open."""

LATE_S = 0.004
"""How late the loop may be before streams are read less often."""

MOST_S = 0.05
"""How long a stream waits at most from one read to the next."""

_SHORTEST_S = 0.005
_FASTER_S = 0.0005
_WEIGHT = 0.2


class Pace:
    """The pace of all streams of a process: `rest_s` is how long each waits at most from one read to the next.

    Those who rest begin again together: what they read then takes one stretch of the loop, and the time between is left
    to calls that begin.
    """

    def __init__(self) -> None:
        self.rest_s = 0.0
        self._late_s = 0.0
        self._open = 0
        self._timer: asyncio.TimerHandle | None = None
        self._resting: list[asyncio.Future[None]] = []

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Keep the pace for a stream while it is open."""
        self._open += 1
        if self._timer is None:
            self._look_later(asyncio.get_running_loop())
        try:
            yield
        finally:
            self._open -= 1

    async def rest(self) -> None:
        """Wait until those who rest go on."""
        loop = asyncio.get_running_loop()
        if not self._resting:
            loop.call_later(self.rest_s, self._go_on)
        going_on = loop.create_future()
        self._resting.append(going_on)
        await going_on

    def _go_on(self) -> None:
        resting, self._resting = self._resting, []
        for one in resting:
            if not one.done():
                one.set_result(None)

    def note(self, late_s: float) -> None:
        """Take note of how late the loop was: slow down at once, and speed up bit by bit."""
        self._late_s += (late_s - self._late_s) * _WEIGHT
        if self._late_s > LATE_S:
            self.rest_s = min(max(self.rest_s * 1.25, self.rest_s + _SHORTEST_S), MOST_S)
        else:
            self.rest_s = max(self.rest_s - _FASTER_S, 0.0)

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(BEAT_S, self._look, loop, loop.time() + BEAT_S)

    def _look(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self.note(loop.time() - due)
        if self._open:
            self._look_later(loop)
        else:
            self._timer, self.rest_s = None, 0.0

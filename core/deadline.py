"""How long a provider may take: to begin its answer, between two signs of life, and in all."""

import asyncio


class Idle:
    """Moves the deadline of an answer on while it goes on, looking ten times an idle time at the least.

    Looking at the clock for every event would cost as much as the event. Signs of life that come before the answer
    has begun move it on as far as `waits` tells: a server may say at once that it is there, and think for long.
    """

    def __init__(self, deadline: asyncio.Timeout, end: float, idle_seconds: float, *, waits: bool = True) -> None:
        self.has_begun = False
        self._waits = waits
        self._heard = False
        self._deadline = deadline
        self._end = end
        self._idle_s = idle_seconds
        self._every_s = min(1.0, idle_seconds / 10)
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(self._every_s, self._look)

    def heard(self) -> None:
        """Take note that something came."""
        self._heard = self.has_begun
        if self._waits and not self.has_begun:
            self._move()

    def begun(self) -> None:
        """Take note that the answer has begun."""
        self.has_begun = True
        self._move()

    def close(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _look(self) -> None:
        if self._heard:
            self._heard = False
            self._move()
        self._timer = self._loop.call_later(self._every_s, self._look)

    def _move(self) -> None:
        if not self._deadline.expired():
            self._deadline.reschedule(min(self._end, self._loop.time() + self._idle_s))


def timeout_text(provider: str, *, spoke: bool, total: bool, seconds: float = 0.0) -> str:
    """Return what a call says that took too long: in all, in the middle, or before it began, within so many seconds."""
    if total:
        return f"The answer of {provider} took longer than a call may last; the operator sets MODELYARD_CALL_SECONDS."
    if spoke:
        return f"{provider} stopped sending in the middle of its answer."
    return (
        f"{provider} did not begin to answer within {round(seconds, 1):g} seconds; the operator sets how long it may "
        "take with MODELYARD_FIRST_BYTE_SECONDS and MODELYARD_FAILOVER_SECONDS."
    )

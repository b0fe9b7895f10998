"""How long a provider may take: to begin, between two signs of life, and in all."""

import asyncio


class Idle:
    """Moves the deadline of an answer on while it goes on, looking ten times an idle time at the least.

    Looking at the clock for every event would cost as much as the event.
    """

    def __init__(self, deadline: asyncio.Timeout, end: float, idle_seconds: float) -> None:
        self.ever_spoke = False
        self._spoke = False
        self._deadline = deadline
        self._end = end
        self._idle_s = idle_seconds
        self._every_s = min(1.0, idle_seconds / 10)
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(self._every_s, self._look)

    def heard(self) -> None:
        """Take note that something came."""
        self._spoke = True
        if not self.ever_spoke:
            self.ever_spoke = True
            self._move()

    def close(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _look(self) -> None:
        if self._spoke:
            self._spoke = False
            self._move()
        self._timer = self._loop.call_later(self._every_s, self._look)

    def _move(self) -> None:
        if not self._deadline.expired():
            self._deadline.reschedule(min(self._end, self._loop.time() + self._idle_s))


def timeout_text(provider: str, *, spoke: bool, total: bool) -> str:
    """Return what a call says that took too long: in all, in the middle, or before it began."""
    if total:
        return f"The answer of {provider} took longer than a call may last; the operator sets MODELYARD_CALL_SECONDS."
    if spoke:
        return f"{provider} stopped sending in the middle of its answer."
    return f"{provider} did not begin to answer in time."

"""Time, as a process is given it."""

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Time, so that a test can move it."""

    def now(self) -> datetime:
        """Return the time of day in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        ...

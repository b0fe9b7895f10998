"""The time of the machine."""

import time
from datetime import UTC, datetime


class SystemClock:
    """The clock that runs outside tests."""

    def now(self) -> datetime:
        """Return the time of day in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()

"""Jobs that follow a commit."""

from typing import Protocol

from core.jobs import Job


class Outbox(Protocol):
    """Jobs that follow a commit."""

    async def add(self, job: Job) -> None:
        """Write the job with the transaction; it is relayed to the queue after the commit, at least once."""
        ...

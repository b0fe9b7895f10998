"""News between processes."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol


class Changes(Protocol):
    """News between processes: small messages by publish and subscribe, lost when nobody listens."""

    async def publish(self, channel: str, message: bytes) -> None: ...
    def listen(self, channel: str, *, complete: bool = False) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Iterate messages from the moment the block is entered. ServerUnavailable when that cannot begin.

        After a lost connection it goes on, without what was published meanwhile; with `complete` it ends instead with
        ServerUnavailable as soon as anything may have been missed.
        """
        ...

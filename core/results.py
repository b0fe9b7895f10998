"""What calls with a key have answered, kept for their repeats until 10 minutes after the end."""

import logging
from typing import TypeVar
from uuid import UUID

import msgspec

from core.errors import ServerUnavailable
from core.ports.clock import Clock
from core.ports.results import ResultStore
from core.recorder import KEPT_S

log = logging.getLogger(__name__)

MAX_KEPT = 8 * 1024 * 1024
"""An answer of more bytes is not kept, as the log of a completion has no room for more."""

MEMORY_BYTES = 64 * 1024 * 1024
"""How much is kept here of what Redis did not take; the oldest goes first."""

T = TypeVar("T")

_pack = msgspec.msgpack.Encoder(enc_hook=list).encode  # vectors may be arrays


class Results:
    """The results of one process; while Redis is away those of its own calls are kept in its memory."""

    def __init__(self, store: ResultStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._here: dict[UUID, tuple[float, bytes]] = {}

    async def keep(self, invocation_id: UUID, result: object) -> None:
        """Keep a result, unless it is too large."""
        packed = _pack(result)
        if len(packed) > MAX_KEPT:
            return
        try:
            await self._store.put(invocation_id, packed)
        except ServerUnavailable as error:
            log.info("the result of %s is kept in memory: %s", invocation_id, error)
            self._here[invocation_id] = (self._clock.monotonic() + KEPT_S, packed)
            self._forget()

    async def find(self, invocation_id: UUID, kind: type[T]) -> T | None:
        """Return a result that is kept.

        Raises:
            ServerUnavailable: Redis is away, and it is not kept here.
        """
        self._forget()
        _, here = self._here.get(invocation_id, (0.0, None))
        packed = here if here is not None else await self._store.get(invocation_id)
        return msgspec.msgpack.decode(packed, type=kind) if packed is not None else None

    def _forget(self) -> None:
        now, size = self._clock.monotonic(), 0
        for invocation_id, (until, result) in reversed(list(self._here.items())):
            size += len(result)
            if until < now or size > MEMORY_BYTES:
                del self._here[invocation_id]

"""UUID version 7: sortable by time of making, the key of every row; and how the outside world names what has one."""

import base64
import os
import random
import time
import uuid
from datetime import UTC, datetime, timedelta

_chance = random.Random()  # seeded by the system; an id is to be unique, it guards nothing
os.register_at_fork(after_in_child=_chance.seed)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICKS = 4096
"""Into how many parts an id divides its millisecond (RFC 9562, section 6.2, method 3)."""

_SET_BACK = 1000 * _TICKS
"""How far ids run ahead of a clock that was set back; where it was set back further, they follow it."""


class _Order:
    """The ticks of the ids of this process, each after the one before."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        tick = time.time_ns() * _TICKS // 1_000_000
        self._last = self._last + 1 if 0 <= self._last - tick < _SET_BACK else tick
        return self._last


_order = _Order()


def uuid7(at_ms: int | None = None) -> uuid.UUID:
    """Return a new id whose first 48 bits are milliseconds since the epoch (`at_ms`, else now).

    What a process makes now sorts after what it made before.
    """
    return _id(_order.next() if at_ms is None else at_ms * _TICKS + _chance.randrange(_TICKS))


def first_id(moment: datetime) -> uuid.UUID:
    """Return what no id made in this millisecond or later is below, and every id made before is."""
    return uuid.UUID(int=max(0, _microseconds(moment) // 1000) << 80)


def id_of(moment: datetime) -> uuid.UUID:
    """Return a new id that carries this moment."""
    return _id(_microseconds(moment) * _TICKS // 1000)


def public_id(type_name: str, *parts: str | uuid.UUID) -> str:
    """Return the opaque, url-safe id by which callers know an object; the parts are its key."""
    text = "\0".join((type_name, *(part.hex if isinstance(part, uuid.UUID) else part for part in parts)))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _id(tick: int) -> uuid.UUID:
    milliseconds, part = divmod(tick, _TICKS)
    time_and_version = (milliseconds & 0xFFFF_FFFF_FFFF) << 80 | 7 << 76 | part << 64
    return uuid.UUID(int=time_and_version | 2 << 62 | _chance.getrandbits(62))


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)

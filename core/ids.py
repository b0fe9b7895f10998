"""UUID version 7: sortable by time of making, the key of every row; and how the outside world names what has one."""

import base64
import random
import time
import uuid
from datetime import datetime

_chance = random.Random()  # seeded by the system; an id is to be unique, it guards nothing


def uuid7(at_ms: int | None = None) -> uuid.UUID:
    """Return a new id whose first 48 bits are milliseconds since the epoch (`at_ms`, else now)."""
    milliseconds = time.time_ns() // 1_000_000 if at_ms is None else at_ms
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80 | _chance.getrandbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return uuid.UUID(int=value)


def first_id(moment: datetime) -> uuid.UUID:
    """Return what no id made in this millisecond or later is below, and every id made before is."""
    return uuid.UUID(int=max(0, int(moment.timestamp() * 1000)) << 80)


def id_of(moment: datetime) -> uuid.UUID:
    """Return a new id that carries this moment."""
    return uuid7(int(moment.timestamp() * 1000))


def public_id(type_name: str, *parts: str | uuid.UUID) -> str:
    """Return the opaque, url-safe id by which callers know an object; the parts are its key."""
    text = "\0".join((type_name, *(part.hex if isinstance(part, uuid.UUID) else part for part in parts)))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

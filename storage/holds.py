"""What calls hold of balances, as rows: a table for each kind of balance, alike but for what it counts in."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Row,
    String,
    Table,
    Uuid,
    delete,
    select,
)
from sqlalchemy.types import TypeEngine

from core.ids import first_id
from storage.base import UtcDateTime, id_column, metadata, times
from storage.connection import Connection

HELD, SETTLED, RELEASED, EXPIRED, LATE = "HELD", "SETTLED", "RELEASED", "EXPIRED", "LATE"


def holds_of(balances: Table, of: str, amount: type[TypeEngine[Any]], check: str, *indexes: Index) -> Table:
    """Return the table of what calls hold of these balances; `of` is its column that names the balance.

    `amount` grows with what a stream holds more, and passes `check`; `used` is what was booked. `input_tokens` is what
    the input of a call counts for if its process dies. EXPIRED: booked by the sweep, so that the owner may correct it
    once (LATE).
    """
    return Table(
        of.replace("_id", "_holds"),
        metadata,
        id_column(),
        Column(of, Uuid, ForeignKey(balances.c.id, ondelete="CASCADE"), nullable=False),
        Column("invocation_id", Uuid, nullable=False),
        Column("owner", Uuid, nullable=False),
        Column("amount", amount, nullable=False),
        Column("used", amount, nullable=False),
        Column("input_tokens", BigInteger, nullable=False),
        Column("state", String(16), nullable=False),
        Column("period", UtcDateTime),
        *times(),
        CheckConstraint(check, name="is_not_negative"),
        Index(None, "invocation_id"),
        Index(None, of),
        *indexes,
    )


async def take_ended(connection: Connection, holds: Table, before: datetime, *, limit: int) -> Sequence[Row[Any]]:
    """Delete holds from before a time that have ended, at most `limit`, and return them."""
    ended = select(holds.c.id).where(holds.c.id < first_id(before), holds.c.state != HELD).limit(limit)
    return await connection.rows(delete(holds).where(holds.c.id.in_(ended)).returning(holds))

"""What calls hold of balances, as rows: a table for each kind of balance, alike but for what it counts in."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ColumnElement,
    Connection,
    ForeignKey,
    Index,
    Row,
    String,
    Table,
    Text,
    Uuid,
    cast,
    delete,
    func,
    literal,
    select,
)
from sqlalchemy.types import TypeEngine

from core.ids import first_id
from storage.base import UtcDateTime, id_column, metadata, times
from storage.connection import Connection as AsyncConnection

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


_DIGITS, PARTS = 9, 4
"""Amounts are added up by a database in parts of so many digits, for which a BIGINT has room: none has 36."""

_ASKEW = timedelta(hours=1)
"""How far the clocks of processes may be apart: a hold can have an id from before its period began."""


def sums_of(amounts: Column[int]) -> list[ColumnElement[int]]:
    """Return the sums of amounts, part by part, the highest first."""
    width = _DIGITS * PARTS
    padded, length = literal("0" * width).concat(cast(amounts, Text)), func.length(cast(amounts, Text))
    parts = [func.substr(padded, length + 1 + place, _DIGITS) for place in range(0, width, _DIGITS)]
    return [func.sum(cast(part, BigInteger)) for part in parts]


def joined(parts: Sequence[int]) -> int:
    """Return the number that was taken apart."""
    return sum(int(part) * 10 ** (_DIGITS * place) for place, part in enumerate(reversed(parts)))


def in_period(connection: Connection, holds: Table, of: str, balance_id: UUID, period: datetime) -> tuple[int, int]:
    """Return what the calls of a period have used of a balance, and what they still hold."""
    mine = (holds.c[of] == balance_id, holds.c.period == period, holds.c.id >= first_id(period - _ASKEW))
    still_held = holds.c.state == HELD
    statement = select(still_held, *sums_of(holds.c.used), *sums_of(holds.c.amount)).where(*mine).group_by(still_held)
    used = held = 0
    for is_held, *amounts in map(tuple, connection.execute(statement)):
        if is_held:
            held = joined(amounts[PARTS:])
        else:
            used = joined(amounts[:PARTS])
    return used, held


async def take_ended(connection: AsyncConnection, holds: Table, before: datetime, *, limit: int) -> Sequence[Row[Any]]:
    """Delete holds from before a time that have ended, at most `limit`, and return them."""
    ended = select(holds.c.id).where(holds.c.id < first_id(before), holds.c.state != HELD).limit(limit)
    return await connection.rows(delete(holds).where(holds.c.id.in_(ended)).returning(holds))

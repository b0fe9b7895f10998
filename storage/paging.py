"""Keyset pages of a list that is ordered by id."""

from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Column, ColumnElement, Row, Select, Table, func, literal, select, true

from core.ports.paging import PageRequest
from storage.connection import Connection

COUNT_LIMIT = 10_000


async def fetch(
    connection: Connection,
    table: Table,
    conditions: Sequence[ColumnElement[bool]],
    page: PageRequest,
    *,
    newest_first: bool,
) -> tuple[Sequence[Row[Any]], bool, bool, int | None]:
    """Return the rows of a page in list order, whether more follow, whether more precede, and the count of all.

    The count is None above 10,000.
    """
    ahead, behind = (_below, _above) if newest_first else (_above, _below)
    inside = list(conditions)
    if page.after is not None:
        inside.append(ahead(table, page.after))
    if page.before is not None:
        inside.append(behind(table, page.before))

    descending = newest_first != page.backwards
    order = table.c.id.desc() if descending else table.c.id.asc()
    rows = list(await connection.rows(select(table).where(*inside).order_by(order).limit(page.limit + 1)))
    more = len(rows) > page.limit
    rows = rows[: page.limit]
    if page.backwards:
        rows.reverse()

    edge = page.before if page.backwards else page.after
    beyond = None if edge is None else (behind(table, edge) if edge is page.after else ahead(table, edge))
    other = beyond is not None and (await _any(connection, table, [*conditions, beyond | (table.c.id == edge)]))
    has_next, has_previous = (other, more) if page.backwards else (more, other)
    return (
        rows,
        has_next,
        has_previous,
        await _count(connection, select(literal(1)).select_from(table).where(*conditions)),
    )


async def windows(connection: Connection, table: Table, size: int) -> AsyncIterator[ColumnElement[bool]]:
    """Yield the conditions of stretches of a table of so many rows, one after the other, which make the whole.

    What is added up in stretches has no statement that grows with the table beyond the time that one may take.
    """
    column: Column[UUID] = table.c.id
    after: ColumnElement[bool] = true()
    while True:
        last = await connection.row(select(column).where(after).order_by(column).offset(size - 1).limit(1))
        if last is None:
            yield after
            return
        yield after & (column <= last.id)
        after = column > last.id


def _below(table: Table, edge: UUID) -> ColumnElement[bool]:
    below: ColumnElement[bool] = table.c.id < edge
    return below


def _above(table: Table, edge: UUID) -> ColumnElement[bool]:
    above: ColumnElement[bool] = table.c.id > edge
    return above


async def _any(connection: Connection, table: Table, conditions: Sequence[ColumnElement[bool]]) -> bool:
    return await connection.row(select(literal(1)).select_from(table).where(*conditions).limit(1)) is not None


async def _count(connection: Connection, matches: Select[Any]) -> int | None:
    bounded = matches.limit(COUNT_LIMIT + 1).subquery()
    row = await connection.row(select(func.count()).select_from(bounded))
    count = int(row[0]) if row else 0
    return count if count <= COUNT_LIMIT else None

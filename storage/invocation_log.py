"""Writes records of calls in groups: what waits while one group is written goes into the next."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection

from core.entities import Invocation
from core.errors import ServerUnavailable
from storage.batch import Batch
from storage.invocations import END, INSERT, INSERT_ATTEMPTS, STILL_RUNNING, to_attempts, to_end, to_row
from storage.last_used import LastUsed
from storage.transaction import SqlStorage

log = logging.getLogger(__name__)

_GROUP = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class _Write:
    """One record that waits to be written: the beginning of a call, or its end."""

    invocation: Invocation
    is_end: bool


class SqlInvocationLog:
    """Admits and settles invocations, each call returning when its own row is committed."""

    def __init__(self, storage: SqlStorage, last_used: LastUsed) -> None:
        self._storage = storage
        self._last_used = last_used
        self._batch: Batch[_Write, bool] = Batch(self._write, limit=_GROUP)

    async def admit(self, invocation: Invocation) -> None:
        """Insert a running invocation."""
        if invocation.credential_id is not None:
            self._last_used.note_credential(invocation.credential_id)
        await self._batch.do(_Write(invocation=invocation, is_end=False))

    async def settle(self, invocation: Invocation) -> bool:
        """Write the end of an invocation if it is still running, with its attempts; tell whether it was."""
        return await self._batch.do(_Write(invocation=invocation, is_end=True))

    async def close(self) -> None:
        """Wait until everything that was given is written."""
        await self._batch.close()

    async def _write(self, writes: Sequence[_Write]) -> Sequence[bool | BaseException]:
        """Write a group in one transaction; if it fails, row by row, so that a bad row harms no other."""
        try:
            return await self._group(writes)
        except ServerUnavailable:
            raise
        except Exception as error:
            if len(writes) == 1:
                raise
            log.warning("a group of %d records is written one by one: %s", len(writes), type(error).__name__)
        return [await self._alone(write) for write in writes]

    async def _alone(self, write: _Write) -> bool | BaseException:
        try:
            return (await self._group([write]))[0]
        except Exception as error:
            return error

    async def _group(self, writes: Sequence[_Write]) -> list[bool]:
        begun = [write.invocation for write in writes if not write.is_end]
        ended = [write.invocation for write in writes if write.is_end]

        def work(connection: Connection) -> set[int]:
            if begun:
                connection.execute(INSERT, [to_row(invocation) for invocation in begun])
            return _end(connection, ended) if ended else set()

        written = await self._storage.write_hot(work)
        return [not write.is_end or id(write.invocation) in written for write in writes]


def _end(connection: Connection, ended: Sequence[Invocation]) -> set[int]:
    """Write the ends of those that still run; return the `id()` of each record that was written."""
    rows = connection.execute(STILL_RUNNING, {"ids": [invocation.id for invocation in ended]})
    running: set[UUID] = {row.id for row in rows}
    taken = []
    for invocation in ended:
        if invocation.id in running:
            running.discard(invocation.id)
            taken.append(invocation)
    if taken:
        connection.execute(END, [to_end(invocation) for invocation in taken])
    tries = [row for invocation in taken for row in to_attempts(invocation)]
    if tries:
        connection.execute(INSERT_ATTEMPTS, tries)
    return {id(invocation) for invocation in taken}

"""Writes records of calls and books what they use in groups: what waits while one is written goes into the next."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row
from sqlalchemy import delete as delete_rows

from core.changes import Change, Noun
from core.entities import Invocation
from core.errors import AlreadyAdmitted, QuotaExceeded, ServerUnavailable
from core.ports import Clock, Hold, OnceKey, Want
from storage import once
from storage.batch import Batch
from storage.book import HOLDS, Book
from storage.invocations import END, INSERT, INSERT_ATTEMPTS, NOTE_OUTPUT, STILL_RUNNING, to_attempts, to_end, to_row
from storage.last_used import LastUsed
from storage.once import idempotency_keys
from storage.quotas import HELD
from storage.transaction import SqlStorage

log = logging.getLogger(__name__)

_GROUP = 256


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Begin:
    """A call that waits to be admitted."""

    invocation: Invocation
    wants: Sequence[Want]
    once: OnceKey | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _More:
    """A running call that wants to hold more: of another quota, or (`hold_id`) up to `amount` of what it holds of."""

    invocation_id: UUID
    owner: UUID
    wants: Sequence[Want] = ()
    hold_id: UUID | None = None
    amount: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _End:
    """The end of a call that waits to be written. `charges` None: it has no holds."""

    invocation: Invocation
    charges: Mapping[UUID, int] | None
    by_sweep: bool = False


_Write = _Begin | _More | _End
Result = Hold | int | bool | None


class SqlInvocationLog:
    """Admits and settles invocations, each call returning when its own rows are committed."""

    def __init__(self, storage: SqlStorage, last_used: LastUsed, clock: Clock) -> None:
        self._storage = storage
        self._last_used = last_used
        self._clock = clock
        self._batch: Batch[_Write, Any] = Batch(self._write, limit=_GROUP)

    async def admit(
        self, invocation: Invocation, wants: Sequence[Want] = (), once: OnceKey | None = None
    ) -> Hold | None:
        """Insert a running invocation, with a hold of the first of `wants` that has enough left, all or nothing.

        Raises:
            QuotaExceeded: none has.
            AlreadyAdmitted: the key stands for another invocation already.
        """
        if invocation.credential_id is not None:
            self._last_used.note_credential(invocation.credential_id)
        held: Hold | None = await self._batch.do(_Begin(invocation=invocation, wants=wants, once=once))
        return held

    async def hold(self, invocation: Invocation, wants: Sequence[Want]) -> Hold | None:
        """Let a running invocation hold of the first that has enough left; None where none has, or it has ended.

        What it held before is freed: the attempt that it was for has failed.
        """
        held: Hold | None = await self._batch.do(
            _More(invocation_id=invocation.id, owner=invocation.owner, wants=wants)
        )
        return held

    async def grow(self, hold_id: UUID, invocation_id: UUID, wanted: int) -> int:
        """Hold up to `wanted` more; return how much more it is now, 0 where nothing is left or the hold has ended."""
        more = _More(invocation_id=invocation_id, owner=UUID(int=0), hold_id=hold_id, amount=wanted)
        grown: int | None = await self._batch.do(more)
        return grown or 0

    async def settle(self, invocation: Invocation, charges: Mapping[UUID, int] | None = None) -> bool:
        """Write the end of an invocation if it is still running, with its attempts; tell whether it was.

        What its holds used is booked with it, once; what the sweep has booked for it meanwhile is corrected.
        """
        was_running: bool = await self._batch.do(_End(invocation=invocation, charges=charges))
        return was_running

    async def sweep(self, invocation: Invocation, charges: Mapping[UUID, int]) -> bool:
        """Write the end of an invocation whose process is dead; tell whether it was still running."""
        was_running: bool = await self._batch.do(_End(invocation=invocation, charges=charges, by_sweep=True))
        return was_running

    async def note_output(self, produced: Mapping[UUID, int]) -> None:
        """Note how many tokens running calls have produced, for whoever settles them if this process dies."""
        rows = [{"invocation": invocation_id, "tokens": tokens} for invocation_id, tokens in sorted(produced.items())]
        if rows:
            await self._storage.write_hot(lambda connection: connection.execute(NOTE_OUTPUT, rows))

    async def close(self) -> None:
        """Wait until everything that was given is written."""
        await self._batch.close()

    async def _write(self, writes: Sequence[_Write]) -> Sequence[Result | BaseException]:
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

    async def _alone(self, write: _Write) -> Result | BaseException:
        try:
            return (await self._group([write]))[0]
        except Exception as error:
            return error

    async def _group(self, writes: Sequence[_Write]) -> list[Result | BaseException]:
        told, touched = await self._storage.write_hot(lambda connection: _written(connection, writes, self._clock))
        for workspace_id, quota_id in touched:
            self._storage.tell(Change(workspace_id=workspace_id, noun=Noun.QUOTA, key=str(quota_id)))
        return [told.get(write) for write in writes]


_Told = dict[_Write, Result | BaseException]


def _written(connection: Connection, writes: Sequence[_Write], clock: Clock) -> tuple[_Told, list[tuple[UUID, UUID]]]:
    """Write a group: keys first, then the ends that free, then what holds; return each one's result, and what changed.

    Everybody locks in this order (keys, invocations, holds, quotas) and within it by id, so that nobody waits in a
    circle.
    """
    begins = [write for write in writes if isinstance(write, _Begin)]
    mores = [write for write in writes if isinstance(write, _More)]
    ends = [write for write in writes if isinstance(write, _End)]
    told: _Told = {}
    _claim_keys(connection, begins, told, clock)
    begins = [write for write in begins if write not in told]
    if not (mores or any(write.wants for write in begins) or any(write.charges is not None for write in ends)):
        if begins:
            connection.execute(INSERT, [to_row(write.invocation) for write in begins])
        told |= _end(connection, ends)
        return told, []
    running = _running(connection, [*(one.invocation.id for one in ends), *(one.invocation_id for one in mores)])
    holds = _holds(connection, [*ends, *mores])
    wanted = [
        want.quota_id for wants in (*(one.wants for one in begins), *(one.wants for one in mores)) for want in wants
    ]
    book = Book(connection, [*wanted, *(held.quota_id for rows in holds.values() for held in rows)], clock.now())
    for end in ends:
        _book(book, end, holds)
    going_on = running - {end.invocation.id for end in ends}  # who ends in this group holds nothing any more
    for more in mores:
        told[more] = _more(book, more, holds) if more.invocation_id in going_on else None
    for begin in begins:
        if begin.wants:
            held = book.hold(begin.wants, begin.invocation.id, begin.invocation.owner)
            told[begin] = held if held is not None else _used_up(begin.invocation)
    _forget_keys(connection, [write for write in begins if isinstance(told.get(write), QuotaExceeded)])
    begun = [to_row(write.invocation) for write in begins if not isinstance(told.get(write), QuotaExceeded)]
    if begun:
        connection.execute(INSERT, begun)
    told |= _end(connection, ends, running)
    book.write()
    return told, book.touched


def _claim_keys(connection: Connection, begins: Sequence[_Begin], told: _Told, clock: Clock) -> None:
    """Write the keys of calls; those that stand for another call already are told so."""
    keyed = sorted(
        ((write.once, write) for write in begins if write.once is not None),
        key=lambda pair: (pair[0].workspace_id, pair[0].principal, pair[0].operation, pair[0].key),
    )
    for key, write in keyed:
        repeated = once.claim(connection, key, clock.now())
        if repeated is not None:
            told[write] = AlreadyAdmitted(
                "This `idempotencyKey` stands for another call already.",
                repeats=repeated.result_id,
                input_hash=repeated.input_hash,
            )


def _forget_keys(connection: Connection, refused: Sequence[_Begin]) -> None:
    """A call that is refused is not remembered."""
    ids = [write.invocation.id for write in refused if write.once is not None]
    if ids:
        connection.execute(delete_rows(idempotency_keys).where(idempotency_keys.c.result_id.in_(ids)))


def _running(connection: Connection, ids: Sequence[UUID]) -> set[UUID]:
    """Lock and return those that still run."""
    return {row.id for row in connection.execute(STILL_RUNNING, {"ids": list(ids)})} if ids else set()


def _holds(connection: Connection, writes: Sequence[_End | _More]) -> dict[UUID, list[Row[Any]]]:
    """Lock and return the holds of calls, by their invocations."""
    ids = [write.invocation.id for write in writes if isinstance(write, _End) and write.charges is not None]
    ids += [write.invocation_id for write in writes if isinstance(write, _More)]
    found: dict[UUID, list[Row[Any]]] = {}
    for row in connection.execute(HOLDS, {"ids": ids}) if ids else ():
        found.setdefault(row.invocation_id, []).append(row)
    return found


def _book(book: Book, end: _End, holds: dict[UUID, list[Row[Any]]]) -> None:
    """Book what a call used. Its holds are claimed by that: who comes second finds none."""
    if end.charges is None:
        return
    for held in holds.pop(end.invocation.id, ()):
        book.settle(held, end.charges.get(held.id, 0), by_sweep=end.by_sweep)


def _more(book: Book, more: _More, holds: Mapping[UUID, list[Row[Any]]]) -> Hold | int | None:
    """Let a call hold more of its hold; or of another quota, in place of what it held for an attempt that failed."""
    before = [held for held in holds.get(more.invocation_id, ()) if held.state == HELD]
    if more.hold_id is not None:
        held = next((one for one in before if one.id == more.hold_id), None)
        return book.grow(held, more.amount) if held is not None else 0
    for held in before:
        book.settle(held, 0, by_sweep=False)
    return book.hold(more.wants, more.invocation_id, more.owner)


def _used_up(invocation: Invocation) -> QuotaExceeded:
    return QuotaExceeded(
        f"The hosted quota for {invocation.model.provider} has not enough left for this call: order more, ask for less "
        "output, or add your own credential with `createCredential`."
    )


def _end(connection: Connection, ends: Sequence[_End], running: set[UUID] | None = None) -> _Told:
    """Write the ends of those that still run; tell of each whether it did."""
    if not ends:
        return {}
    left = _running(connection, [write.invocation.id for write in ends]) if running is None else set(running)
    taken: list[Invocation] = []
    told: _Told = {}
    for write in ends:
        told[write] = write.invocation.id in left
        if told[write]:
            left.discard(write.invocation.id)
            taken.append(write.invocation)
    if taken:
        connection.execute(END, [to_end(invocation) for invocation in taken])
    tries = [row for invocation in taken for row in to_attempts(invocation)]
    if tries:
        connection.execute(INSERT_ATTEMPTS, tries)
    return told

"""Writes records of calls and books what they use in groups: what waits while one is written goes into the next."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row
from sqlalchemy import delete as delete_rows

from core.changes import Change, Noun
from core.entities import Invocation
from core.errors import AlreadyAdmitted, ModelyardError, QuotaExceeded, ServerUnavailable
from core.ports.clock import Clock
from core.ports.invocation_log import Hold, Holds, Spend, Want
from core.ports.once import OnceKey
from core.resolve import too_little_left
from storage import once
from storage.batch import Batch
from storage.book import BUDGETS, QUOTAS, Book, Grant, Kind
from storage.holds import HELD
from storage.invocations import (
    END,
    INSERT,
    INSERT_ATTEMPTS,
    NOTE_OUTPUT,
    OTHER_MODEL,
    STILL_RUNNING,
    to_attempts,
    to_end,
    to_other,
    to_row,
)
from storage.last_used import LastUsed
from storage.once import idempotency_keys
from storage.transaction import SqlStorage

log = logging.getLogger(__name__)

_GROUP = 256
NOTHING_HELD = Holds()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Begin:
    """A call that waits to be admitted."""

    invocation: Invocation
    wants: Sequence[Want]
    spends: Sequence[Spend]
    once: OnceKey | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Other:
    """A running call that goes on with another model, and wants to hold what that asks."""

    invocation: Invocation
    wants: Sequence[Want]
    spends: Sequence[Spend]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _More:
    """A running call that wants to hold up to `amount` more of what it holds of."""

    invocation_id: UUID
    hold: Hold
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _End:
    """The end of a call that waits to be written. `charges` and `spent` None: it has no such holds."""

    invocation: Invocation
    charges: Mapping[UUID, int] | None
    spent: Mapping[UUID, int] | None
    by_sweep: bool = False


class _KeyForgotten(Exception):
    """The call that a key stood for was refused in the same moment, so that it stands for nothing."""


TELL_S = 0.2
"""How long changes of balances are gathered that are told of."""

_Write = _Begin | _Other | _More | _End
Result = Holds | int | bool | None


class SqlInvocationLog:
    """Admits and settles invocations, each call returning when its own rows are committed."""

    def __init__(self, storage: SqlStorage, last_used: LastUsed, clock: Clock) -> None:
        self._storage = storage
        self._last_used = last_used
        self._clock = clock
        self._batch: Batch[_Write, Any] = Batch(self._write, limit=_GROUP)
        self._touched: dict[UUID, UUID] = {}
        self._telling: asyncio.TimerHandle | None = None

    async def admit(
        self,
        invocation: Invocation,
        wants: Sequence[Want] = (),
        once: OnceKey | None = None,
        spends: Sequence[Spend] = (),
    ) -> Holds:
        """Insert a running invocation, with a hold of the first of `wants` that has enough left, and all of `spends`.

        All or nothing.

        Raises:
            QuotaExceeded: none has.
            BudgetExceeded: one of the budgets has not.
            AlreadyAdmitted: the key stands for another invocation already.
        """
        if invocation.credential_id is not None:
            self._last_used.note_credential(invocation.credential_id)
        begin = _Begin(invocation=invocation, wants=wants, spends=spends, once=once)
        while True:
            try:
                holds: Holds | None = await self._batch.do(begin)
            except _KeyForgotten:
                continue
            return holds or NOTHING_HELD

    async def hold(self, invocation: Invocation, wants: Sequence[Want] = (), spends: Sequence[Spend] = ()) -> Holds:
        """Let a running invocation hold what its model, another one by now, asks: all or nothing.

        Of a budget that it holds of already it is the difference. What it held of a quota is freed, whatever comes of
        it: the attempt that it was for has failed.

        Raises:
            QuotaExceeded: no quota has enough left, or the invocation has ended.
            BudgetExceeded: one of the budgets has not.
        """
        holds: Holds | None = await self._batch.do(_Other(invocation=invocation, wants=wants, spends=spends))
        if holds is None:
            raise QuotaExceeded("This call was ended by the sweep: its server was taken for dead.")
        return holds

    async def grow(self, hold: Hold, invocation_id: UUID, wanted: int) -> int | None:
        """Hold up to `wanted` more; return how much more it is now, 0 where nothing is left.

        None where the hold has ended: the sweep has taken this process for dead.
        """
        grown: int | None = await self._batch.do(_More(invocation_id=invocation_id, hold=hold, amount=wanted))
        return grown

    async def settle(
        self,
        invocation: Invocation,
        charges: Mapping[UUID, int] | None = None,
        spent: Mapping[UUID, int] | None = None,
    ) -> bool:
        """Write the end of an invocation if it is still running, with its attempts; tell whether it was.

        What its holds used is booked with it, once; what the sweep has booked for it meanwhile is corrected.
        """
        was_running: bool = await self._batch.do(_End(invocation=invocation, charges=charges, spent=spent))
        return was_running

    async def sweep(self, invocation: Invocation, charges: Mapping[UUID, int], spent: Mapping[UUID, int]) -> bool:
        """Write the end of an invocation whose process is dead; tell whether it was still running."""
        end = _End(invocation=invocation, charges=charges, spent=spent, by_sweep=True)
        was_running: bool = await self._batch.do(end)
        return was_running

    async def note_output(self, produced: Mapping[UUID, int]) -> None:
        """Note how many tokens running calls have produced, for whoever settles them if this process dies."""
        rows = [{"invocation": invocation_id, "tokens": tokens} for invocation_id, tokens in sorted(produced.items())]
        if rows:
            await self._storage.write_hot(lambda connection: connection.execute(NOTE_OUTPUT, rows))

    async def open_periods(self, quota_ids: Sequence[UUID]) -> int:
        """Open the current period of quotas; return how many were of an earlier one."""

        def work(connection: Connection) -> list[tuple[UUID, UUID]]:
            book = Book(connection, QUOTAS, quota_ids, self._clock.now())
            book.open_periods()
            book.write()
            return book.touched

        touched = await self._storage.write_hot(work)
        self._note(touched)
        return len(touched)

    async def close(self) -> None:
        """Wait until everything that was given is written."""
        await self._batch.close()

    def tell(self) -> None:
        """Tell of the quotas that have changed since the last time, of each once."""
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        touched, self._touched = self._touched, {}
        for quota_id, workspace_id in touched.items():
            self._storage.tell(Change(workspace_id=workspace_id, noun=Noun.QUOTA, key=str(quota_id)))

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
        self._note(touched)
        return [told.get(write) for write in writes]

    def _note(self, touched: Sequence[tuple[UUID, UUID]]) -> None:
        """Let what has changed be told of soon."""
        self._touched.update((quota_id, workspace_id) for workspace_id, quota_id in touched)
        if self._touched and self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(TELL_S, self.tell)


_Told = dict[_Write, Result | BaseException]
_HoldRows = dict[UUID, list[Row[Any]]]
_Paying = _Begin | _Other


@dataclass(frozen=True, slots=True, kw_only=True)
class _Books:
    """The books of a group, with what its calls hold already, by their invocations."""

    quotas: Book
    budgets: Book
    quota_holds: _HoldRows
    budget_holds: _HoldRows


def _written(connection: Connection, writes: Sequence[_Write], clock: Clock) -> tuple[_Told, list[tuple[UUID, UUID]]]:
    """Write a group: keys first, then the ends that free, then what holds; return each one's result, and what changed.

    Everybody locks in this order (keys, invocations, holds of quotas, of budgets, quotas, budgets) and within it by id,
    so that nobody waits in a circle.
    """
    begins = [write for write in writes if isinstance(write, _Begin)]
    others = [write for write in writes if isinstance(write, _Other)]
    mores = [write for write in writes if isinstance(write, _More)]
    ends = [write for write in writes if isinstance(write, _End)]
    told: _Told = {}
    _claim_keys(connection, begins, told, clock)
    twins, begins = [write for write in begins if write in told], [write for write in begins if write not in told]
    if not (mores or others or any(one.wants or one.spends for one in begins) or any(_holds(one) for one in ends)):
        if begins:
            connection.execute(INSERT, [to_row(write.invocation) for write in begins])
        told |= _end(connection, ends)
        return told, []
    named = [one.invocation.id for one in ends] + [one.invocation.id for one in others]
    named += [one.invocation_id for one in mores]
    running = _running(connection, named)
    books = _opened(connection, [*begins, *others], mores, ends, clock)
    for end in ends:
        _book(books, end)
    going_on = running - {end.invocation.id for end in ends}  # who ends in this group holds nothing any more
    for more in mores:
        told[more] = _more(books, more) if more.invocation_id in going_on else None
    for other in others:
        told[other] = _held_anew(books, other) if other.invocation.id in going_on else None
    for begin in begins:
        if begin.wants or begin.spends:
            told[begin] = _held(books, begin)
    refused = [write for write in begins if isinstance(told.get(write), ModelyardError)]
    _forget_keys(connection, refused)
    _tell_twins(twins, refused, told)
    begun = [to_row(write.invocation) for write in begins if write not in refused]
    if begun:
        connection.execute(INSERT, begun)
    gone_on = [to_other(one.invocation) for one in others if isinstance(told[one], Holds)]
    if gone_on:
        connection.execute(OTHER_MODEL, gone_on)
    told |= _end(connection, ends, running)
    books.quotas.write()
    books.budgets.write()
    return told, books.quotas.touched


def _holds(end: _End) -> bool:
    return end.charges is not None or end.spent is not None


def _opened(
    connection: Connection, paying: Sequence[_Paying], mores: Sequence[_More], ends: Sequence[_End], clock: Clock
) -> _Books:
    """Lock what the group touches."""
    of_quotas = [one.invocation.id for one in ends if one.charges is not None]
    of_quotas += [one.invocation_id for one in mores if one.hold.unit is not None]
    of_quotas += [one.invocation.id for one in paying if isinstance(one, _Other)]
    of_budgets = [one.invocation.id for one in ends if one.spent is not None]
    of_budgets += [one.invocation_id for one in mores if one.hold.unit is None]
    of_budgets += [one.invocation.id for one in paying if isinstance(one, _Other) and one.spends]
    held_of_quotas, held_of_budgets = _rows(connection, QUOTAS, of_quotas), _rows(connection, BUDGETS, of_budgets)
    quota_ids = [want.quota_id for one in paying for want in one.wants]
    quota_ids += [held.quota_id for rows in held_of_quotas.values() for held in rows]
    spends = [spend for one in paying for spend in one.spends]
    budget_ids = [spend.budget_id for spend in spends]
    budget_ids += [held.budget_id for rows in held_of_budgets.values() for held in rows]
    now = clock.now()
    quotas, budgets = Book(connection, QUOTAS, quota_ids, now), Book(connection, BUDGETS, budget_ids, now)
    budgets.open_missing(spends)
    return _Books(quotas=quotas, budgets=budgets, quota_holds=held_of_quotas, budget_holds=held_of_budgets)


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


def _tell_twins(twins: Sequence[_Begin], refused: Sequence[_Begin], told: _Told) -> None:
    """Let calls whose twin was refused have no part in what never was: the same call is refused, another may try."""
    of_calls = {write.invocation.id: write for write in refused}
    for twin in twins:
        admitted = told[twin]
        first = of_calls.get(admitted.repeats) if isinstance(admitted, AlreadyAdmitted) else None
        if first is not None and first.once is not None and twin.once is not None:
            is_same = first.once.input_hash == twin.once.input_hash
            told[twin] = told[first] if is_same else _KeyForgotten()


def _running(connection: Connection, ids: Sequence[UUID]) -> set[UUID]:
    """Lock and return those that still run."""
    return {row.id for row in connection.execute(STILL_RUNNING, {"ids": list(ids)})} if ids else set()


def _rows(connection: Connection, kind: Kind, ids: Sequence[UUID]) -> dict[UUID, list[Row[Any]]]:
    """Lock and return the holds of calls, by their invocations."""
    found: dict[UUID, list[Row[Any]]] = {}
    for row in connection.execute(kind.holds_of, {"ids": ids}) if ids else ():
        found.setdefault(row.invocation_id, []).append(row)
    return found


def _book(books: _Books, end: _End) -> None:
    """Book what a call used. Its holds are claimed by that: who comes second finds none."""
    for book, rows, used in (
        (books.quotas, books.quota_holds, end.charges),
        (books.budgets, books.budget_holds, end.spent),
    ):
        if used is None:
            continue
        for held in rows.pop(end.invocation.id, ()):
            book.settle(held, used.get(held.id, 0), by_sweep=end.by_sweep)


def _more(books: _Books, more: _More) -> int | None:
    of_budget = more.hold.unit is None
    book, holds = (books.budgets, books.budget_holds) if of_budget else (books.quotas, books.quota_holds)
    held = next((one for one in holds.get(more.invocation_id, ()) if one.id == more.hold.id), None)
    return book.grow(held, more.amount) if held is not None and held.state == HELD else None


def _held_anew(books: _Books, other: _Other) -> Holds | ModelyardError:
    """Let a call hold what another model asks, in place of what it held of a quota for an attempt that failed."""
    for held in books.quota_holds.get(other.invocation.id, ()):
        if held.state == HELD:
            books.quotas.settle(held, 0, by_sweep=False)
    return _held(books, other)


def _held(books: _Books, asking: _Paying) -> Holds | ModelyardError:
    """Let a call hold all that it asks, or nothing: decided of each balance before anything is noted."""
    invocation, has = asking.invocation, {}
    if isinstance(asking, _Other):
        has = {one.budget_id: one for one in books.budget_holds.get(invocation.id, ()) if one.state == HELD}
    quota = books.quotas.first(asking.wants)
    if asking.wants and quota is None:
        return too_little_left(invocation.model.provider)
    grants: list[tuple[Row[Any] | None, Grant | int]] = []
    for spend in asking.spends:
        held = has.get(spend.budget_id)
        found: Grant | int | None
        if held is None:
            found = books.budgets.grant(spend.budget_id, spend.minimum, spend.wanted, spend.input_tokens)
        else:
            found = books.budgets.raise_to(held, spend.minimum, spend.wanted)
        if found is None:
            return books.budgets.refusal(spend)
        grants.append((held, found))
    return Holds(
        quota=books.quotas.hold(quota, invocation.id, invocation.owner) if quota is not None else None,
        budgets=tuple(_taken(books.budgets, invocation, held, granted) for held, granted in grants),
    )


def _taken(budgets: Book, invocation: Invocation, held: Row[Any] | None, granted: Grant | int) -> Hold:
    if isinstance(granted, Grant):
        return budgets.hold(granted, invocation.id, invocation.owner)
    assert held is not None, "only a hold that is there is raised"
    return budgets.add(held, granted)


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

"""One SQL transaction as the nouns use it: statements in, rows out, foreign errors translated."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Executable, Row
from sqlalchemy.ext.asyncio import AsyncConnection

from core.changes import Change, ChangeKind, Noun
from core.ports.clock import Clock
from storage.engine import Upsert, translated

Parameters = Mapping[str, Any] | Sequence[Mapping[str, Any]]


class News:
    """What is to be told once a transaction is committed: of each object one change."""

    def __init__(self) -> None:
        self._changes: dict[tuple[UUID, Noun, str], Change] = {}

    def add(self, change: Change) -> None:
        """Tell of a change; of an object that this transaction created, it stays the creation."""
        place = (change.workspace_id, change.noun, change.key)
        earlier = self._changes.pop(place, None)
        if earlier is not None and earlier.kind is ChangeKind.CREATED and change.kind is ChangeKind.UPDATED:
            change = earlier
        self._changes[place] = change

    def __iter__(self) -> Iterator[Change]:
        return iter(self._changes.values())

    def __bool__(self) -> bool:
        return bool(self._changes)


class Connection:
    """A transaction in progress, with what is to be told once it is committed."""

    def __init__(self, raw: AsyncConnection, clock: Clock) -> None:
        self.raw = raw
        self.clock = clock
        self.versions: dict[UUID, int] = {}
        self.has_jobs = False
        self.news = News()

    @property
    def engine(self) -> str:
        """Return the name of the database's engine."""
        return self.raw.dialect.name

    def now(self) -> datetime:
        """Return the time that rows written now carry."""
        return self.clock.now()

    async def rows(self, statement: Executable, parameters: Parameters | None = None) -> Sequence[Row[Any]]:
        """Return all rows of a statement."""
        with translated():
            return (await self.raw.execute(statement, parameters)).all()

    async def row(self, statement: Executable, parameters: Parameters | None = None) -> Row[Any] | None:
        """Return the first row of a statement, None if there is none."""
        with translated():
            return (await self.raw.execute(statement, parameters)).first()

    async def run(self, statement: Executable | Upsert, parameters: Parameters | None = None) -> int:
        """Run a statement; return how many rows it touched (not told for many parameters)."""
        if isinstance(statement, Upsert):
            statement = statement.on(self.raw.dialect)
        with translated():
            return (await self.raw.execute(statement, parameters)).rowcount

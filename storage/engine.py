"""SQLite and PostgreSQL: the only place where the two are told apart."""

import asyncio
import errno
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Dialect,
    Engine,
    Insert,
    Table,
    create_engine,
    event,
    exc,
    func,
    literal,
    make_url,
    select,
    text,
)
from sqlalchemy import Connection as SyncConnection
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from core.errors import AlreadyExists, Conflict, InvalidInput, ModelyardError, OutcomeUnknown, ServerUnavailable

T = TypeVar("T")

_BUSY_SECONDS = 15
_STATEMENT_SECONDS = 30
_SQLITE_READERS = 4
_NOT_UNIQUE = {"23505", "SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY"}
_NOT_STORABLE = {"22021", "22P05"}
_NO_TABLE = {"42P01", "42703"}
_NOT_TEXT = "A text holds a character that is none (NUL, or half of a pair); leave it out."
_NO_PARENT = {"23503", "SQLITE_CONSTRAINT_FOREIGNKEY"}
_AWAY_STATES = ("08", "53", "57P", "58", "55P03", "40001", "40P01")
_AWAY_SQLITE = {
    "SQLITE_BUSY",
    "SQLITE_LOCKED",
    "SQLITE_CANTOPEN",
    "SQLITE_IOERR",
    "SQLITE_FULL",
    "SQLITE_READONLY",
}
_AWAY_ERRNOS = {
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.EPIPE,
    errno.ETIMEDOUT,
    errno.ENOENT,
    errno.EHOSTUNREACH,
}
_BOOTSTRAP_LOCK = 0x6D6F64656C79


class Hot(Protocol):
    """Runs a whole piece of synchronous work on one connection: for the few things that every call needs."""

    async def read(self, work: Callable[[SyncConnection], T]) -> T:
        """Run one reading statement."""
        ...

    async def write(self, work: Callable[[SyncConnection], T]) -> T:
        """Run statements in one transaction; its commit is done when this returns.

        Raises:
            OutcomeUnknown: the database went away while it committed.
        """
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Engines:
    """The database as four ways in: one writes, one reads a snapshot, one runs single statements, one is `hot`.

    `lock` is held by who writes: in a process on SQLite one after the other, elsewhere everybody at once.
    """

    name: str
    writer: AsyncEngine
    reader: AsyncEngine
    single: AsyncEngine
    hot: Hot
    lock: asyncio.Lock | nullcontext[None]

    async def close(self) -> None:
        """Close every connection."""
        await self.hot.close()
        await self.writer.dispose()
        await self.reader.dispose()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that may write."""
        async with self.lock, self.writer.begin() as connection:
            yield connection


def open_engines(url: str, *, pool: int, migrating: bool = False) -> Engines:
    """Return the engines of a database; nothing connects before the first statement.

    `migrating` leaves SQLite's foreign keys unchecked: a table that is rebuilt must not take its children along.
    """
    if make_url(url).get_backend_name() == "sqlite":
        return _sqlite(url, foreign_keys="OFF" if migrating else "ON")
    return _postgresql(url, pool)


def _sqlite(url: str, *, foreign_keys: str) -> Engines:
    connect: dict[str, Any] = {"timeout": _BUSY_SECONDS, "isolation_level": None}
    writer = create_async_engine(
        url, pool_size=1, max_overflow=0, pool_timeout=_STATEMENT_SECONDS, connect_args=connect, hide_parameters=True
    )
    reader = create_async_engine(
        url, pool_size=_SQLITE_READERS, max_overflow=0, connect_args=connect, hide_parameters=True
    )
    _prepare_writer(writer.sync_engine, foreign_keys)
    _prepare_reader(reader.sync_engine)
    lock = asyncio.Lock()
    return Engines(
        name="sqlite",
        writer=writer,
        reader=reader,
        single=reader.execution_options(single=True),
        hot=_Threads(url, connect, lock, foreign_keys),
        lock=lock,
    )


class _Threads:
    """SQLite's hot way in: a thread that reads and one that writes, each with its connection.

    A piece of work crosses to its thread once; by the asynchronous engine each statement crosses four times.
    """

    def __init__(self, url: str, connect: Mapping[str, Any], lock: asyncio.Lock, foreign_keys: str) -> None:
        blocking = make_url(url).set(drivername="sqlite+pysqlite")
        given = {**connect, "check_same_thread": False}
        self._reader = create_engine(blocking, pool_size=1, max_overflow=0, connect_args=given, hide_parameters=True)
        self._writer = create_engine(blocking, pool_size=1, max_overflow=0, connect_args=given, hide_parameters=True)
        _prepare_reader(self._reader)
        _prepare_writer(self._writer, foreign_keys)
        self._single = self._reader.execution_options(single=True)
        self._lock = lock
        self._threads = ThreadPoolExecutor(1, "sqlite-read"), ThreadPoolExecutor(1, "sqlite-write")

    async def read(self, work: Callable[[SyncConnection], T]) -> T:
        def run() -> T:
            with self._single.connect() as connection:
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(self._threads[0], run)

    async def write(self, work: Callable[[SyncConnection], T]) -> T:
        def run() -> T:
            with self._writer.begin() as connection:
                return work(connection)

        async with self._lock:
            return await asyncio.get_running_loop().run_in_executor(self._threads[1], run)

    async def close(self) -> None:
        for thread in self._threads:
            thread.shutdown()
        self._reader.dispose()
        self._writer.dispose()


def _prepare_writer(engine: Engine, foreign_keys: str) -> None:
    _prepare(engine, begin="BEGIN IMMEDIATE", pragmas=(f"foreign_keys={foreign_keys}",))


def _prepare_reader(engine: Engine) -> None:
    _prepare(engine, begin="BEGIN", pragmas=("query_only=ON",))


def _prepare(engine: Engine, *, begin: str, pragmas: Sequence[str]) -> None:
    """Set a SQLite connection up, and begin its transactions by `begin`, those of single statements not at all."""
    settings = ("journal_mode=WAL", "synchronous=NORMAL", f"busy_timeout={_BUSY_SECONDS * 1000}")

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _: Any) -> None:
        cursor = connection.cursor()
        for pragma in (*settings, *pragmas):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        if not connection.get_execution_options().get("single"):
            connection.exec_driver_sql(begin)


def _postgresql(url: str, pool: int) -> Engines:
    writer = create_async_engine(
        url,
        pool_size=pool,
        max_overflow=0,
        pool_timeout=_STATEMENT_SECONDS,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={
            "timeout": 10,
            "command_timeout": _STATEMENT_SECONDS * 2,
            "server_settings": {
                "application_name": "modelyard",
                "statement_timeout": str(_STATEMENT_SECONDS * 1000),
                "idle_in_transaction_session_timeout": str(_STATEMENT_SECONDS * 1000),
                "jit": "off",
            },
        },
    )
    single = writer.execution_options(isolation_level="AUTOCOMMIT")
    return Engines(
        name="postgresql",
        writer=writer,
        reader=writer.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True),
        single=single,
        hot=_Pooled(writer, single),
        lock=nullcontext(),
    )


class _Pooled:
    """PostgreSQL's hot way in: the pools that are there."""

    def __init__(self, writer: AsyncEngine, single: AsyncEngine) -> None:
        self._writer = writer
        self._single = single

    async def read(self, work: Callable[[SyncConnection], T]) -> T:
        async with self._single.connect() as connection:
            return await connection.run_sync(work)

    async def write(self, work: Callable[[SyncConnection], T]) -> T:
        async with self._writer.connect() as connection:
            found = await connection.run_sync(work)
            try:
                with translated():
                    await connection.commit()
            except ServerUnavailable as error:
                raise OutcomeUnknown(error.message, retry_after=error.retry_after) from error
            return found

    async def close(self) -> None:
        """Leave the pools to their owner."""


@contextmanager
def translated() -> Iterator[None]:
    """Turn the database's own errors into ours.

    Raises:
        AlreadyExists: a unique key is taken.
        Conflict: a row that is referred to is gone, or still referred to.
        InvalidInput: a text holds what the database cannot store.
        ServerUnavailable: the database is away, full, too busy, or not prepared.
    """
    try:
        yield
    except UnicodeEncodeError as error:
        raise InvalidInput(_NOT_TEXT) from error
    except exc.TimeoutError as error:
        raise ServerUnavailable("The database is busy; ask again in a moment.", retry_after=1.0) from error
    except exc.DBAPIError as error:
        ours = _ours(error)
        if ours is None:
            raise
        raise ours from error
    except OSError as error:
        if error.errno not in _AWAY_ERRNOS and not isinstance(error, ConnectionError | TimeoutError):
            raise
        raise _away() from error


def _ours(error: exc.DBAPIError) -> ModelyardError | None:
    states = _states(error)
    if states & _NOT_UNIQUE:
        return AlreadyExists("This name is taken.")
    if states & _NO_PARENT:
        return Conflict("Something that this refers to was changed or removed at the same time; read it again.")
    if states & _NOT_STORABLE or "surrogates not allowed" in str(error.orig):
        return InvalidInput(_NOT_TEXT)
    if states & _NO_TABLE or "no such table" in str(error.orig):
        return ServerUnavailable("The database is not prepared for this version: run `./run migrate` first.")
    if error.connection_invalidated or isinstance(error, exc.InterfaceError) or any(map(_is_away, states)):
        return _away()
    return None


def _states(error: exc.DBAPIError) -> set[str]:
    """Return the names that the driver gives this error, whichever driver it is."""
    chain: list[BaseException | None] = [error.orig, error.orig.__cause__ if error.orig else None]
    names = {getattr(link, "sqlite_errorname", None) or getattr(link, "sqlstate", None) for link in chain if link}
    return {str(name) for name in names if name}


def _is_away(state: str) -> bool:
    return state.startswith(_AWAY_STATES) or any(state == name or state.startswith(name + "_") for name in _AWAY_SQLITE)


def _away() -> ServerUnavailable:
    return ServerUnavailable("The database cannot be reached or is too busy; ask again in a moment.", retry_after=1.0)


class Upsert:
    """An insert that replaces `columns` of the row with the same `key`, or leaves that row where there are none.

    To `added` it adds what the row has.
    `where` names the partial unique index that is meant.
    """

    def __init__(
        self,
        table: Table,
        *,
        key: Sequence[str],
        columns: Sequence[str] = (),
        added: Sequence[str] = (),
        where: ColumnElement[bool] | None = None,
    ) -> None:
        self._statements: dict[str, Insert] = {}
        for name, insert in (("sqlite", sqlite.insert), ("postgresql", postgresql.insert)):
            statement: Any = insert(table)
            if columns or added:
                values = {column: statement.excluded[column] for column in columns}
                values |= {column: table.c[column] + statement.excluded[column] for column in added}
                statement = statement.on_conflict_do_update(index_elements=key, index_where=where, set_=values)
            else:
                statement = statement.on_conflict_do_nothing(index_elements=key, index_where=where)
            self._statements[name] = statement

    def on(self, dialect: Dialect) -> Insert:
        """Return the statement for an engine."""
        return self._statements[dialect.name]


def has_tag(engine: str, tags: Column[Any], name: str, value: str) -> ColumnElement[bool]:
    """Return the predicate that a JSON object holds this pair."""
    if engine == "postgresql":
        return sql_cast(tags, postgresql.JSONB).op("->>")(name) == value
    pairs = func.json_each(tags).table_valued("key", "value")
    return select(literal(1)).select_from(pairs).where(pairs.c.key == name, pairs.c.value == value).exists()


def tag_value(engine: str, tags: Column[Any], name: str) -> ColumnElement[str | None]:
    """Return what a JSON object holds under a name, NULL for nothing."""
    if engine == "postgresql":
        return sql_cast(tags, postgresql.JSONB).op("->>")(name)
    pairs = func.json_each(tags).table_valued("key", "value")
    return select(pairs.c.value).select_from(pairs).where(pairs.c.key == name).scalar_subquery()


_BEGINNINGS = {"hour": "%Y-%m-%d %H:00:00", "day": "%Y-%m-%d 00:00:00", "month": "%Y-%m-01 00:00:00"}


def truncated(engine: str, moment: Column[Any], unit: str) -> ColumnElement[Any]:
    """Return the beginning of the `hour`, `day` or `month` in UTC that a moment is in."""
    if engine == "postgresql":
        return func.date_trunc(unit, moment, "UTC", type_=moment.type)
    return func.strftime(_BEGINNINGS[unit] + ".000000", moment, type_=moment.type)


def whole(engine: str, decimal: ColumnElement[str]) -> ColumnElement[int]:
    """Return the whole part of a positive decimal that is text without an exponent."""
    text_of = func.split_part(decimal, ".", 1) if engine == "postgresql" else decimal
    return sql_cast(text_of, BigInteger)


def fraction(engine: str, decimal: ColumnElement[str], place: int, count: int) -> ColumnElement[int]:
    """Return `count` decimals, from the one at `place` on, of a positive decimal that is text without an exponent."""
    if engine == "postgresql":
        decimals = func.split_part(decimal, ".", 2)
    else:
        decimals = func.substr(decimal, func.instr(decimal.op("||")("."), ".") + 1)
    return sql_cast(func.substr(decimals.op("||")("0" * (place + count)), place, count), BigInteger)


async def lock_bootstrap(connection: AsyncConnection) -> None:
    """Let one transaction at a time go on; SQLite's writers already go one by one."""
    if connection.dialect.name == "postgresql":
        with translated():
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _BOOTSTRAP_LOCK})

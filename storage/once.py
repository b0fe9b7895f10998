"""Keys by which operations are done once, as rows that are remembered for 24 hours."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Column, ForeignKey, Index, LargeBinary, String, Table, UniqueConstraint, Uuid, bindparam, select
from sqlalchemy import Connection as SyncConnection
from sqlalchemy import delete as delete_rows

from core.ids import uuid7
from core.ports.once import OnceKey, Repeated
from storage.base import id_column, metadata, times
from storage.connection import Connection
from storage.engine import Upsert, translated

KEPT = timedelta(hours=24)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    id_column(),
    Column("workspace_id", Uuid, ForeignKey("workspaces.id", ondelete="CASCADE"), nullable=False),
    Column("principal", Uuid, nullable=False),
    Column("operation", String(32), nullable=False),
    Column("key", String(200), nullable=False),
    Column("input_hash", LargeBinary(32), nullable=False),
    Column("result_id", Uuid, nullable=False),
    *times(),
    UniqueConstraint("workspace_id", "principal", "operation", "key"),
    Index(None, "created_at"),
)

_PLACE = ("workspace_id", "principal", "operation", "key")
_INSERT = Upsert(idempotency_keys, key=_PLACE)
_HERE = tuple(idempotency_keys.c[name] == bindparam(f"of_{name}") for name in _PLACE)
_OLD = delete_rows(idempotency_keys).where(*_HERE, idempotency_keys.c.created_at < bindparam("before"))
_FIND = select(idempotency_keys).where(*_HERE)


def claim(connection: SyncConnection, key: OnceKey, now: Any) -> Repeated | None:
    """Write a key unless it stands for something already, which is returned then."""
    place = {f"of_{name}": getattr(key, name) for name in _PLACE}
    connection.execute(_OLD, {**place, "before": now - KEPT})
    while not connection.execute(_INSERT.on(connection.dialect), _row(key, now)).rowcount:
        if (row := connection.execute(_FIND, place).first()) is not None:
            return _repeated(row)
        # What was in the way has been forgotten since.
    return None


class SqlOnceKeys:
    """The keys of one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def find(self, workspace_id: UUID, principal: UUID, operation: str, key: str) -> Repeated | None:
        """Return what a key stands for already."""
        place = {
            "of_workspace_id": workspace_id,
            "of_principal": principal,
            "of_operation": operation,
            "of_key": key,
        }
        row = await self._connection.row(_FIND, place)
        return _repeated(row) if row is not None and row.created_at >= self._connection.now() - KEPT else None

    async def claim(self, key: OnceKey) -> Repeated | None:
        """Write the key with the transaction; return what it stands for already if it does, and write nothing then."""
        with translated():
            return await self._connection.raw.run_sync(claim, key, self._connection.now())

    async def forget(self, result_id: UUID) -> None:
        """Forget the key of what was not made after all."""
        await self._connection.run(delete_rows(idempotency_keys).where(idempotency_keys.c.result_id == result_id))


async def prune(connection: Connection, *, limit: int) -> int:
    """Forget keys that are too old; return how many, at most `limit`."""
    old = select(idempotency_keys.c.id).where(idempotency_keys.c.created_at < connection.now() - KEPT).limit(limit)
    return await connection.run(delete_rows(idempotency_keys).where(idempotency_keys.c.id.in_(old)))


def _row(key: OnceKey, now: Any) -> dict[str, Any]:
    return {
        "id": uuid7(),
        **{name: getattr(key, name) for name in _PLACE},
        "input_hash": key.input_hash,
        "result_id": key.result_id,
        "created_at": now,
        "updated_at": now,
    }


def _repeated(row: Any) -> Repeated:
    return Repeated(input_hash=row.input_hash, result_id=row.result_id)

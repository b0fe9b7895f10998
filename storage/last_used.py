"""When tokens and credentials were last used: noted in memory, written together now and then."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Table, Update, Uuid, bindparam, update

from core.ports.clock import Clock
from storage.base import UtcDateTime
from storage.credentials import credentials
from storage.tokens import api_tokens
from storage.transaction import SqlStorage

WRITE_S = 30.0


class LastUsed:
    """Notes uses. A process that is killed loses those of its last half minute."""

    def __init__(self, storage: SqlStorage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock
        self._tokens: dict[UUID, datetime] = {}
        self._credentials: dict[UUID, datetime] = {}

    def note_token(self, token_id: UUID) -> None:
        """Note that a token is used now."""
        self._tokens[token_id] = self._clock.now()

    def note_credential(self, credential_id: UUID) -> None:
        """Note that a credential is used now."""
        self._credentials[credential_id] = self._clock.now()

    async def write(self) -> None:
        """Write what was noted since the last time; kept for the next one where the database is away."""
        for table, noted in ((api_tokens, self._tokens), (credentials, self._credentials)):
            taken = dict(noted)
            if not taken:
                continue
            async with self._storage.connect() as connection:
                await connection.run(_later(table), [{"key": key, "at": taken[key]} for key in sorted(taken)])
            for key, at in taken.items():
                if noted.get(key) == at:
                    del noted[key]


def _later(table: Table) -> Update:
    """Return the statement that moves the time of a row forward, never back."""
    at = bindparam("at", type_=UtcDateTime)
    is_later = table.c.last_used_at.is_(None) | (table.c.last_used_at < at)
    return update(table).where(table.c.id == bindparam("key", type_=Uuid), is_later).values(last_used_at=at)

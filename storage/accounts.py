"""People, as rows."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Boolean, Column, Row, String, Table, UniqueConstraint, insert, select

from core.entities import Account
from storage.base import id_column, metadata, times
from storage.connection import Connection

accounts = Table(
    "accounts",
    metadata,
    id_column(),
    Column("name", String(200), nullable=False),
    Column("email", String(320), nullable=False),
    Column("is_operator", Boolean, nullable=False),
    *times(),
    UniqueConstraint("email"),
)


class SqlAccounts:
    """The accounts of one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def get_many(self, account_ids: Sequence[UUID]) -> Mapping[UUID, Account]:
        """Return those that exist, by id."""
        rows = await self._connection.rows(select(accounts).where(accounts.c.id.in_(account_ids)))
        return {row.id: _account(row) for row in rows}

    async def by_email(self, email: str) -> Account | None:
        """Return the account of an e-mail address, however it is capitalised."""
        row = await self._connection.row(select(accounts).where(accounts.c.email == email.lower()))
        return None if row is None else _account(row)

    async def insert(self, account: Account) -> None:
        """Insert; AlreadyExists if the e-mail is taken, however it is capitalised."""
        await self._connection.run(
            insert(accounts).values(
                id=account.id,
                name=account.name,
                email=account.email.lower(),
                is_operator=account.is_operator,
                created_at=account.created_at,
                updated_at=account.created_at,
            )
        )


def _account(row: Row[Any]) -> Account:
    return Account(id=row.id, name=row.name, email=row.email, is_operator=row.is_operator, created_at=row.created_at)

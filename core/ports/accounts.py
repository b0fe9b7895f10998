"""What is stored of people."""

from collections.abc import Mapping, Sequence
from typing import Protocol
from uuid import UUID

from core.entities import Account


class Accounts(Protocol):
    """People."""

    async def get_many(self, account_ids: Sequence[UUID]) -> Mapping[UUID, Account]: ...
    async def by_email(self, email: str) -> Account | None:
        """Return the account of an e-mail address, however it is capitalised."""
        ...

    async def insert(self, account: Account) -> None:
        """AlreadyExists if the e-mail is taken."""
        ...

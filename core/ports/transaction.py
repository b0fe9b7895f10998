"""One transaction with every noun on it, and the database that opens it."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol
from uuid import UUID

from core.changes import Change
from core.configuration import Configuration
from core.ports.accounts import Accounts
from core.ports.audit import Audit
from core.ports.budgets import Budgets
from core.ports.credentials import Credentials
from core.ports.invitations import Invitations
from core.ports.invocations import Invocations
from core.ports.keys import Keys
from core.ports.members import Members
from core.ports.models import Models
from core.ports.once import OnceKeys
from core.ports.orders import Orders
from core.ports.outbox import Outbox
from core.ports.payment_events import PaymentEvents
from core.ports.pools import Pools
from core.ports.products import Products
from core.ports.providers import ProviderRows
from core.ports.quotas import Quotas
from core.ports.tokens import Tokens
from core.ports.usage import UsageSums
from core.ports.workspaces import Workspaces


class News(Protocol):
    """What a transaction has to tell."""

    def add(self, change: Change) -> None:
        """Tell of a change once the transaction is committed; further changes of the same object become one."""
        ...


class Transaction(Protocol):
    """One SQL transaction with the nouns on it. Leaving the block commits, an exception rolls back."""

    accounts: Accounts
    workspaces: Workspaces
    keys: Keys
    members: Members
    invitations: Invitations
    tokens: Tokens
    credentials: Credentials
    providers: ProviderRows
    models: Models
    pools: Pools
    invocations: Invocations
    quotas: Quotas
    budgets: Budgets
    products: Products
    orders: Orders
    payment_events: PaymentEvents
    once: OnceKeys
    usage: UsageSums
    audit: Audit
    outbox: Outbox
    news: News

    async def configuration(self, workspace_id: UUID) -> Configuration:
        """Return the configuration as this transaction sees it. NotFound if the workspace is gone."""
        ...


class Storage(Protocol):
    """The database."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Open a transaction that may write. ServerUnavailable when the database is away."""
        ...

    def read(self) -> AbstractAsyncContextManager[Transaction]:
        """Open a transaction that only reads."""
        ...

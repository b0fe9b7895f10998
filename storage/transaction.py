"""One SQL transaction with the nouns on it; what it asked for is sent on once it is committed."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol, TypeVar
from uuid import UUID

from sqlalchemy import Connection as SyncConnection
from sqlalchemy.ext.asyncio import AsyncConnection

from core.changes import Change
from core.configuration import Configuration, HostedProvider
from core.ports.accounts import Accounts
from core.ports.audit import Audit
from core.ports.budgets import Budgets
from core.ports.clock import Clock
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
from core.ports.transaction import News
from core.ports.usage import UsageSums
from core.ports.workspaces import Workspaces
from storage import snapshot
from storage.accounts import SqlAccounts
from storage.audit import SqlAudit
from storage.budgets import SqlBudgets
from storage.cipher import Cipher
from storage.connection import Connection
from storage.credentials import SqlCredentials
from storage.engine import Engines, translated
from storage.invitations import SqlInvitations
from storage.invocations import SqlInvocations
from storage.keys import SqlKeys
from storage.members import SqlMembers
from storage.models import SqlModels
from storage.once import SqlOnceKeys
from storage.orders import SqlOrders
from storage.outbox import SqlOutbox
from storage.payment_events import SqlPaymentEvents
from storage.pools import SqlPools
from storage.products import SqlProducts
from storage.providers import SqlProviders
from storage.quotas import SqlQuotas
from storage.tokens import SqlTokens
from storage.usage import SqlUsage
from storage.workspaces import SqlWorkspaces

T = TypeVar("T")


class Committed(Protocol):
    """What a commit brought: `versions` of configurations, `news`, and whether it `has_jobs`."""

    @property
    def versions(self) -> Mapping[UUID, int]: ...
    @property
    def news(self) -> Iterable[Change]: ...
    @property
    def has_jobs(self) -> bool: ...


AfterCommit = Callable[[Committed], None]
"""Is told after a commit what it brought. Must not block."""


@dataclass(frozen=True, slots=True)
class _Told:
    """A change that no `Connection` brought."""

    news: Sequence[Change]
    versions: Mapping[UUID, int] = field(default_factory=dict)
    has_jobs: bool = False


class SqlTransaction:
    """The nouns, all on one connection."""

    def __init__(self, connection: Connection, cipher: Cipher, hosted: Mapping[str, HostedProvider]) -> None:
        self._cipher = cipher
        self._hosted = hosted
        workspaces = SqlWorkspaces(connection, cipher)
        self.connection = connection
        self.accounts: Accounts = SqlAccounts(connection)
        self.workspaces: Workspaces = workspaces
        self.keys: Keys = SqlKeys(connection, cipher)
        self.members: Members = SqlMembers(connection)
        self.invitations: Invitations = SqlInvitations(connection)
        self.tokens: Tokens = SqlTokens(connection)
        self.credentials: Credentials = SqlCredentials(connection, workspaces)
        self.providers: ProviderRows = SqlProviders(connection)
        self.models: Models = SqlModels(connection)
        self.pools: Pools = SqlPools(connection)
        self.invocations: Invocations = SqlInvocations(connection)
        self.usage: UsageSums = SqlUsage(connection)
        self.quotas: Quotas = SqlQuotas(connection)
        self.budgets: Budgets = SqlBudgets(connection)
        self.products: Products = SqlProducts(connection)
        self.orders: Orders = SqlOrders(connection)
        self.payment_events: PaymentEvents = SqlPaymentEvents(connection)
        self.once: OnceKeys = SqlOnceKeys(connection)
        self.audit: Audit = SqlAudit(connection)
        self.outbox: Outbox = SqlOutbox(connection)
        self.news: News = connection.news

    async def configuration(self, workspace_id: UUID) -> Configuration:
        """Return the configuration as this transaction sees it. NotFound if the workspace is gone."""
        return await snapshot.load(self.connection, self._cipher, workspace_id, self._hosted)


class SqlStorage:
    """The database. Foreign errors come out as AlreadyExists, Conflict or ServerUnavailable."""

    def __init__(
        self,
        engines: Engines,
        cipher: Cipher,
        clock: Clock,
        after_commit: AfterCommit,
        hosted: Mapping[str, HostedProvider] = MappingProxyType({}),
    ) -> None:
        self.engines = engines
        self._hosted = hosted
        self._cipher = cipher
        self._clock = clock
        self._after_commit = after_commit

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[SqlTransaction]:
        """Open a transaction that may write; leaving the block commits, an exception rolls back."""
        async with self.connect() as connection:
            yield SqlTransaction(connection, self._cipher, self._hosted)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[SqlTransaction]:
        """Open a transaction that sees one moment of the database and cannot write."""
        async with _translated(self.engines.reader.connect()) as raw:
            yield SqlTransaction(Connection(raw, self._clock), self._cipher, self._hosted)

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Connection]:
        """Open a transaction that may write, for statements of storage's own."""
        async with _translated(self.engines.writing()) as raw:
            connection = Connection(raw, self._clock)
            yield connection
        if connection.versions or connection.has_jobs or connection.news:
            self._after_commit(connection)

    async def read_hot(self, work: Callable[[SyncConnection], T]) -> T:
        """Run one reading statement of what every call needs."""
        with translated():
            return await self.engines.hot.read(work)

    async def write_hot(self, work: Callable[[SyncConnection], T]) -> T:
        """Run the statements of what every call needs, in one transaction."""
        with translated():
            return await self.engines.hot.write(work)

    def tell(self, change: Change) -> None:
        """Tell of a change that `write_hot` has brought."""
        self._after_commit(_Told((change,)))

    @asynccontextmanager
    async def single(self) -> AsyncIterator[Connection]:
        """Open a connection for one reading statement, which needs no transaction."""
        async with _translated(self.engines.single.connect()) as raw:
            yield Connection(raw, self._clock)


@asynccontextmanager
async def _translated(opening: AbstractAsyncContextManager[AsyncConnection]) -> AsyncIterator[AsyncConnection]:
    """Enter and leave with the database's errors turned into ours; the block's own stay as they are."""
    with translated():
        raw = await opening.__aenter__()
    try:
        yield raw
    except BaseException as error:
        with translated():
            await opening.__aexit__(type(error), error, error.__traceback__)
        raise
    with translated():
        await opening.__aexit__(None, None, None)

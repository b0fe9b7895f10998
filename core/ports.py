"""What core needs from outside: protocols that storage implements."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

from core.access import Role, Viewer
from core.changes import Change
from core.configuration import Configuration
from core.cooldown import Cooldown
from core.entities import (
    Account,
    ApiToken,
    AuditEntry,
    Budget,
    Ceiling,
    Credential,
    CredentialStatus,
    EntryKind,
    EventState,
    Invitation,
    Invocation,
    KeyRotation,
    Member,
    ModelRow,
    ModelSetting,
    Order,
    OrderStatus,
    PaymentEvent,
    Pool,
    Product,
    Quota,
    QuotaEntry,
    QuotaType,
    QuotaUnit,
    Refund,
    RefundState,
    Sealed,
    UsageBucket,
    UsageDimension,
    UsageInterval,
    Workspace,
    WorkspaceBudget,
)
from core.errors import ModelyardError, Problem
from core.jobs import Job
from core.ledger import Change as LedgerChange
from core.model_types import ModelKey, ModelType
from core.model_types.llm import CompletionFailed, CompletionFinished, ProviderType
from core.provider import Values
from core.strategies import Chances

T = TypeVar("T")


class Clock(Protocol):
    """Time, so that a test can move it."""

    def now(self) -> datetime:
        """Return the time of day in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRequest:
    """A part of a list ordered by id: `limit` rows after or before an id, newest first unless `oldest_first`.

    `backwards` takes the last ones of the range instead of the first ones.
    """

    limit: int
    after: UUID | None = None
    before: UUID | None = None
    backwards: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice(Generic[T]):
    """A part of a list in list order. `total` is None above 10,000."""

    items: Sequence[T]
    has_next: bool
    has_previous: bool
    total: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class InvocationQuery:
    """Which invocations are asked for; what is None does not restrict."""

    principal: UUID | None = None
    provider: str | None = None
    model_name: str | None = None
    type: ModelType | None = None
    provider_type: str | None = None
    status: tuple[str, ...] | None = None
    credential_id: UUID | None = None
    account_id: UUID | None = None
    token_id: UUID | None = None
    end_user: str | None = None
    tags: Mapping[str, str] | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageQuery:
    """Which usage is asked for: of ended calls admitted from `since` until before `until`, at most `limit` buckets.

    `tag` is the name of the tag that the dimension TAG is of. `calls` restricts as in a list of calls, but by no time.
    """

    since: datetime
    until: datetime
    interval: UsageInterval | None
    by: tuple[UsageDimension, ...]
    tag: str
    calls: InvocationQuery
    limit: int


class Identity(Protocol):
    """Who a secret stands for."""

    async def viewer(self, token_hash: bytes) -> Viewer | None:
        """Return the viewer of a SHA-256 of a secret, by one read; None when unknown, revoked or expired."""
        ...

    async def viewers(self, token_ids: Sequence[UUID]) -> Mapping[UUID, Viewer | None]:
        """Return the viewer that each of these tokens stands for now, None where it stands for none; one read."""
        ...


class Configurations(Protocol):
    """Snapshots of workspaces' configurations, kept in process memory and verified by version.

    They know no balances: as if nothing of a quota were used.
    """

    async def get(self, workspace_id: UUID, version: int | None = None) -> Configuration:
        """Return the snapshot, at least as new as `version`; None reads the version first. NotFound if it is gone."""
        ...


class Vault(Protocol):
    """Seals and opens credential values with the workspace's key."""

    async def seal(self, tx: "Transaction", workspace_id: UUID, credential_id: UUID, values: Values) -> Sealed:
        """Return the values sealed under the newest key of the workspace, bound to the credential."""
        ...

    def opened(self, credential: Credential) -> Values | None:
        """Return the values where they are at hand, None where `open` has to open them."""
        ...

    async def open(self, credential: Credential) -> Values:
        """Return the values in clear, secrets as Secret. CredentialUnreadable if they cannot be opened."""
        ...


class Accounts(Protocol):
    """People."""

    async def get_many(self, account_ids: Sequence[UUID]) -> Mapping[UUID, Account]: ...
    async def by_email(self, email: str) -> Account | None:
        """Return the account of an e-mail address, however it is capitalised."""
        ...

    async def insert(self, account: Account) -> None:
        """AlreadyExists if the e-mail is taken."""
        ...


class Workspaces(Protocol):
    """Tenants."""

    async def get_many(self, workspace_ids: Sequence[UUID]) -> Mapping[UUID, Workspace]: ...
    async def by_slug(self, slug: str) -> Workspace | None: ...
    async def page(self, page: PageRequest, *, among: Sequence[UUID] | None, search: str | None) -> Slice[Workspace]:
        """Return workspaces in order of id (oldest first); `among` None: all of the installation."""
        ...

    async def insert(self, workspace: Workspace) -> None:
        """Insert with its first data key. AlreadyExists if the slug is taken."""
        ...

    async def rename(self, workspace_id: UUID, name: str) -> None: ...
    async def delete(self, workspace_id: UUID) -> None:
        """Delete it with its data keys and everything that belongs to it; its audit entries stay, of no workspace."""
        ...

    async def touch(self, workspace_id: UUID) -> int:
        """Raise the configuration's version, publish it after commit, and return it.

        Serialises changes of one workspace. NotFound if it is gone.
        """
        ...


class Keys(Protocol):
    """The data keys of workspaces. A caller that changes them has touched the workspace in the same transaction."""

    async def rotations(self, workspace_ids: Sequence[UUID]) -> Mapping[UUID, KeyRotation]:
        """Return the newest rotation of each workspace that ever had one."""
        ...

    async def begin_rotation(self, workspace_id: UUID) -> None:
        """Add the next version of the workspace's key: from the commit on it seals what is written."""
        ...

    async def outdated(self, workspace_id: UUID, after: UUID | None, *, limit: int) -> Sequence[Credential]:
        """Return credentials sealed by an older version than the newest, in order of id, after one of them."""
        ...

    async def reseal(self, credential: Credential, sealed: Sealed) -> bool:
        """Replace the sealed values if the credential is still what it was; tell if so."""
        ...

    async def end_rotation(self, workspace_id: UUID) -> int:
        """Destroy the versions that no credential names, and mark the rotation finished; return how many they were."""
        ...


class Members(Protocol):
    """Memberships. Changes of a workspace's members need `workspaces.touch` in the same transaction."""

    async def insert(self, member: Member) -> None:
        """AlreadyExists if the account is a member already."""
        ...

    async def get_many(self, member_ids: Sequence[UUID]) -> Mapping[UUID, Member]: ...
    async def of_accounts(self, account_ids: Sequence[UUID]) -> Mapping[UUID, Sequence[Member]]:
        """Return the memberships of each account, oldest first."""
        ...

    async def find(self, workspace_id: UUID, account_id: UUID) -> Member | None:
        """Return the place of an account in a workspace."""
        ...

    async def set_role(self, member_id: UUID, role: Role) -> bool:
        """Change the role, unless that would leave the workspace without an OWNER; tell whether it was changed."""
        ...

    async def delete(self, member_id: UUID) -> bool:
        """Delete the membership, unless it is the last OWNER's; tell whether it was deleted."""
        ...

    async def page(self, workspace_id: UUID, page: PageRequest, *, role: str | None) -> Slice[Member]: ...


class Invitations(Protocol):
    """Invitations: one an e-mail address and workspace."""

    async def put(self, invitation: Invitation, secret_hash: bytes) -> None:
        """Insert with the SHA-256 of its secret; an older one of the same address ends with it."""
        ...

    async def accept(self, secret_hash: bytes, at: datetime) -> Invitation | None:
        """Use up an invitation that is neither used nor expired, and return it; None where there is none such."""
        ...

    async def by_hash(self, secret_hash: bytes) -> Invitation | None: ...
    async def get_many(self, invitation_ids: Sequence[UUID]) -> Mapping[UUID, Invitation]: ...
    async def page(self, workspace_id: UUID, page: PageRequest) -> Slice[Invitation]:
        """Return those of a workspace that are neither used nor over, newest first."""
        ...

    async def delete(self, invitation_id: UUID) -> bool:
        """Delete an invitation that is not used; tell whether it was."""
        ...


class Tokens(Protocol):
    """Bearer tokens."""

    async def insert(self, token: ApiToken, secret_hash: bytes) -> None: ...
    async def get(self, token_id: UUID) -> ApiToken | None: ...
    async def get_many(self, token_ids: Sequence[UUID]) -> Mapping[UUID, ApiToken]: ...
    async def revoke_of_member(self, workspace_id: UUID, account_id: UUID, at: datetime) -> None:
        """Revoke the tokens of a workspace that stand for an account."""
        ...

    async def locked(self, token_id: UUID) -> ApiToken | None:
        """Return a token that nobody else changes before the transaction ends."""
        ...

    async def update(self, token: ApiToken) -> None:
        """Write the name, the limits and the time of expiry."""
        ...

    async def revoke(self, token_id: UUID, at: datetime) -> bool:
        """Revoke once; a second time changes nothing. Tell whether it was this time."""
        ...

    async def page(
        self, page: PageRequest, *, workspace_id: UUID | None, account_id: UUID | None, include_revoked: bool
    ) -> Slice[ApiToken]:
        """Return the tokens of a workspace, or those that stand for an account, newest first."""
        ...


class Credentials(Protocol):
    """Sealed credentials. Each change needs `workspaces.touch` in the same transaction, but for `set_status`."""

    async def get(self, workspace_id: UUID, credential_id: UUID) -> Credential | None: ...
    async def insert(self, credential: Credential) -> None:
        """AlreadyExists if the name is taken within (workspace, provider, model, type)."""
        ...

    async def update(self, credential: Credential, *, version: int) -> bool:
        """Write name, values, status and version over a credential that still has this version; tell if so.

        AlreadyExists if the name is taken.
        """
        ...

    async def set_status(
        self,
        workspace_id: UUID,
        credential_id: UUID,
        *,
        version: int,
        status: CredentialStatus,
        problem: Problem | None,
        validated_at: datetime | None,
    ) -> bool:
        """Set the status if the credential still has this version, raising the configuration's version; tell if so."""
        ...

    async def last_used(self, workspace_ids: Sequence[UUID], credential_ids: Sequence[UUID]) -> Mapping[UUID, datetime]:
        """Return when each was last used; those that never were are left out."""
        ...

    async def delete(self, workspace_id: UUID, credential_id: UUID) -> bool:
        """Delete; where it was active, nothing is active afterwards. Tell whether it was there."""
        ...


class ProviderRows(Protocol):
    """What a workspace chose for a provider."""

    async def set_active(self, workspace_id: UUID, provider: str, credential_id: UUID | None) -> None: ...
    async def set_preferred(self, workspace_id: UUID, provider: str, preferred: ProviderType | None) -> None: ...
    async def set_refreshed(self, workspace_id: UUID, provider: str, at: datetime) -> None:
        """Store when the provider's own list of models was read."""
        ...


class Models(Protocol):
    """Custom and configured models of a workspace."""

    async def put(self, workspace_id: UUID, row: ModelRow) -> None:
        """Insert the row or replace all but its key of the one there."""
        ...

    async def delete(self, workspace_id: UUID, key: ModelKey) -> None:
        """Delete the row with its setting and its place as a default; its credentials stay."""
        ...

    async def put_setting(self, workspace_id: UUID, setting: ModelSetting) -> None: ...
    async def put_default(self, workspace_id: UUID, model_type: ModelType, key: ModelKey | None) -> None:
        """Set the default of the type; None clears it."""
        ...


class Pools(Protocol):
    """Pools of workspaces. Each change needs `workspaces.touch` in the same transaction."""

    async def put(self, workspace_id: UUID, pool: Pool) -> None:
        """Replace the pool and all its members; those whose id stays are the same ones."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A member of a pool with the credential that it stands for now; `number` is its place in the pool."""

    member_id: UUID
    credential_id: UUID
    number: int
    weight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A call that goes through a member of a pool. `is_local`: only this process knows of it.

    `is_trial`: the member's one call after a rest. `late_s`: when another member is to be asked too, None for never.
    `whole`: its first token comes with its last, so its time is kept apart.
    """

    workspace_id: UUID
    pool_id: UUID
    place: Place
    is_local: bool = False
    is_trial: bool = False
    late_s: float | None = None
    whole: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Picked:
    """Who was chosen; without a `lease` all rest, and `retry_after` seconds are to go, None till one is validated."""

    lease: Lease | None = None
    retry_after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberCounts:
    """The calls of a member: under way now, served and failed since it is there."""

    in_flight: int = 0
    served: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolNow:
    """How a pool stands: counts by the member's id, and rests and trials by the credential's."""

    counts: Mapping[UUID, MemberCounts]
    rests: Mapping[UUID, tuple[Cooldown, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A rest whose deadline has passed; one that `waits` for a validation has been undecided for too long."""

    workspace_id: UUID
    pool_id: UUID
    credential_id: UUID
    waits: bool = False


class PoolState(Protocol):
    """What all processes know of pools: whose turn it is, who rests, what is under way. Each step is atomic."""

    async def pick(
        self, workspace_id: UUID, pool: Pool, places: Sequence[Place], chances: Chances, *, whole: bool = False
    ) -> Picked:
        """Choose one that does not rest, and count a call that is under way."""
        ...

    async def spoke(self, lease: Lease, seconds: float) -> bool:
        """Take note that a member answered so soon: it is healthy. Tell whether it was not before."""
        ...

    async def failed(self, lease: Lease, error: ModelyardError) -> Cooldown | None:
        """Let the member rest as the failure demands; return the rest, None where it demands none."""
        ...

    async def done(self, lease: Lease, *, served: bool | None) -> None:
        """Take note that a call is no longer under way; `served` None counts it as neither served nor failed."""
        ...

    async def now(self, workspace_id: UUID, pools: Sequence[Pool]) -> Mapping[UUID, PoolNow]:
        """Return how each pool stands, by its id."""
        ...

    async def end_rests(self, workspace_id: UUID, pool_id: UUID, credential_id: UUID) -> bool:
        """Put a credential on trial: for all models, and for that of a pool. Tell whether it rested."""
        ...

    async def validated(self, workspace_id: UUID, credential_id: UUID, *, is_new: bool) -> bool:
        """Put a credential on trial that was found valid, if it waits for that or has new values; tell whether so."""
        ...

    async def due(self) -> Sequence[Due]:
        """Return, once, every rest whose deadline has passed, or that waits for a validation for long."""
        ...

    async def wait_on(self, due: Due) -> None:
        """Let a rest be due again that still waits for a validation, after as long a time."""
        ...


class RateOf(StrEnum):
    """Whose calls are counted."""

    TOKEN = "TOKEN"
    WORKSPACE = "WORKSPACE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How many calls there may be in any minute, and how many tokens they may use; None: as many as they like."""

    of: RateOf
    id: UUID
    requests: int | None
    tokens: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A call that was counted at a moment, with so many tokens. `is_local`: only this process knows of it."""

    rates: tuple[Rate, ...]
    at: float
    tokens: int
    is_local: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Limited:
    """Which rate has no room for a call, of `requests` or tokens, and in how many seconds it has."""

    rate: Rate
    requests: bool
    retry_after: float


class Rates(Protocol):
    """Calls and tokens of the last minute, by all processes. Each step is atomic over all the rates of a call."""

    async def take(self, rates: Sequence[Rate], tokens: int) -> Taken | Limited:
        """Count a call that will use about so many tokens, where each rate has room for it, else nowhere.

        One that foresees more tokens than a rate allows has room when nothing else was used in the last minute.
        """
        ...

    async def correct(self, taken: Taken, tokens: int) -> None:
        """Count a call with the tokens that it has used in the end."""
        ...

    async def give_back(self, taken: Taken) -> None:
        """Count a call no more: it was not made."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What an entry of the ledger says besides its amounts: who, for which order, and why."""

    account_id: UUID | None = None
    order_id: UUID | None = None
    text: str | None = None


class Quotas(Protocol):
    """Balances of hosted use. What changes which there are needs `workspaces.touch` in the same transaction."""

    async def insert(self, quota: Quota, kind: EntryKind, note: Note) -> bool:
        """Insert with the entry of its limit, unless one that is live has its place; tell whether it was inserted."""
        ...

    async def change(
        self, quota_id: UUID, change: LedgerChange, note: Note, *, ended_too: bool = False
    ) -> Quota | None:
        """Change the limit, or what is used, by an entry; None where there is no such live quota, or none at all."""
        ...

    async def archive(self, quota_id: UUID, at: datetime) -> bool:
        """End a quota; tell whether it was live."""
        ...

    async def locked(self, quota_id: UUID) -> Quota | None:
        """Return a quota that nobody else changes before the transaction ends."""
        ...

    async def get_many(self, quota_ids: Sequence[UUID]) -> Mapping[UUID, Quota]: ...
    async def of_workspace(self, workspace_id: UUID, *, include_archived: bool = False) -> Sequence[Quota]:
        """Return the quotas of a workspace with their balances as they are now, oldest first."""
        ...

    async def workspaces_without(self, provider: str, quota_type: QuotaType, *, limit: int) -> Sequence[UUID]:
        """Return workspaces that never had a quota of this provider and type."""
        ...

    async def entries(self, workspace_id: UUID, quota_id: UUID, page: PageRequest) -> Slice[QuotaEntry]:
        """Return the changes of a quota, newest first."""
        ...

    async def entries_of(self, invocation_ids: Sequence[UUID]) -> Mapping[UUID, Sequence[QuotaEntry]]:
        """Return the changes that each of these calls has made, oldest first."""
        ...

    async def entries_by_id(self, entry_ids: Sequence[UUID]) -> Mapping[UUID, QuotaEntry]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeated:
    """What a key stands for already: the hash of the input it came with, and what that made."""

    input_hash: bytes
    result_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class OnceKey:
    """What makes a repeat of an operation one: its place, and the hash of its input. `result_id` is what it makes."""

    workspace_id: UUID
    principal: UUID
    operation: str
    key: str
    input_hash: bytes
    result_id: UUID


class Budgets(Protocol):
    """Ceilings on what tokens may cost."""

    async def of_tokens(self, token_ids: Sequence[UUID]) -> Mapping[UUID, Budget]:
        """Return the budgets of those tokens that have one, with what is spent and held now."""
        ...

    async def put(self, token_id: UUID, ceiling: Ceiling | None) -> None:
        """Give a token a budget, or none; another limit keeps what is spent, another currency or period begins anew.

        The caller has locked the token.
        """
        ...


class OnceKeys(Protocol):
    """The keys by which operations are done once, remembered for 24 hours."""

    async def find(self, workspace_id: UUID, principal: UUID, operation: str, key: str) -> Repeated | None:
        """Return what a key stands for already."""
        ...

    async def claim(self, key: OnceKey) -> Repeated | None:
        """Write the key with the transaction; return what it stands for already if it does, and write nothing then."""
        ...

    async def forget(self, result_id: UUID) -> None:
        """Forget the key of what was not made after all."""
        ...


class Invocations(Protocol):
    """Records of calls, for reading."""

    async def get_many(self, workspace_ids: Sequence[UUID], ids: Sequence[UUID]) -> Mapping[UUID, Invocation]: ...
    async def page(self, workspace_id: UUID, page: PageRequest, query: InvocationQuery) -> Slice[Invocation]:
        """Return invocations, newest first."""
        ...


class UsageSums(Protocol):
    """What calls used, added up."""

    async def buckets(self, workspace_id: UUID, query: UsageQuery) -> Sequence[UsageBucket]:
        """Return the buckets that hold a call, by time, then by key."""
        ...


class Products(Protocol):
    """What the operator sells, and sold."""

    async def all(self) -> Sequence[Product]:
        """Return every product that ever was, oldest first."""
        ...

    async def get_many(self, product_ids: Sequence[UUID]) -> Mapping[UUID, Product]: ...
    async def keep(self, product: Product) -> None:
        """Insert it, or change the one of its key; that keeps its id."""
        ...

    async def withdraw(self, product_id: UUID) -> None:
        """List and sell it no more."""
        ...


class Orders(Protocol):
    """Purchases of quota, and the refunds that were asked for."""

    async def insert(self, order: Order) -> None: ...
    async def get_many(self, order_ids: Sequence[UUID]) -> Mapping[UUID, Order]: ...
    async def locked(self, order_id: UUID) -> Order | None:
        """Return an order that nobody else changes before the transaction ends."""
        ...

    async def find(
        self, gateway: str, *, payment_id: str | None = None, transaction_id: str | None = None
    ) -> Order | None:
        """Return the order that a gateway knows by its id of the payment, else of the transaction."""
        ...

    async def page(
        self, workspace_id: UUID, page: PageRequest, *, provider: str | None, statuses: Sequence[OrderStatus] | None
    ) -> Slice[Order]:
        """Return the orders of a workspace, newest first."""
        ...

    async def move(self, before: Order, after: Order) -> bool:
        """Write what has become of an order, unless it is no longer as it was before; tell whether it was written.

        AlreadyExists if another order of the gateway has its transaction.
        """
        ...

    async def set_checkout(self, order_id: UUID, payment_id: str, url: str | None) -> bool:
        """Write where an order is paid, unless that is known, or it waits no more; tell whether it was written."""
        ...

    async def set_problem(self, order_id: UUID, problem: str) -> None: ...
    async def expired(self, *, limit: int) -> Sequence[Order]:
        """Return orders that wait for payment and may not any more."""
        ...

    async def without_checkout(self, before: datetime, gateways: Sequence[str], *, limit: int) -> Sequence[Order]:
        """Return orders of these gateways that wait since a time, and nobody knows where they are paid."""
        ...

    async def insert_refund(self, refund: Refund) -> None: ...
    async def refund(self, refund_id: UUID) -> Refund | None: ...
    async def requested(self, order_id: UUID) -> int:
        """Return how much is asked back for an order and neither done nor refused."""
        ...

    async def end_refund(self, refund_id: UUID, state: RefundState, problem: str | None = None) -> bool:
        """End a refund that is under way; tell whether it was."""
        ...

    async def unfinished_refunds(self, before: datetime, *, limit: int) -> Sequence[Refund]:
        """Return refunds that are under way since a time."""
        ...


class PaymentEvents(Protocol):
    """What gateways have told, each event once."""

    async def insert(self, event: PaymentEvent) -> bool:
        """Insert unless the gateway has told of it before; tell whether it was inserted."""
        ...

    async def get(self, event_id: UUID) -> PaymentEvent | None: ...
    async def end(self, event_id: UUID, state: EventState, note: str | None) -> bool:
        """Say what became of an event that is still to be applied; tell whether it was."""
        ...

    async def waiting(self, gateway: str, order: Order) -> Sequence[UUID]:
        """Return the events of an order that wait for another."""
        ...

    async def unfinished(self, since: datetime, before: datetime, *, limit: int) -> Sequence[UUID]:
        """Return the events still to be applied that were told since a time and last tried before another."""
        ...


class Audit(Protocol):
    """The log of changes."""

    async def add(
        self,
        *,
        workspace_id: UUID | None,
        viewer: Viewer,
        action: str,
        subject: str | None,
        summary: str,
        changes: Mapping[str, Any] | None = None,
    ) -> None:
        """Record who changed what; `changes` holds no secret."""
        ...

    async def get_many(self, entry_ids: Sequence[UUID]) -> Mapping[UUID, AuditEntry]: ...
    async def page(
        self, workspace_id: UUID, page: PageRequest, *, action: str | None, subject: str | None
    ) -> Slice[AuditEntry]:
        """Return the entries of a workspace, newest first."""
        ...


class Outbox(Protocol):
    """Jobs that follow a commit."""

    async def add(self, job: Job) -> None:
        """Write the job with the transaction; it is relayed to the queue after the commit, at least once."""
        ...


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """What a call wants to hold of a quota: all of `wanted`, or what there is from `minimum` on.

    `input_tokens` is what its input counts for if its process dies.
    """

    quota_id: UUID
    minimum: int
    wanted: int
    input_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Spend:
    """What a call wants to hold of a budget, in attos: all of `wanted`, or what there is from `minimum` on.

    `by_setting` is the workspace's budget that is meant, opened by whoever comes first; None: a token's.
    """

    budget_id: UUID
    minimum: int
    wanted: int
    input_tokens: int
    by_setting: WorkspaceBudget | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """What a call holds of a quota, or (`unit` None) in attos of a budget.

    `left` is what more there was when it was taken, None: without end.
    """

    id: UUID
    balance_id: UUID
    unit: QuotaUnit | None
    amount: int
    left: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Holds:
    """All that a call holds: of one quota, if any, and of each of its budgets."""

    quota: Hold | None = None
    budgets: tuple[Hold, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """How a call has ended and what its holds have used: see `InvocationLog.settle`.

    `was_refused`: its caller was told that it was not begun, and it may all the same have been written down.
    """

    invocation: Invocation
    charges: Mapping[UUID, int] | None
    spent: Mapping[UUID, int] | None
    was_refused: bool = False


class Unsettled(Protocol):
    """Settlements that wait to be booked, kept outside the process. ServerUnavailable while Redis is away."""

    async def put(self, settlement: Settlement) -> None:
        """Keep a settlement until a worker has booked it."""
        ...


class InvocationLog(Protocol):
    """Writes records of calls and books what they use, in groups where many come at once; returns when committed."""

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
            OutcomeUnknown: the database went away meanwhile.
        """
        ...

    async def hold(self, invocation: Invocation, wants: Sequence[Want] = (), spends: Sequence[Spend] = ()) -> Holds:
        """Let a running invocation hold what its model, another one by now, asks: all or nothing.

        Of a budget that it holds of already it is the difference. What it held of a quota is freed, whatever comes of
        it: the attempt that it was for has failed.

        Raises:
            QuotaExceeded: no quota has enough left, or the invocation has ended.
            BudgetExceeded: one of the budgets has not.
        """
        ...

    async def grow(self, hold: Hold, invocation_id: UUID, wanted: int) -> int | None:
        """Hold up to `wanted` more; return how much more it is now, 0 where nothing is left.

        None where the hold has ended: the sweep has taken this process for dead.
        """
        ...

    async def settle(
        self,
        invocation: Invocation,
        charges: Mapping[UUID, int] | None = None,
        spent: Mapping[UUID, int] | None = None,
    ) -> bool:
        """Write the end of an invocation if it is still running, with its attempts; tell whether it was.

        `charges` and `spent` are what its holds of quotas and of budgets used, by their ids: it is booked with the end,
        once, and the rest is freed. None where it has no such holds. What the sweep has booked for it meanwhile is
        corrected.
        """
        ...

    async def note_output(self, produced: Mapping[UUID, int]) -> None:
        """Note how many tokens running calls have produced, for whoever settles them if this process dies.

        Raises:
            ServerUnavailable: the database is away.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LogHead:
    """Whose events a log holds; `owner` is the process that runs the completion."""

    invocation_id: UUID
    workspace_id: UUID
    principal: UUID
    token_id: UUID
    owner: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class LogWrite:
    """Lines of a journal, `first` being the number of the first of `count`, and the end if it comes with them."""

    head: LogHead
    first: int
    lines: bytes
    count: int
    end: CompletionFinished | CompletionFailed | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogState:
    """What a log holds after a write: the events before its end, and whether that is there.

    `is_taken`: another process has ended it, and takes nothing more from this one.
    """

    count: int
    ended: bool
    is_taken: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """A part of a log, `first` being the number of its first event; `end` without what the model wrote."""

    first: int
    lines: bytes
    count: int
    end: CompletionFinished | CompletionFailed | None
    is_taken: bool

    def lines_from(self, number: int) -> bytes:
        """Return its lines without those of events below that number, which an entry before may hold already."""
        known = max(number - self.first, 0)
        parts = self.lines.split(b"\n", known)
        return parts[known] if known < len(parts) else b""


class Takeover(StrEnum):
    """What came of ending the completion of a process that seems dead."""

    TAKEN = "TAKEN"
    ENDED = "ENDED"
    ALIVE = "ALIVE"
    LOST = "LOST"


class EventLog(Protocol):
    """The events of completions, kept for all processes until 10 minutes after the end.

    All of it raises ServerUnavailable while Redis is away.
    """

    async def append(self, writes: Sequence[LogWrite]) -> Sequence[LogState]:
        """Write each if it follows what is there and nothing has ended it, all in one round trip.

        What was written before is not written twice. A state with another count than the write asks for says from where
        to write again.
        """
        ...

    async def head(self, invocation_id: UUID) -> LogHead | None:
        """Return whose log it is; None where there is none any more, or not yet."""
        ...

    async def read(self, counts: Mapping[UUID, int], wait_s: float) -> Mapping[UUID, Sequence[LogEntry]]:
        """Return what each log holds beyond that many events, waiting a while where that is nothing.

        The first entry may begin before, the last one may not be the last that there is.
        """
        ...

    async def take_over(self, head: LogHead, end: CompletionFailed) -> Takeover:
        """End a completion if nobody has, unless its owner lives; the owner writes nothing afterwards."""
        ...

    async def renew(self, process_id: UUID) -> str:
        """Say that a process lives, for a few seconds; return what names this run of the server."""
        ...

    async def leave(self, process_id: UUID) -> None:
        """Say that a process has ended."""
        ...

    async def alive(self, process_ids: Sequence[UUID]) -> frozenset[UUID]:
        """Return those that have said so lately."""
        ...


class ResultStore(Protocol):
    """Results of calls, kept for all processes for 10 minutes. ServerUnavailable while Redis is away."""

    async def put(self, invocation_id: UUID, result: bytes) -> None: ...
    async def get(self, invocation_id: UUID) -> bytes | None: ...


class Changes(Protocol):
    """News between processes: small messages by publish and subscribe, lost when nobody listens."""

    async def publish(self, channel: str, message: bytes) -> None: ...
    def listen(self, channel: str, *, complete: bool = False) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Iterate messages from the moment the block is entered. ServerUnavailable when that cannot begin.

        After a lost connection it goes on, without what was published meanwhile; with `complete` it ends instead with
        ServerUnavailable as soon as anything may have been missed.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentHealth:
    """Whether a part of the installation answers, and how fast, in seconds."""

    ok: bool
    engine: str
    latency: float | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerHealth:
    """One worker as it last reported itself."""

    name: str
    last_seen_at: datetime
    queued: int
    ongoing: int
    complete: int
    failed: int
    retried: int


class Health(Protocol):
    """The state of the installation's parts."""

    async def database(self) -> ComponentHealth: ...
    async def redis(self) -> ComponentHealth: ...
    async def workers(self) -> Sequence[WorkerHealth]: ...

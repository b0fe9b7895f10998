"""The nouns that are remembered, as frozen values: one class a noun, no behaviour beyond reading itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from core.access import Role
from core.errors import Problem
from core.model_types import ModelKey, ModelType, Usage
from core.model_types.llm import Attempt, Cost, ProviderType
from core.provider import Pricing, RemoteModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A person."""

    id: UUID
    name: str
    email: str
    is_operator: bool
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """A tenant. `config_version` grows with every change that can influence a call."""

    id: UUID
    name: str
    slug: str
    key_version: int
    config_version: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRotation:
    """A change of a workspace's data key. `resealed` of `total` credentials are sealed by the new version.

    `finished_at` None: it is under way. Finished with fewer than `total`: the others cannot be opened.
    """

    workspace_id: UUID
    from_version: int
    to_version: int
    resealed: int
    total: int
    started_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """An account's place in a workspace."""

    id: UUID
    workspace_id: UUID
    account_id: UUID
    role: Role
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """A place in a workspace that waits for a person. `invited_by` None: the service token `token_id` invited them."""

    id: UUID
    workspace_id: UUID
    email: str
    name: str | None
    role: Role
    invited_by: UUID | None
    token_id: UUID
    expires_at: datetime
    accepted_at: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiToken:
    """A bearer token without its secret: personal (no workspace), of an account in a workspace, or a service token."""

    id: UUID
    name: str
    prefix: str
    role: Role
    workspace_id: UUID | None
    account_id: UUID | None
    allowed_models: tuple[ModelKey, ...] | None
    credential_ids: tuple[UUID, ...] | None
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None
    created_at: datetime
    created_by: UUID | None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """A change: who made it and with which token, what it was, and the values before and after, without secrets.

    `subject` is what was changed, as its type and key; `workspace_id` None: of no workspace, or of one that is gone.
    """

    id: UUID
    workspace_id: UUID | None
    at: datetime
    account_id: UUID | None
    token_id: UUID
    action: str
    subject: str | None
    summary: str
    changes: Mapping[str, Any] | None


class CredentialStatus(StrEnum):
    """What is known of whether a credential works."""

    UNVERIFIED = "UNVERIFIED"
    VALIDATING = "VALIDATING"
    VALID = "VALID"
    INVALID = "INVALID"
    UNREADABLE = "UNREADABLE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """Ciphertext, and the version of the workspace key that seals it."""

    key_version: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """Sealed values of a provider's form. `model` None: it serves all predefined and remote models.

    `version` counts people's changes. `form_values` are the public values of a model-level one, which describe a custom
    model as it is behind this credential; None: they were not written down, so that it is as the model is described.
    """

    id: UUID
    workspace_id: UUID
    provider: str
    model: ModelKey | None
    name: str
    status: CredentialStatus
    problem: Problem | None
    sealed: Sealed
    version: int
    validated_at: datetime | None
    last_used_at: datetime | None
    created_at: datetime
    updated_at: datetime
    form_values: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderRow:
    """What a workspace chose for a provider."""

    name: str
    preferred_type: ProviderType | None = None
    active_credential_id: UUID | None = None
    models_refreshed_at: datetime | None = None


class ModelSource(StrEnum):
    """Where a model comes from."""

    PREDEFINED = "PREDEFINED"
    CUSTOM = "CUSTOM"
    REMOTE = "REMOTE"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """What a workspace keeps of a model: a custom or remote one, or a predefined one with model-level credentials.

    `form_values` are the public values of the credential that describes a custom model (context size, features);
    `remote` is what the provider's list says of a remote one.
    """

    key: ModelKey
    source: ModelSource
    label: str | None
    active_credential_id: UUID | None
    form_values: Mapping[str, str] = field(default_factory=dict)
    remote: RemoteModel | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSetting:
    """A workspace's switch and price for a model."""

    key: ModelKey
    enabled: bool = True
    pricing: Pricing | None = None


class PoolStrategy(StrEnum):
    """How a pool spreads calls."""

    ROUND_ROBIN = "ROUND_ROBIN"
    WEIGHTED = "WEIGHTED"
    LEAST_BUSY = "LEAST_BUSY"
    LOWEST_LATENCY = "LOWEST_LATENCY"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolMember:
    """One place in a pool. `credential_id` None: the Default Config, whatever is active now."""

    id: UUID
    credential_id: UUID | None
    name: str
    enabled: bool = True
    weight: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The members among which one model's CUSTOM calls are spread."""

    id: UUID
    key: ModelKey
    enabled: bool
    strategy: PoolStrategy
    members: tuple[PoolMember, ...]
    version: int = 1
    hedge_percentile: int | None = None

    def without(self, credential_id: UUID) -> "Pool":
        """Return the next version of it, in which a credential is no member."""
        members = tuple(member for member in self.members if member.credential_id != credential_id)
        return replace(self, members=members, version=self.version + 1)


class QuotaType(StrEnum):
    """Where hosted use comes from, in the order in which it is spent."""

    PAID = "PAID"
    FREE = "FREE"
    TRIAL = "TRIAL"


class QuotaUnit(StrEnum):
    """What a quota counts."""

    TOKENS = "TOKENS"
    CREDITS = "CREDITS"
    TIMES = "TIMES"


class BudgetPeriod(StrEnum):
    """How often what was used is forgotten, in UTC. TOTAL: never."""

    DAY = "DAY"
    WEEK = "WEEK"
    MONTH = "MONTH"
    TOTAL = "TOTAL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """The most that may be spent, in major units of a currency, each time that a period begins."""

    limit: Decimal
    currency: str
    period: BudgetPeriod


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A ceiling with what was spent of it in the period that began at `began`, and what calls under way hold."""

    id: UUID
    ceiling: Ceiling
    spent: Decimal
    reserved: Decimal
    began: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceBudget:
    """A budget that a setting gives a workspace; `id` is the same for whoever comes first."""

    id: UUID
    workspace_id: UUID
    ceiling: Ceiling


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """A balance of hosted use. `provider` None: shared; `limit` None: unlimited; `restricted_to` None: every model.

    `used` and `reserved` are of the period that began at `period`; it has one where it `resets_every` so often.
    """

    id: UUID
    provider: str | None
    type: QuotaType
    unit: QuotaUnit
    limit: int | None
    used: int
    reserved: int
    restricted_to: frozenset[ModelKey] | None = None
    resets_every: BudgetPeriod | None = None
    period: datetime | None = None
    workspace_id: UUID | None = None
    archived_at: datetime | None = None
    created_at: datetime | None = None

    @property
    def is_valid(self) -> bool:
        """Tell whether anything is left."""
        return self.limit is None or self.used + self.reserved < self.limit

    def allows(self, key: ModelKey) -> bool:
        """Tell whether the quota may be spent on this model."""
        return self.restricted_to is None or key in self.restricted_to


class EntryKind(StrEnum):
    """Why a balance has changed."""

    GRANT = "GRANT"
    RESERVE = "RESERVE"
    SETTLE = "SETTLE"
    LATE_SETTLE = "LATE_SETTLE"
    RELEASE = "RELEASE"
    EXPIRE = "EXPIRE"
    PURCHASE = "PURCHASE"
    REFUND = "REFUND"
    ADJUST = "ADJUST"
    RESET = "RESET"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaEntry:
    """One change of a balance, never changed itself: limit, used and reserved are the sums of their changes."""

    id: UUID
    quota_id: UUID
    workspace_id: UUID
    at: datetime
    kind: EntryKind
    limit_change: int
    used_change: int
    reserved_change: int
    remaining: int | None
    invocation_id: UUID | None
    order_id: UUID | None
    account_id: UUID | None
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """What the operator sells: an amount of quota for a price in minor units. `provider` None: for every hosted one.

    `key` is its name in the operator's file. `listed`: it stands there; `available`: it may be ordered as well.
    """

    id: UUID
    key: str
    provider: str | None
    name: str
    description: str
    quota_amount: int
    unit: QuotaUnit
    price: int
    currency: str
    listed: bool = True
    available: bool = True


class OrderStatus(StrEnum):
    """How far an order is."""

    WAIT_PAY = "WAIT_PAY"
    PAID = "PAID"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    PARTIALLY_REFUNDED = "PARTIALLY_REFUNDED"
    REFUNDED = "REFUNDED"
    DISPUTED = "DISPUTED"


class Dispute(StrEnum):
    """How a dispute about a payment stands."""

    OPEN = "OPEN"
    WON = "WON"
    LOST = "LOST"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A purchase of quota. Amounts of money are in minor units of the currency.

    What it is of is kept as it was when it was ordered: `quota_amount` is that of the whole order. `refunded` went back
    by refunds, `lost` by a lost dispute. `quota_id` is what the purchase was added to. `problem` says what went wrong.
    """

    id: UUID
    workspace_id: UUID
    account_id: UUID | None
    product_id: UUID
    provider: str | None
    unit: QuotaUnit
    quota_amount: int
    quantity: int
    currency: str
    total_amount: int
    gateway: str
    created_at: datetime
    expires_at: datetime
    status: OrderStatus = OrderStatus.WAIT_PAY
    refunded: int = 0
    lost: int = 0
    dispute: Dispute | None = None
    quota_id: UUID | None = None
    payment_id: str | None = None
    transaction_id: str | None = None
    checkout_url: str | None = None
    problem: str | None = None
    paid_at: datetime | None = None
    failed_at: datetime | None = None
    refunded_at: datetime | None = None
    cancelled_at: datetime | None = None


class RefundState(StrEnum):
    """How far a refund is. FAILED: it was never made. RETURNED: it was made, and its money came back later."""

    REQUESTED = "REQUESTED"
    DONE = "DONE"
    FAILED = "FAILED"
    RETURNED = "RETURNED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """A refund that somebody asked for, here or of the gateway. `problem` says why it was refused, or came back."""

    id: UUID
    order_id: UUID
    amount: int
    reason: str | None
    account_id: UUID | None
    state: RefundState = RefundState.REQUESTED
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refunds:
    """What the refunds of an order that are known one by one come to: all that were made, and those that came back."""

    made: int = 0
    returned: int = 0


class PaymentKind(StrEnum):
    """What a gateway tells of a payment. REFUNDED tells of all refunds together, the two after it of one."""

    PAID = "PAID"
    FAILED = "FAILED"
    EXPIRED = "EXPIRED"
    REFUNDED = "REFUNDED"
    REFUND_MADE = "REFUND_MADE"
    REFUND_FAILED = "REFUND_FAILED"
    DISPUTED = "DISPUTED"
    DISPUTE_WON = "DISPUTE_WON"
    DISPUTE_LOST = "DISPUTE_LOST"


class EventState(StrEnum):
    """What became of a gateway's event. WAITING: it comes before what it follows, and is tried again."""

    RECEIVED = "RECEIVED"
    WAITING = "WAITING"
    APPLIED = "APPLIED"
    IGNORED = "IGNORED"
    REFUSED = "REFUSED"


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentEvent:
    """What a gateway has told, once its signature is checked. `event_id` is the gateway's, unique there.

    `amount` is what was paid, of REFUNDED all that was refunded so far, of a dispute what is disputed. The order is
    named by `order_id`, by the gateway's `payment_id`, or by its `transaction_id`; a single refund by `refund_id`.
    `note` says what became of it.
    """

    id: UUID
    gateway: str
    event_id: str
    kind: PaymentKind
    order_id: UUID | None
    payment_id: str | None
    transaction_id: str | None
    amount: int
    currency: str
    refund_id: UUID | None = None
    state: EventState = EventState.RECEIVED
    note: str | None = None


class InvocationStatus(StrEnum):
    """How far an invocation is."""

    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """One admitted call: who, what, and how it ended. `owner` is the process that runs it; times in seconds."""

    id: UUID
    workspace_id: UUID
    model: ModelKey
    provider_type: ProviderType
    credential_id: UUID | None
    credential_name: str | None
    token_id: UUID
    account_id: UUID | None
    owner: UUID
    started_at: datetime
    status: InvocationStatus = InvocationStatus.RUNNING
    pricing: Pricing | None = None
    end_user: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    usage: Usage | None = None
    cost: Cost | None = None
    attempts: tuple[Attempt, ...] = ()
    error: Problem | None = None
    ended_at: datetime | None = None
    time_to_first_token: float | None = None

    @property
    def principal(self) -> UUID:
        """Return to whom it belongs: the account, else the service token."""
        return self.account_id or self.token_id


class UsageInterval(StrEnum):
    """How long the parts are into which usage is cut, in UTC."""

    HOUR = "HOUR"
    DAY = "DAY"
    MONTH = "MONTH"


class UsageDimension(StrEnum):
    """What usage is told apart by."""

    PROVIDER = "PROVIDER"
    MODEL = "MODEL"
    TYPE = "TYPE"
    PROVIDER_TYPE = "PROVIDER_TYPE"
    CREDENTIAL = "CREDENTIAL"
    ACCOUNT = "ACCOUNT"
    TOKEN = "TOKEN"
    END_USER = "END_USER"
    STATUS = "STATUS"
    TAG = "TAG"


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageKey:
    """What the calls of a bucket have in common; None for what was not asked for, and for calls without it."""

    provider: str | None = None
    model_name: str | None = None
    type: ModelType | None = None
    provider_type: ProviderType | None = None
    credential_id: UUID | None = None
    credential_name: str | None = None
    account_id: UUID | None = None
    token_id: UUID | None = None
    end_user: str | None = None
    status: InvocationStatus | None = None
    tag_value: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageBucket:
    """What ended calls admitted from `since` until before `until` used together.

    `costs` has one amount a currency; a call whose price is unknown adds to none. `usage.estimated`: some of it is.
    """

    since: datetime
    until: datetime
    key: UsageKey
    calls: int
    failures: int
    usage: Usage
    costs: tuple[Cost, ...]

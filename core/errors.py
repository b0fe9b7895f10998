"""Every failure that Modelyard knows by name, each class carrying its policy.

ModelyardError
├── Unauthenticated · Forbidden · NotFound · AlreadyExists · Conflict · InvalidInput
│   └── (Conflict) AlreadyAdmitted
├── CredentialInvalid · CredentialMissing · CredentialRemoved · CredentialUnreadable
├── ModelNotFound · ModelDisabled · ModelNotPermitted · ModelTypeMismatch · CapabilityUnsupported
├── PoolExhausted · QuotaExceeded · BudgetExceeded · RateLimited
├── ContextLengthExceeded · ContentFiltered
├── UpstreamError
│   ├── UpstreamAuthentication · UpstreamPermission · UpstreamQuotaExhausted · UpstreamModelNotFound
│   ├── UpstreamRateLimited · UpstreamOverloaded
│   └── UpstreamBadRequest · UpstreamUnavailable · UpstreamTimeout · UpstreamProtocol
├── PaymentFailed · Cancelled · ServerUnavailable
│   └── (ServerUnavailable) OutcomeUnknown
└── Internal
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar
from uuid import UUID


class ErrorCode(StrEnum):
    """The closed list of codes that a client meets."""

    UNAUTHENTICATED = "UNAUTHENTICATED"
    FORBIDDEN = "FORBIDDEN"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    CONFLICT = "CONFLICT"
    INVALID_INPUT = "INVALID_INPUT"
    CREDENTIAL_INVALID = "CREDENTIAL_INVALID"
    CREDENTIAL_MISSING = "CREDENTIAL_MISSING"
    CREDENTIAL_REMOVED = "CREDENTIAL_REMOVED"
    CREDENTIAL_UNREADABLE = "CREDENTIAL_UNREADABLE"
    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    MODEL_DISABLED = "MODEL_DISABLED"
    MODEL_NOT_PERMITTED = "MODEL_NOT_PERMITTED"
    MODEL_TYPE_MISMATCH = "MODEL_TYPE_MISMATCH"
    CAPABILITY_UNSUPPORTED = "CAPABILITY_UNSUPPORTED"
    POOL_EXHAUSTED = "POOL_EXHAUSTED"
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED"
    BUDGET_EXCEEDED = "BUDGET_EXCEEDED"
    RATE_LIMITED = "RATE_LIMITED"
    CONTEXT_LENGTH_EXCEEDED = "CONTEXT_LENGTH_EXCEEDED"
    CONTENT_FILTERED = "CONTENT_FILTERED"
    UPSTREAM_AUTHENTICATION = "UPSTREAM_AUTHENTICATION"
    UPSTREAM_PERMISSION = "UPSTREAM_PERMISSION"
    UPSTREAM_QUOTA_EXHAUSTED = "UPSTREAM_QUOTA_EXHAUSTED"
    UPSTREAM_MODEL_NOT_FOUND = "UPSTREAM_MODEL_NOT_FOUND"
    UPSTREAM_RATE_LIMITED = "UPSTREAM_RATE_LIMITED"
    UPSTREAM_OVERLOADED = "UPSTREAM_OVERLOADED"
    UPSTREAM_BAD_REQUEST = "UPSTREAM_BAD_REQUEST"
    UPSTREAM_UNAVAILABLE = "UPSTREAM_UNAVAILABLE"
    UPSTREAM_TIMEOUT = "UPSTREAM_TIMEOUT"
    UPSTREAM_PROTOCOL = "UPSTREAM_PROTOCOL"
    PAYMENT_FAILED = "PAYMENT_FAILED"
    CANCELLED = "CANCELLED"
    SERVER_UNAVAILABLE = "SERVER_UNAVAILABLE"
    INTERNAL = "INTERNAL"


class Scope(StrEnum):
    """What a rest covers."""

    CREDENTIAL = "CREDENTIAL"
    CREDENTIAL_AND_MODEL = "CREDENTIAL_AND_MODEL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """How long a pool member is left alone after a failure.

    `seconds` doubles with each further failure up to `ceiling`; None waits for a validation.
    `honours_retry_after` lets the provider's own wish replace `seconds`.
    """

    scope: Scope
    seconds: float | None
    ceiling: float | None = None
    honours_retry_after: bool = False


class ModelyardError(Exception):
    """A failure that a caller can name. `message` says what is wrong and what mends it, never a secret."""

    code: ClassVar[ErrorCode] = ErrorCode.INTERNAL
    retryable: ClassVar[bool] = False
    rests: ClassVar[Rest | None] = None
    is_of_model: ClassVar[bool] = False
    """Whether another model, or another credential, may serve the call all the same, and nobody has to rest for it."""

    def __init__(
        self,
        message: str,
        *,
        path: tuple[str, ...] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.retry_after = retry_after


class Unauthenticated(ModelyardError):
    """No token, or one that is unknown, revoked or expired."""

    code = ErrorCode.UNAUTHENTICATED


class Forbidden(ModelyardError):
    """The viewer's role does not allow it."""

    code = ErrorCode.FORBIDDEN


class NotFound(ModelyardError):
    """Unknown, or of another workspace: the two are not told apart."""

    code = ErrorCode.NOT_FOUND


class AlreadyExists(ModelyardError):
    """A unique name is taken."""

    code = ErrorCode.ALREADY_EXISTS


class Conflict(ModelyardError):
    """Somebody else changed it first, or its state does not allow the change."""

    code = ErrorCode.CONFLICT


class InvalidInput(ModelyardError):
    """A value is out of its rules; `path` names it."""

    code = ErrorCode.INVALID_INPUT


class CredentialInvalid(ModelyardError):
    """The provider refuses the credential."""

    code = ErrorCode.CREDENTIAL_INVALID
    is_of_model = True


class CredentialMissing(ModelyardError):
    """Nothing is configured that could serve the call."""

    code = ErrorCode.CREDENTIAL_MISSING
    is_of_model = True


class CredentialRemoved(ModelyardError):
    """The credential in use was deleted and no other was made active."""

    code = ErrorCode.CREDENTIAL_REMOVED
    is_of_model = True


class CredentialUnreadable(ModelyardError):
    """The sealed values cannot be opened with the keys at hand."""

    code = ErrorCode.CREDENTIAL_UNREADABLE
    is_of_model = True


class ModelNotFound(ModelyardError):
    """No such model or provider, or no default is set."""

    code = ErrorCode.MODEL_NOT_FOUND


class ModelDisabled(ModelyardError):
    """The workspace switched the model off."""

    code = ErrorCode.MODEL_DISABLED
    is_of_model = True


class ModelNotPermitted(ModelyardError):
    """The token or the hosted allow-list does not include the model."""

    code = ErrorCode.MODEL_NOT_PERMITTED


class ModelTypeMismatch(ModelyardError):
    """The name exists, under another model type."""

    code = ErrorCode.MODEL_TYPE_MISMATCH


class CapabilityUnsupported(ModelyardError):
    """The model lacks a feature that the input needs."""

    code = ErrorCode.CAPABILITY_UNSUPPORTED


class PoolExhausted(ModelyardError):
    """Every member of the pool rests."""

    code = ErrorCode.POOL_EXHAUSTED
    is_of_model = True
    retryable = True


class QuotaExceeded(ModelyardError):
    """No quota can hold the amount."""

    code = ErrorCode.QUOTA_EXCEEDED
    is_of_model = True


class AlreadyAdmitted(Conflict):
    """The key of a call stands for one already; `repeats` it is."""

    def __init__(self, message: str, *, repeats: UUID, input_hash: bytes) -> None:
        super().__init__(message, path=("idempotencyKey",))
        self.repeats = repeats
        self.input_hash = input_hash


class BudgetExceeded(ModelyardError):
    """The budget cannot hold the cost."""

    code = ErrorCode.BUDGET_EXCEEDED
    is_of_model = True


class RateLimited(ModelyardError):
    """Too many requests of this token or workspace."""

    code = ErrorCode.RATE_LIMITED
    retryable = True


class ContextLengthExceeded(ModelyardError):
    """The input is longer than the model takes."""

    code = ErrorCode.CONTEXT_LENGTH_EXCEEDED


class ContentFiltered(ModelyardError):
    """The provider's filter refused the input before any output."""

    code = ErrorCode.CONTENT_FILTERED


class UpstreamError(ModelyardError):
    """A failure at the provider."""


class UpstreamAuthentication(UpstreamError):
    """The provider does not accept the key."""

    code = ErrorCode.UPSTREAM_AUTHENTICATION
    rests = Rest(scope=Scope.CREDENTIAL, seconds=None)


class UpstreamPermission(UpstreamError):
    """The key may not use this model or this region."""

    code = ErrorCode.UPSTREAM_PERMISSION
    rests = Rest(scope=Scope.CREDENTIAL_AND_MODEL, seconds=600, ceiling=3600)


class UpstreamQuotaExhausted(UpstreamError):
    """The provider account is out of its own money or quota."""

    code = ErrorCode.UPSTREAM_QUOTA_EXHAUSTED
    rests = Rest(scope=Scope.CREDENTIAL, seconds=600, ceiling=3600)


class UpstreamModelNotFound(UpstreamError):
    """The provider does not know the model."""

    code = ErrorCode.UPSTREAM_MODEL_NOT_FOUND
    rests = Rest(scope=Scope.CREDENTIAL_AND_MODEL, seconds=600, ceiling=3600)


class UpstreamRateLimited(UpstreamError):
    """The provider refuses this credential for now."""

    code = ErrorCode.UPSTREAM_RATE_LIMITED
    retryable = True
    rests = Rest(scope=Scope.CREDENTIAL_AND_MODEL, seconds=60, honours_retry_after=True)


class UpstreamOverloaded(UpstreamError):
    """The provider has no capacity for now."""

    code = ErrorCode.UPSTREAM_OVERLOADED
    retryable = True
    rests = Rest(scope=Scope.CREDENTIAL_AND_MODEL, seconds=10, ceiling=120, honours_retry_after=True)


class UpstreamBadRequest(UpstreamError):
    """The provider refuses the request itself."""

    code = ErrorCode.UPSTREAM_BAD_REQUEST


class UpstreamUnavailable(UpstreamError):
    """The provider cannot be reached or fails inside."""

    code = ErrorCode.UPSTREAM_UNAVAILABLE
    retryable = True
    rests = Rest(scope=Scope.CREDENTIAL_AND_MODEL, seconds=10, ceiling=120)


class UpstreamTimeout(UpstreamError):
    """The provider did not answer in time."""

    code = ErrorCode.UPSTREAM_TIMEOUT
    retryable = True
    rests = Rest(scope=Scope.CREDENTIAL_AND_MODEL, seconds=10, ceiling=120)


class UpstreamProtocol(UpstreamError):
    """The provider's answer cannot be read, or ends too early."""

    code = ErrorCode.UPSTREAM_PROTOCOL
    retryable = True
    rests = Rest(scope=Scope.CREDENTIAL_AND_MODEL, seconds=10, ceiling=120)


class PaymentFailed(ModelyardError):
    """The payment gateway refused."""

    code = ErrorCode.PAYMENT_FAILED


class Cancelled(ModelyardError):
    """Somebody ended the call."""

    code = ErrorCode.CANCELLED


class ServerUnavailable(ModelyardError):
    """This server cannot do it now: it is stopping, or a part of it is away."""

    code = ErrorCode.SERVER_UNAVAILABLE
    retryable = True


class OutcomeUnknown(ServerUnavailable):
    """The database went away while it committed: it may be written, or not."""


class Internal(ModelyardError):
    """A fault of ours; the log has it under the id that the message shows."""

    code = ErrorCode.INTERNAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An error as a value: what a payload, an event or a `problem` field shows."""

    code: ErrorCode
    message: str
    path: tuple[str, ...] = ()
    retryable: bool = False
    retry_after: float | None = None

    @classmethod
    def of(cls, error: ModelyardError) -> "Problem":
        """Return the value that shows `error`."""
        return cls(
            code=error.code,
            message=error.message,
            path=error.path,
            retryable=error.retryable,
            retry_after=error.retry_after,
        )

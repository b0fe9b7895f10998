"""Errors as data: what payloads, events and `problem` fields show."""

from typing import cast

from core.errors import ErrorCode, ModelyardError, Problem
from graph.types import attribute, described, object_type

described(
    ErrorCode,
    "What kind of failure it is. New codes may come.",
    UNAUTHENTICATED="No token, or one that is unknown, revoked or expired.",
    FORBIDDEN="Your role does not allow it.",
    NOT_FOUND="Unknown, or of another workspace: the two are not told apart.",
    ALREADY_EXISTS="A unique name is taken.",
    CONFLICT="Somebody else changed it first, or its state does not allow the change.",
    INVALID_INPUT="A value breaks its rules; `path` names it.",
    CREDENTIAL_INVALID="The provider refuses the credential.",
    CREDENTIAL_MISSING="Nothing is configured that could serve the call.",
    CREDENTIAL_REMOVED="The credential in use was deleted and no other was made active.",
    CREDENTIAL_UNREADABLE="The credential's values cannot be opened; enter them again.",
    MODEL_NOT_FOUND="No such model or provider, or no default is set.",
    MODEL_DISABLED="The workspace switched the model off.",
    MODEL_NOT_PERMITTED="The token or the hosted allow-list does not include the model.",
    MODEL_TYPE_MISMATCH="The name exists, under another model type.",
    CAPABILITY_UNSUPPORTED="The model lacks a feature that the input needs.",
    POOL_EXHAUSTED="Every member of the pool rests.",
    QUOTA_EXCEEDED="No quota can hold the amount.",
    BUDGET_EXCEEDED="A budget of the token or the workspace cannot hold the cost.",
    RATE_LIMITED="Too many requests of this token or workspace.",
    CONTEXT_LENGTH_EXCEEDED="The input is longer than the model takes.",
    CONTENT_FILTERED="The provider's filter refused the input.",
    UPSTREAM_AUTHENTICATION="The provider does not accept the key.",
    UPSTREAM_PERMISSION="The provider does not let the key use this model.",
    UPSTREAM_QUOTA_EXHAUSTED="The account at the provider is out of money or quota.",
    UPSTREAM_MODEL_NOT_FOUND="The provider does not know the model.",
    UPSTREAM_RATE_LIMITED="The provider refuses the key for now.",
    UPSTREAM_OVERLOADED="The provider has no capacity for now.",
    UPSTREAM_BAD_REQUEST="The provider refuses the request itself.",
    UPSTREAM_UNAVAILABLE="The provider cannot be reached, or fails inside.",
    UPSTREAM_TIMEOUT="The provider did not answer in time.",
    UPSTREAM_PROTOCOL="The provider's answer cannot be read, or ended too early.",
    PAYMENT_FAILED="The payment gateway refused.",
    CANCELLED="Somebody ended the call.",
    SERVER_UNAVAILABLE="This server cannot do it now; try again.",
    INTERNAL="A fault of this server; its log has it.",
)


@object_type
class UserError:
    """Something that the caller can cause or mend."""

    code: ErrorCode = attribute("What kind of failure it is.")
    message: str = attribute("What is wrong and what mends it; never holds a secret.")
    retryable: bool = attribute("Whether the same request may succeed later.")
    retry_after: float | None = attribute("How many seconds to wait before trying again; null where that is not known.")
    path: list[str] = attribute("The place in the input, an empty list where no one field is at fault.")

    @classmethod
    def of(cls, problem: Problem | ModelyardError) -> "UserError":
        """Return an error or problem as the type of the schema that reads it."""
        return cast("UserError", Problem.of(problem) if isinstance(problem, ModelyardError) else problem)

    @classmethod
    def listed(cls, problem: Problem | None) -> "list[UserError]":
        """Return what `errors` shows of a problem that may not be there."""
        return [cls.of(problem)] if problem is not None else []

    @classmethod
    def optional(cls, problem: Problem | ModelyardError | None) -> "UserError | None":
        """Return an error or problem that may not be there."""
        return cls.of(problem) if problem is not None else None

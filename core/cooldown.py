"""When a credential is left alone after a failure, for how long, and how it comes back: pure rules over values."""

from enum import StrEnum

import msgspec

from core.errors import ErrorCode, ModelyardError, Rest, Scope

RETRY_AFTER_S = (1.0, 600.0)
"""Between what a provider's own wish is taken."""

AFTER_VALIDATION = Rest(scope=Scope.CREDENTIAL, seconds=10, ceiling=600)
"""How a credential rests that its provider refuses although it was found valid since."""

VALIDATE_AGAIN_S = 60.0
"""How long after a refusal its credential is validated again, as long as nothing was decided."""

PROBE_AGAIN_S = 1.0
"""When to ask again for a member whose one trial call is under way."""


class Phase(StrEnum):
    """Whether calls go to a credential."""

    HEALTHY = "HEALTHY"
    COOLING_DOWN = "COOLING_DOWN"
    PROBING = "PROBING"


class Cooldown(msgspec.Struct, frozen=True, kw_only=True):
    """That a credential rests, or is on trial after a rest; there is none of one that has served a call since.

    `until` is seconds since the epoch; None waits for a validation. `times` counts rests that double, without a success
    between. `has_spoken`: its trial has begun to answer, so that calls go to it again, and has not been served yet.
    """

    scope: Scope
    until: float | None
    cause: ErrorCode
    message: str
    times: int = 1
    was_validated: bool = False
    has_spoken: bool = False

    def rests(self, now: float) -> bool:
        """Tell whether it is left alone now."""
        return self.until is None or now < self.until

    def phase(self, now: float) -> Phase:
        """Return where it stands."""
        if self.rests(now):
            return Phase.COOLING_DOWN
        return Phase.HEALTHY if self.has_spoken else Phase.PROBING


def rest(before: Cooldown | None, error: ModelyardError, now: float) -> Cooldown | None:
    """Return the rest after a failure of a call; None where such a failure is not the credential's.

    A deadline never moves back, and calls that fail during a rest, having begun before it, do not double it.
    """
    policy = error.rests
    if policy is None:
        return None
    if policy.seconds is None and before is not None and before.was_validated:
        policy = AFTER_VALIDATION
    is_resting = before is not None and before.rests(now)
    times = before.times if before is not None else 0
    if policy.ceiling is not None:
        times = max(times, 1) if is_resting else times + 1
    until = None if policy.seconds is None else now + _seconds(policy, error, policy.seconds, times)
    if before is not None and is_resting and (before.until is None or (until is not None and until <= before.until)):
        return before
    return Cooldown(
        scope=policy.scope,
        until=until,
        cause=error.code,
        message=error.message,
        times=times,
        was_validated=before is not None and before.was_validated,
    )


def later(one: Cooldown | None, other: Cooldown) -> Cooldown:
    """Return the rest that ends later, of two that two sides know of."""
    if one is None or other.until is None:
        return other
    return one if one.until is None or one.until >= other.until else other


def after_first_word(before: Cooldown, now: float) -> Cooldown:
    """Return what is left when a call begins to be answered: a call from before a rest does not end it."""
    return before if before.rests(now) else msgspec.structs.replace(before, has_spoken=True)


def after_success(before: Cooldown) -> Cooldown | None:
    """Return what is left when a call has been served: nothing of a rest after which the member has spoken."""
    return None if before.has_spoken else before


def on_trial(before: Cooldown, now: float) -> Cooldown:
    """Return the end of a rest, before its time: the next call is a trial."""
    until = now if before.rests(now) else before.until
    times = 0 if before.until is None else before.times
    return msgspec.structs.replace(before, until=until, times=times)


def after_validation(before: Cooldown, now: float, *, is_new: bool) -> Cooldown:
    """Return what is left of a rest when the credential is found valid: a trial where the rest waits for that.

    One whose provider refused it although it was valid rests for its time, unless its values are new.
    """
    if before.cause is not ErrorCode.UPSTREAM_AUTHENTICATION or not (is_new or before.until is None):
        return before
    return msgspec.structs.replace(on_trial(before, now), was_validated=True)


def _seconds(policy: Rest, error: ModelyardError, seconds: float, times: int) -> float:
    if policy.honours_retry_after and error.retry_after is not None:
        shortest, longest = RETRY_AFTER_S
        return min(max(error.retry_after, shortest), longest)
    return seconds if policy.ceiling is None else min(seconds * 2.0 ** min(times - 1, 30), policy.ceiling)

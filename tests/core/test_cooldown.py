"""When credentials rest, for how long, and how they come back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import errors
from core.cooldown import Cooldown, Phase, after_first_word, after_success, after_validation, on_trial, rest
from core.errors import ModelyardError, Scope

NOW = 1_000_000.0
POLICIES = [
    (errors.UpstreamRateLimited, Scope.CREDENTIAL_AND_MODEL, [60, 60, 60, 60, 60]),
    (errors.UpstreamQuotaExhausted, Scope.CREDENTIAL, [600, 1200, 2400, 3600, 3600]),
    (errors.UpstreamPermission, Scope.CREDENTIAL_AND_MODEL, [600, 1200, 2400, 3600, 3600]),
    (errors.UpstreamModelNotFound, Scope.CREDENTIAL_AND_MODEL, [600, 1200, 2400, 3600, 3600]),
    (errors.UpstreamUnavailable, Scope.CREDENTIAL_AND_MODEL, [10, 20, 40, 80, 120, 120]),
    (errors.UpstreamTimeout, Scope.CREDENTIAL_AND_MODEL, [10, 20, 40, 80, 120, 120]),
    (errors.UpstreamProtocol, Scope.CREDENTIAL_AND_MODEL, [10, 20, 40, 80, 120, 120]),
    (errors.UpstreamOverloaded, Scope.CREDENTIAL_AND_MODEL, [10, 20, 40, 80, 120, 120]),
]
FAILURES = [policy[0] for policy in POLICIES] + [errors.UpstreamAuthentication]


@pytest.mark.parametrize(("failure", "scope", "seconds"), POLICIES)
def test_each_further_failure_rests_longer_up_to_a_ceiling(
    failure: type[ModelyardError], scope: Scope, seconds: list[float]
) -> None:
    now, cooldown = NOW, None
    for expected in seconds:
        cooldown = rest(cooldown, failure("no"), now)
        assert cooldown is not None
        assert (cooldown.scope, cooldown.until, cooldown.cause) == (scope, now + expected, failure.code)
        now += expected


@pytest.mark.parametrize(
    "failure",
    [
        errors.UpstreamBadRequest,
        errors.ContentFiltered,
        errors.ContextLengthExceeded,
        errors.Cancelled,
        errors.Internal,
    ],
)
def test_what_is_not_the_credentials_fault_rests_nobody(failure: type[ModelyardError]) -> None:
    assert rest(None, failure("no"), NOW) is None


@pytest.mark.parametrize("failure", [errors.UpstreamRateLimited, errors.UpstreamOverloaded])
@pytest.mark.parametrize(("wish", "seconds"), [(2, 2), (0, 1), (0.2, 1), (599, 599), (86_400, 600)])
def test_the_providers_wish_is_taken_within_bounds(failure: type[ModelyardError], wish: float, seconds: float) -> None:
    cooldown = rest(None, failure("no", retry_after=wish), NOW)
    assert cooldown is not None
    assert cooldown.until == NOW + seconds


@pytest.mark.parametrize("failure", [errors.UpstreamQuotaExhausted, errors.UpstreamUnavailable])
def test_the_wish_counts_for_no_other_failure(failure: type[ModelyardError]) -> None:
    assert rest(None, failure("no", retry_after=2), NOW) == rest(None, failure("no"), NOW)


def test_a_refused_key_rests_until_it_is_validated_and_then_shortly() -> None:
    refused = errors.UpstreamAuthentication("no")

    waiting = rest(None, refused, NOW)
    assert waiting is not None
    assert (waiting.until, waiting.phase(NOW + 10**6)) == (None, Phase.COOLING_DOWN)

    trial = after_validation(waiting, NOW + 5, is_new=False)
    assert trial.phase(NOW + 5) is Phase.PROBING

    again = rest(trial, refused, NOW + 6)
    assert again is not None
    assert again.until == NOW + 6 + 10
    assert after_validation(again, NOW + 7, is_new=False) == again
    assert after_validation(again, NOW + 7, is_new=True).phase(NOW + 7) is Phase.PROBING
    third = rest(again, refused, NOW + 20)
    assert third is not None
    assert third.until == NOW + 20 + 20


def test_a_refused_key_that_people_let_try_without_a_validation_waits_for_one_again() -> None:
    refused = errors.UpstreamAuthentication("no")
    waiting = rest(None, refused, NOW)
    limited = rest(None, errors.UpstreamRateLimited("no"), NOW)
    assert waiting is not None
    assert limited is not None

    for ended in (waiting, limited):
        trial = on_trial(ended, NOW + 5)
        again = rest(trial, refused, NOW + 6)
        assert trial.phase(NOW + 5) is Phase.PROBING
        assert again is not None
        assert again.until is None


def test_failures_during_a_rest_neither_double_it_nor_shorten_it() -> None:
    long = rest(None, errors.UpstreamQuotaExhausted("no"), NOW)
    assert rest(long, errors.UpstreamQuotaExhausted("no"), NOW - 1) == long
    assert rest(long, errors.UpstreamRateLimited("no", retry_after=1), NOW + 1) == long


def test_a_call_from_before_a_rest_does_not_end_it_and_one_after_it_does() -> None:
    resting = rest(None, errors.UpstreamRateLimited("no"), NOW)
    assert resting is not None
    assert after_first_word(resting, NOW + 59) == resting
    assert after_success(resting) == resting
    assert after_success(after_first_word(resting, NOW + 60)) is None


def test_who_dies_in_the_middle_of_a_trial_has_served_nobody() -> None:
    first = rest(None, errors.UpstreamUnavailable("no"), NOW)
    assert first is not None
    spoken = after_first_word(first, NOW + 10)
    again = rest(spoken, errors.UpstreamProtocol("cut"), NOW + 12)
    assert again is not None
    assert (spoken.phase(NOW + 10), again.phase(NOW + 12)) == (Phase.HEALTHY, Phase.COOLING_DOWN)
    assert (again.until, again.has_spoken) == (NOW + 12 + 20, False)


def test_a_rest_that_does_not_double_makes_no_other_longer() -> None:
    cooldown, now = None, NOW
    for _ in range(5):
        cooldown = rest(cooldown, errors.UpstreamRateLimited("no", retry_after=2), now)
        now += 2
    for seconds in (10, 20):
        cooldown = rest(cooldown, errors.UpstreamUnavailable("no"), now)
        assert cooldown is not None
        assert cooldown.until == now + seconds
        now += seconds
    during = rest(
        rest(None, errors.UpstreamRateLimited("no", retry_after=5), NOW), errors.UpstreamUnavailable("no"), NOW + 1
    )
    assert during is not None
    assert during.until == NOW + 1 + 10


@given(
    st.lists(st.tuples(st.sampled_from(FAILURES), st.floats(0, 900), st.booleans(), st.floats(0, 2000)), max_size=30)
)
def test_a_deadline_never_moves_back(
    story: list[tuple[type[ModelyardError], float, bool, float]],
) -> None:
    now, cooldown = NOW, None
    for failure, wish, is_validated, passed in story:
        before: Cooldown | None = cooldown
        if is_validated and cooldown is not None and cooldown.until is None:
            before = cooldown = after_validation(cooldown, now, is_new=False)
        cooldown = rest(before, failure("no", retry_after=wish or None), now)
        assert cooldown is not None
        if before is not None and before.rests(now):
            assert cooldown.until is None or (before.until is not None and cooldown.until >= before.until)
        assert cooldown.rests(now)
        assert cooldown.until is None or cooldown.until - now <= 3600
        now += passed

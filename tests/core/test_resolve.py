"""The decision table of resolving: preferred and effective type, quotas, pools, credentials, and every problem."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.changes import Noun, differences
from core.configuration import Configuration, HostedModel, HostedProvider
from core.entities import CredentialStatus, ModelSetting, ModelSource, ProviderRow, Quota, QuotaType, QuotaUnit
from core.errors import ErrorCode
from core.model_types import ModelType
from core.model_types.llm import ProviderType
from core.models import ModelStatus, status_of
from core.pool_health import MemberHealth, standing
from core.ports.pool_state import PoolNow
from core.provider import Pricing, RemoteModel
from core.resolve import Request, Route, find_model, pool_candidates, preferred_type, resolve
from tests import make
from tests.catalogs import CATALOG

MODEL = make.key("gpt-4o")
CUSTOM_MODEL = make.key("tiny", "openai_compatible")
SYSTEM, CUSTOM = ProviderType.SYSTEM, ProviderType.CUSTOM
HOSTED = {"openai": HostedProvider(name="openai")}
NOT_LISTED = {"openai": HostedProvider(name="openai", models={})}

PLAIN = make.credential("plain")
OTHER = make.credential("other")
OWN = make.credential("own", model=MODEL)
INVALID = make.credential("invalid", status=CredentialStatus.INVALID)
UNREADABLE = make.credential("unreadable", status=CredentialStatus.UNREADABLE)
FREE = make.quota(QuotaType.FREE)
TRIAL = make.quota(QuotaType.TRIAL)
PAID = make.quota(QuotaType.PAID)
SPENT = make.quota(QuotaType.TRIAL, used=10)
SHARED_PAID = make.quota(QuotaType.PAID, provider=None)
ELSEWHERE = make.quota(QuotaType.PAID, restricted_to=frozenset({make.key("another")}))


def chose(kind: ProviderType) -> dict[str, ProviderRow]:
    return {"openai": ProviderRow(name="openai", preferred_type=kind)}


def asked(configuration: Configuration, **changed: Any) -> Route:
    request = Request(type=ModelType.LLM, provider="openai", name="gpt-4o")
    return resolve(configuration, CATALOG, replace(request, **changed))


@dataclass(frozen=True)
class Case:
    """One row: what is configured, and what a call of openai/gpt-4o would do."""

    says: str
    given: Configuration
    kind: ProviderType | None
    problem: ErrorCode | None = None
    by: Sequence[str] = ()
    quota: Any = None


def with_choice(kind: ProviderType, *credentials: Any, active: Any = (), **more: Any) -> Configuration:
    made = make.configuration(*credentials, active=active, **more)
    row = replace(made.provider("openai"), preferred_type=kind)
    return replace(made, providers={**made.providers, "openai": row})


TABLE = [
    # ---- nothing or custom only
    Case("nothing at all", make.configuration(), CUSTOM, ErrorCode.CREDENTIAL_MISSING),
    Case("an active provider credential", make.configuration(PLAIN, active=[PLAIN]), CUSTOM, by=["plain"]),
    Case("credentials, none active", make.configuration(PLAIN), CUSTOM, ErrorCode.CREDENTIAL_REMOVED),
    Case("a model credential goes before the provider's", make.configuration(PLAIN, OWN, active=[PLAIN, OWN]), CUSTOM, by=["own"]),
    Case("model credentials, none active: never the provider's in silence", make.configuration(PLAIN, OWN, active=[PLAIN]), CUSTOM, ErrorCode.CREDENTIAL_REMOVED),
    Case("an INVALID one is not replaced", make.configuration(INVALID, OTHER, active=[INVALID]), CUSTOM, ErrorCode.CREDENTIAL_INVALID),
    Case("an UNREADABLE one is not replaced", make.configuration(UNREADABLE, OTHER, active=[UNREADABLE]), CUSTOM, ErrorCode.CREDENTIAL_UNREADABLE),
    Case("an UNVERIFIED one is tried", make.configuration(u := make.credential("u", status=CredentialStatus.UNVERIFIED), active=[u]), CUSTOM, by=["u"]),
    # ---- preferred type, without a choice
    Case("hosted, nothing custom", make.configuration(hosted=HOSTED, quotas=(TRIAL,)), SYSTEM, by=[""], quota=TRIAL),
    Case("hosted, but any credential makes it CUSTOM", make.configuration(PLAIN, active=[PLAIN], hosted=HOSTED, quotas=(TRIAL,)), CUSTOM, by=["plain"]),
    Case("hosted without a quota", make.configuration(hosted=HOSTED), CUSTOM, ErrorCode.CREDENTIAL_MISSING),
    # ---- a choice
    Case("SYSTEM chosen, a quota valid", with_choice(SYSTEM, PLAIN, active=[PLAIN], hosted=HOSTED, quotas=(TRIAL,)), SYSTEM, by=[""], quota=TRIAL),
    Case("SYSTEM chosen, spent, something custom", with_choice(SYSTEM, PLAIN, active=[PLAIN], hosted=HOSTED, quotas=(SPENT,)), CUSTOM, by=["plain"]),
    Case("SYSTEM chosen, spent, nothing custom", with_choice(SYSTEM, hosted=HOSTED, quotas=(SPENT,)), SYSTEM, ErrorCode.QUOTA_EXCEEDED),
    Case("SYSTEM chosen, spent, credentials but none active", with_choice(SYSTEM, PLAIN, hosted=HOSTED, quotas=(SPENT,)), SYSTEM, ErrorCode.QUOTA_EXCEEDED),
    Case("SYSTEM chosen, no quota", with_choice(SYSTEM, PLAIN, active=[PLAIN], hosted=HOSTED), CUSTOM, by=["plain"]),
    Case("SYSTEM chosen, hosted no more", with_choice(SYSTEM, PLAIN, active=[PLAIN], quotas=(TRIAL,)), CUSTOM, by=["plain"]),
    Case("CUSTOM chosen never spends the quota", with_choice(CUSTOM, hosted=HOSTED, quotas=(TRIAL,)), CUSTOM, ErrorCode.CREDENTIAL_MISSING),
    # ---- which quota
    Case("PAID before FREE before TRIAL", make.configuration(hosted=HOSTED, quotas=(TRIAL, FREE, PAID)), SYSTEM, by=[""], quota=PAID),
    Case("the provider's own before the shared one", make.configuration(hosted=HOSTED, quotas=(SHARED_PAID, PAID)), SYSTEM, by=[""], quota=PAID),
    Case("a shared PAID before an own TRIAL", make.configuration(hosted=HOSTED, quotas=(TRIAL, SHARED_PAID)), SYSTEM, by=[""], quota=SHARED_PAID),
    Case("a quota of other models is passed over", make.configuration(hosted=HOSTED, quotas=(ELSEWHERE, TRIAL)), SYSTEM, by=[""], quota=TRIAL),
    Case("a spent one is passed over", make.configuration(hosted=HOSTED, quotas=(SPENT, make.quota(QuotaType.PAID, used=10), FREE)), SYSTEM, by=[""], quota=FREE),
    Case("reserved counts as used", make.configuration(hosted=HOSTED, quotas=(make.quota(reserved=10),)), SYSTEM, ErrorCode.QUOTA_EXCEEDED),
    Case("unlimited never ends", make.configuration(hosted=HOSTED, quotas=(q := make.quota(limit=None, used=10**9),)), SYSTEM, by=[""], quota=q),
    Case("in no allow-list of a quota", make.configuration(hosted=HOSTED, quotas=(ELSEWHERE,)), SYSTEM, ErrorCode.MODEL_NOT_PERMITTED),
    Case("not among the hosted models", make.configuration(hosted=NOT_LISTED, quotas=(TRIAL,)), SYSTEM, ErrorCode.MODEL_NOT_PERMITTED),
    # ---- pools
    Case("a pool of two chooses", make.configuration(PLAIN, OTHER, active=[PLAIN], pools=[make.pool(MODEL, [make.member(OTHER), make.member(None)])]), CUSTOM, by=["other", "plain"]),
    Case("a disabled pool does not", make.configuration(PLAIN, OTHER, active=[PLAIN], pools=[make.pool(MODEL, [make.member(OTHER), make.member(None)], enabled=False)]), CUSTOM, by=["plain"]),
    Case("one usable member is no pool", make.configuration(PLAIN, INVALID, active=[PLAIN], pools=[make.pool(MODEL, [make.member(INVALID), make.member(PLAIN)])]), CUSTOM, by=["plain"]),
    Case("an INVALID member is left out", make.configuration(PLAIN, OTHER, INVALID, active=[PLAIN], pools=[make.pool(MODEL, [make.member(INVALID), make.member(PLAIN), make.member(OTHER)])]), CUSTOM, by=["plain", "other"]),
    Case("a switched-off member is left out", make.configuration(PLAIN, OTHER, active=[PLAIN], pools=[make.pool(MODEL, [make.member(PLAIN), make.member(OTHER, enabled=False)])]), CUSTOM, by=["plain"]),
    Case("a Default Config that doubles a member is skipped", make.configuration(PLAIN, active=[PLAIN], pools=[make.pool(MODEL, [make.member(PLAIN), make.member(None)])]), CUSTOM, by=["plain"]),
    Case("a pool counts as something custom", with_choice(SYSTEM, PLAIN, OTHER, hosted=HOSTED, quotas=(SPENT,), pools=[make.pool(MODEL, [make.member(PLAIN), make.member(OTHER)])]), CUSTOM, by=["plain", "other"]),
    Case("SYSTEM never uses a pool", with_choice(SYSTEM, PLAIN, OTHER, hosted=HOSTED, quotas=(TRIAL,), pools=[make.pool(MODEL, [make.member(PLAIN), make.member(OTHER)])]), SYSTEM, by=[""], quota=TRIAL),
]  # fmt: skip


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.says)
def test_the_decision_table(case: Case) -> None:
    route = asked(case.given)

    assert route.provider_type is case.kind or (route.problem is not None and route.provider_type is None)
    assert (route.problem.code if route.problem else None) is case.problem
    if case.problem is None:
        assert [one.credential.name if one.credential else "" for one in route.usable] == list(case.by)
        assert route.quota == case.quota


@pytest.mark.parametrize(
    ("quotas", "said"),
    [((SPENT,), "is used up"), ((SPENT, FREE), "not enough left for this call"), ((PAID, FREE), "not enough left")],
)
def test_a_quota_that_has_something_left_and_too_little_is_told_from_one_that_is_used_up(
    quotas: tuple[Quota, ...], said: str
) -> None:
    request = Request(type=ModelType.LLM, provider="openai", name="gpt-4o")

    route = resolve(with_choice(SYSTEM, hosted=HOSTED, quotas=quotas), CATALOG, request, lambda *_: 11)

    assert route.problem is not None
    assert (route.problem.code, said in route.problem.message) == (ErrorCode.QUOTA_EXCEEDED, True)


@pytest.mark.parametrize(
    ("name", "kind", "paid_by"),
    [("gpt-4o", ModelType.LLM, {QuotaUnit.TOKENS, QuotaUnit.TIMES}), ("tts-1", ModelType.TTS, {QuotaUnit.TIMES})],
)
def test_tokens_pay_for_what_is_priced_by_them_alone(name: str, kind: ModelType, paid_by: set[QuotaUnit]) -> None:
    for unit in (QuotaUnit.TOKENS, QuotaUnit.TIMES):
        quota = replace(TRIAL, unit=unit)

        route = asked(make.configuration(hosted=HOSTED, quotas=(quota,)), name=name, type=kind)

        problem = route.problem.code if route.problem is not None else None
        assert problem is (None if unit in paid_by else ErrorCode.MODEL_NOT_PERMITTED)


def test_without_a_default_the_problem_says_how_to_set_one() -> None:
    route = asked(make.configuration(), provider=None, name=None)

    assert route.problem is not None
    assert route.problem.code is ErrorCode.MODEL_NOT_FOUND
    assert "setDefaultModels" in route.problem.message


def test_the_default_serves_where_no_model_is_named() -> None:
    given = make.configuration(PLAIN, active=[PLAIN], defaults={ModelType.LLM: MODEL})

    route = asked(given, provider=None, name=None)

    assert route.model is not None
    assert route.model.key == MODEL


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"provider": "nobody"}, ErrorCode.MODEL_NOT_FOUND),
        ({"name": "no-such-model"}, ErrorCode.MODEL_NOT_FOUND),
        ({"type": ModelType.RERANK}, ErrorCode.MODEL_TYPE_MISMATCH),
        ({"allowed_models": frozenset({make.key("gpt-4o-mini")})}, ErrorCode.MODEL_NOT_PERMITTED),
        ({"credential_id": make.credential().id}, ErrorCode.NOT_FOUND),
    ],
)
def test_what_cannot_be_asked_for(changed: dict[str, Any], code: ErrorCode) -> None:
    route = asked(make.configuration(PLAIN, active=[PLAIN]), **changed)

    assert route.problem is not None
    assert route.problem.code is code


@pytest.mark.parametrize("status", [CredentialStatus.VALID, CredentialStatus.INVALID])
def test_a_default_config_that_doubles_a_member_is_disabled_whatever_is_wrong_with_its_credential(
    status: CredentialStatus,
) -> None:
    plain = replace(PLAIN, status=status)
    pool = make.pool(MODEL, [make.member(plain), make.member(None), make.member(OTHER)])
    given = make.configuration(plain, OTHER, active=[plain], pools=[pool])
    known = find_model(given, CATALOG, MODEL)
    assert known is not None

    standings = [standing(one, PoolNow(counts={}, rests={}), make.NOW) for one in pool_candidates(given, known)[0]]

    own = MemberHealth.HEALTHY if status is CredentialStatus.VALID else MemberHealth.CREDENTIAL_INVALID
    assert [one.health for one in standings] == [own, MemberHealth.DISABLED, MemberHealth.HEALTHY]


def test_pools_are_told_of_that_stand_otherwise_as_their_default_config_does() -> None:
    pool = make.pool(MODEL, [make.member(OTHER), make.member(None)])
    before = make.configuration(PLAIN, OTHER, active=[PLAIN], pools=[pool])
    refused, idle = replace(PLAIN, status=CredentialStatus.INVALID), make.credential("idle")

    told = [
        {change.key for change in differences(before, after) if change.noun is Noun.POOL}
        for after in (
            make.configuration(refused, OTHER, active=[PLAIN], pools=[pool]),
            make.configuration(PLAIN, OTHER, active=[OTHER], pools=[pool]),
            make.configuration(PLAIN, OTHER, idle, active=[PLAIN], pools=[pool]),
        )
    ]

    assert told == [{str(pool.id)}, {str(pool.id)}, set()]


def test_a_switched_off_model_is_refused_before_anything_else() -> None:
    off = {MODEL: ModelSetting(key=MODEL, enabled=False)}

    route = asked(make.configuration(settings=off, hosted=HOSTED, quotas=(TRIAL,)))

    assert route.problem is not None
    assert route.problem.code is ErrorCode.MODEL_DISABLED
    assert status_of(route.problem) is ModelStatus.DISABLED


def test_a_provider_is_found_by_its_written_forms() -> None:
    given = make.configuration(PLAIN, active=[PLAIN])

    assert asked(given, provider=" OpenAI ").problem is None


def test_a_pinned_credential_serves_even_where_another_is_active() -> None:
    route = asked(make.configuration(PLAIN, OTHER, active=[PLAIN]), credential_id=OTHER.id)

    assert [one.credential for one in route.candidates] == [OTHER]


def test_pinning_is_checked() -> None:
    elsewhere = make.credential("elsewhere", provider="echo")
    another_model = make.credential("another", model=make.key("gpt-4o-mini"))
    given = make.configuration(PLAIN, elsewhere, another_model, active=[PLAIN])

    assert asked(given, credential_id=PLAIN.id, pinnable=lambda _: False).problem.code is ErrorCode.FORBIDDEN  # type: ignore[union-attr]
    assert asked(given, credential_id=elsewhere.id).problem.code is ErrorCode.INVALID_INPUT  # type: ignore[union-attr]
    assert asked(given, credential_id=another_model.id).problem.code is ErrorCode.INVALID_INPUT  # type: ignore[union-attr]


def test_a_custom_model_is_served_by_its_own_credentials_alone() -> None:
    own = make.credential("own", provider="openai_compatible", model=CUSTOM_MODEL)
    row = make.model_row(CUSTOM_MODEL, ModelSource.CUSTOM)
    ask = {"provider": "openai_compatible", "name": "tiny"}

    with_one = asked(make.configuration(own, active=[own], models=[row]), **ask)
    none_active = asked(make.configuration(own, models=[row]), **ask)
    none = asked(make.configuration(models=[row]), **ask)

    assert [one.credential for one in with_one.usable] == [own]
    assert none_active.problem is not None
    assert none_active.problem.code is ErrorCode.CREDENTIAL_REMOVED
    assert none.problem is not None
    assert none.problem.code is ErrorCode.CREDENTIAL_MISSING


@pytest.mark.parametrize("hosted", [HOSTED, NOT_LISTED])
def test_a_model_that_a_workspace_found_in_a_list_is_not_hosted_unless_it_is_named(hosted: Any) -> None:
    found = make.key("found-in-a-list")
    row = replace(make.model_row(found, ModelSource.REMOTE), remote=RemoteModel(name=found.name, type=found.type))
    named = {"openai": HostedProvider(name="openai", models={found: HostedModel(key=found)})}

    alone = asked(with_choice(SYSTEM, hosted=hosted, quotas=(TRIAL,), models=[row]), name=found.name)
    own = asked(
        with_choice(SYSTEM, PLAIN, active=[PLAIN], hosted=hosted, quotas=(TRIAL,), models=[row]), name=found.name
    )
    listed = asked(
        with_choice(SYSTEM, PLAIN, active=[PLAIN], hosted=named, quotas=(TRIAL,), models=[row]), name=found.name
    )

    assert alone.problem is not None
    assert alone.problem.code is ErrorCode.MODEL_NOT_PERMITTED
    assert [one.credential for one in own.usable] == [PLAIN]
    assert (listed.provider_type, listed.quota) == (SYSTEM, TRIAL)


def test_preferred_types() -> None:
    assert preferred_type(make.configuration(), "openai") == (CUSTOM, False)
    assert preferred_type(make.configuration(hosted=HOSTED), "openai") == (SYSTEM, False)
    assert preferred_type(make.configuration(PLAIN, hosted=HOSTED), "openai") == (CUSTOM, False)
    assert preferred_type(make.configuration(PLAIN, hosted=HOSTED, providers=chose(SYSTEM)), "openai") == (SYSTEM, True)


@given(
    credentials=st.lists(st.sampled_from([PLAIN, OTHER, OWN, INVALID, UNREADABLE]), unique_by=lambda one: one.id),
    active=st.sampled_from([None, PLAIN, INVALID]),
    own_active=st.booleans(),
    quotas=st.lists(st.sampled_from([TRIAL, FREE, PAID, SPENT, ELSEWHERE, SHARED_PAID]), unique_by=lambda one: one.id),
    hosted=st.sampled_from([{}, HOSTED, NOT_LISTED]),
    choice=st.sampled_from([None, SYSTEM, CUSTOM]),
)
def test_a_route_is_either_usable_or_says_why(
    credentials: list[Any],
    active: Any,
    own_active: bool,
    quotas: list[Any],
    hosted: Any,
    choice: ProviderType | None,
) -> None:
    chosen: list[Any] = [one for one in (active, OWN if own_active else None) if one in credentials]
    given_ = make.configuration(*credentials, active=chosen, quotas=tuple(quotas), hosted=hosted)
    row = replace(given_.provider("openai"), preferred_type=choice)
    given_ = replace(given_, providers={**given_.providers, "openai": row})

    route = asked(given_)

    assert (route.problem is None) == any(True for _ in route.usable)
    assert not (choice is CUSTOM and route.quota is not None)
    if route.provider_type is SYSTEM and route.problem is None:
        assert route.quota is not None
        assert route.quota.is_valid
    for candidate in route.usable:
        assert candidate.credential is None or candidate.credential.status is CredentialStatus.VALID


def test_a_model_is_made_once_for_a_snapshot_and_anew_for_the_next() -> None:
    configuration = make.configuration(PLAIN, active=[PLAIN])
    price = Pricing(currency="EUR", input=Decimal(3))

    first = find_model(configuration, CATALOG, MODEL)

    assert first is not None
    assert find_model(configuration, CATALOG, MODEL) is first
    assert find_model(configuration.with_quotas([TRIAL]), CATALOG, MODEL) is first
    later = replace(configuration, settings={MODEL: ModelSetting(key=MODEL, pricing=price)})
    found = find_model(later, CATALOG, MODEL)
    assert found is not None
    assert found.card.pricing == price

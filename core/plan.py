"""What a call will try, in order: each attempt checked for its model before anything is admitted."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

import msgspec

from core.access import Permission, Viewer
from core.capabilities import check_capabilities
from core.catalog import Catalog
from core.configuration import Configuration, HostedProvider
from core.counting import estimated_input, input_upper_bound, wished_output
from core.entities import Credential, Pool, PoolMember, Quota, QuotaUnit
from core.errors import InvalidInput, ModelyardError
from core.metering import NOTHING, Estimate, demand, output_ceiling
from core.model_types import ModelFeature, ModelKey, ModelType
from core.model_types.llm import ChatRequest, ProviderType
from core.parameters import check_parameters
from core.ports.invocation_log import Want
from core.pricing import is_free
from core.provider import LanguageModels, ModelCard, PricingUnit, Provider
from core.resolve import Known, Request, card_behind, resolve

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReference:
    """A model by provider and name, as an input names it."""

    provider: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRequest:
    """What a caller asks for; `model` None is the workspace's default."""

    chat: ChatRequest
    workspace_id: UUID | None = None
    model: ModelReference | None = None
    fallbacks: tuple[ModelReference, ...] = ()
    credential_id: UUID | None = None
    end_user: str | None = None
    idempotency_key: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One attempt that may be made. `model` is the provider's name of it; `credential` None where none is needed.

    One by a `member` of a `pool` is made when the pool chooses it, the others in their order. A SYSTEM one is made by
    the values of `hosted`, against the first of `quotas` that can hold what `estimate` says; `expects` gives that to
    who asks. `whole`: of a model that also streams all is wanted at once, so that its first token comes with its last.
    """

    key: ModelKey
    model: str
    card: ModelCard
    provider_type: ProviderType
    credential: Credential | None
    provider: Provider
    pool: Pool | None = None
    member: PoolMember | None = None
    hosted: HostedProvider | None = None
    quotas: tuple[Quota, ...] = ()
    expects: Callable[[], Estimate] = lambda: NOTHING
    whole: bool = False

    @property
    def estimate(self) -> Estimate:
        """Return what the attempt may use."""
        return self.expects()

    @property
    def may_be_hedged(self) -> bool:
        """Tell whether a second attempt may be made beside this one."""
        return self.pool is not None and self.pool.hedge_percentile is not None

    def wants(self) -> list[Want]:
        """Return what the attempt wants to hold, of the first of its quotas that has enough; none for a CUSTOM one."""
        wants = []
        for quota in self.quotas:
            asked = demand(quota.unit, self.estimate, self.credits)
            wants.append(
                Want(
                    quota_id=quota.id,
                    minimum=asked.minimum,
                    wanted=asked.wanted,
                    input_tokens=self.estimate.input_likely,
                )
            )
        return wants

    def is_paid_by_output(self, *, has_budget: bool) -> bool:
        """Tell whether what the model says decides what a quota is charged, or what it costs under a budget."""
        pricing = self.card.pricing
        is_priced = pricing is not None and pricing.unit is PricingUnit.TOKEN and not is_free(pricing)
        return any(quota.unit is QuotaUnit.TOKENS for quota in self.quotas) or (has_budget and is_priced)

    @property
    def credits(self) -> int:
        """Return what the attempt takes of a quota of CREDITS."""
        return self.hosted.credits_a_call(self.key) if self.hosted is not None else 1

    @property
    def credential_name(self) -> str | None:
        """Return the name of the credential that the attempt uses."""
        return self.credential.name if self.credential is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionStep(Step):
    """One attempt at a completion: what it asks is checked for its model."""

    adapter: LanguageModels
    chat: ChatRequest


def plan(
    catalog: Catalog,
    viewer: Viewer,
    configuration: Configuration,
    request: CompletionRequest,
    *,
    streaming: bool = True,
) -> list[CompletionStep]:
    """Return every attempt that the configuration allows, the first model's before the fallbacks'.

    A fallback that cannot serve is left out, and so is a first model that cannot where the request itself is right.

    Raises:
        ModelyardError: why the first model cannot serve, nor any fallback in its place.
    """
    steps: list[CompletionStep] = []
    refusal: ModelyardError | None = None
    try:
        steps += _steps(catalog, viewer, configuration, request, request.model, request.credential_id, streaming)
    except ModelyardError as problem:
        if not problem.is_of_model:
            raise
        refusal = problem
    for reference in request.fallbacks:
        try:
            steps += _steps(catalog, viewer, configuration, request, reference, None, streaming)
        except ModelyardError as problem:
            log.info("fallback %s/%s is left out: %s", reference.provider, reference.name, problem.message)
    if refusal is not None and not steps:
        raise refusal
    return steps


def question(
    viewer: Viewer,
    workspace_id: UUID,
    model_type: ModelType,
    reference: ModelReference | None,
    credential_id: UUID | None = None,
) -> Request:
    """Return what `resolve` is asked when this viewer calls a model, None being the default of the type."""
    return Request(
        type=model_type,
        provider=reference.provider if reference else None,
        name=reference.name if reference else None,
        credential_id=credential_id,
        allowed_models=viewer.allowed_models,
        pinnable=lambda credential: (
            viewer.can(workspace_id, Permission.CREDENTIAL_READ) or credential in viewer.pinnable_credentials
        ),
    )


def steps_of(
    catalog: Catalog,
    configuration: Configuration,
    asked: Request,
    estimate: Callable[[ModelCard], Estimate] = lambda _: NOTHING,
) -> list[Step]:
    """Return every attempt that the configuration allows at what was asked for, one at the least.

    `estimate` says what a call of a model may use, where that decides which quota can hold it.

    Raises:
        ModelyardError: why the model cannot serve.
    """

    def least(quota: Quota, known: Known) -> int:
        hosted = configuration.hosted[known.key.provider]
        return demand(quota.unit, estimate(known.card), hosted.credits_a_call(known.key)).minimum

    route = resolve(configuration, catalog, asked, least)
    if route.problem is not None:
        raise route.problem
    assert route.model is not None
    assert route.provider_type is not None
    provider = catalog.provider(route.model.key.provider)
    assert provider is not None, "a known model has a provider"
    pool = configuration.pools[route.model.key] if route.from_pool else None
    behind = [(candidate, card_behind(configuration, route.model, candidate.credential)) for candidate in route.usable]
    expects = {id(card): _Once(estimate, card) for _, card in behind}
    return [
        Step(
            key=route.model.key,
            model=route.base_model or route.model.key.name,
            card=card,
            provider_type=route.provider_type,
            credential=candidate.credential,
            provider=provider,
            pool=pool,
            member=candidate.member,
            hosted=route.hosted,
            quotas=route.quotas,
            expects=expects[id(card)],
        )
        for candidate, card in behind
    ]


class _Once:
    """An estimate that is made when somebody asks, and once."""

    __slots__ = ("_card", "_estimate", "_made")

    def __init__(self, estimate: Callable[[ModelCard], Estimate], card: ModelCard) -> None:
        self._estimate = estimate
        self._card = card
        self._made: Estimate | None = None

    def __call__(self) -> Estimate:
        if self._made is None:
            self._made = self._estimate(self._card)
        return self._made


def fitting(steps: Sequence[Step], check: Callable[[ModelCard], T]) -> list[tuple[Step, T]]:
    """Return the attempts at whose model `check` finds nothing wrong, each with what it returns.

    Raises:
        ModelyardError: there is none; what is wrong with the first.
    """
    cards = {id(step.card): step.card for step in steps}
    found = {key: _checked(check, card) for key, card in cards.items()}
    fits = [(step, one) for step in steps if not isinstance(one := found[id(step.card)], ModelyardError)]
    if not fits:
        raise next(one for one in found.values() if isinstance(one, ModelyardError))
    return fits


def _checked(check: Callable[[ModelCard], T], card: ModelCard) -> T | ModelyardError:
    try:
        return check(card)
    except ModelyardError as refusal:
        return refusal


def unserved(key: ModelKey) -> InvalidInput:
    """Return the refusal of a model whose provider has no adapter for its type."""
    return InvalidInput(f"The provider {key.provider} serves no models of type {key.type}.", path=("model",))


def _steps(
    catalog: Catalog,
    viewer: Viewer,
    configuration: Configuration,
    request: CompletionRequest,
    reference: ModelReference | None,
    credential_id: UUID | None,
    streaming: bool,  # noqa: FBT001 - handed through
) -> list[CompletionStep]:
    asked = question(viewer, configuration.workspace_id, ModelType.LLM, reference, credential_id)

    def estimate(card: ModelCard) -> Estimate:
        wish = wished_output(request.chat)
        has_rule = any(rule.name == "max_tokens" for rule in card.parameter_rules)
        return Estimate(
            input_bound=input_upper_bound(request.chat, card.vocabulary, card.image_tokens),
            input_likely=estimated_input(request.chat, card.vocabulary, card.image_tokens),
            output=output_ceiling(card, wish.most) * wish.times,
            streaming=streaming,
            is_firm=wish.times > 1 or not (streaming or (wish.by_parameters and has_rule)),
            is_hidden=ModelFeature.REASONING in card.features or wish.times > 1,
        )

    def checked(card: ModelCard) -> ChatRequest:
        check_capabilities(request.chat, card)
        parameters = check_parameters(card.parameter_rules, request.chat.parameters)
        return msgspec.structs.replace(request.chat, parameters=parameters)

    steps = steps_of(catalog, configuration, asked, estimate)
    adapter = steps[0].provider.llm
    if adapter is None:
        raise unserved(steps[0].key)
    return [
        CompletionStep(
            key=step.key,
            model=step.model,
            card=step.card,
            provider_type=step.provider_type,
            credential=step.credential,
            provider=step.provider,
            pool=step.pool,
            member=step.member,
            hosted=step.hosted,
            quotas=step.quotas,
            expects=step.expects,
            whole=not streaming,
            adapter=adapter,
            chat=chat,
        )
        for step, chat in fitting(steps, checked)
    ]

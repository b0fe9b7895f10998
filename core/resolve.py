"""From a request to credentials: one pure function, used by calls, by `problem` and by `Workspace.route`."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from core.cards import custom_card, remote_card
from core.catalog import Catalog
from core.configuration import Configuration, HostedProvider
from core.entities import Credential, CredentialStatus, ModelSource, Pool, PoolMember, Quota, QuotaType, QuotaUnit
from core.errors import (
    CredentialInvalid,
    CredentialMissing,
    CredentialRemoved,
    CredentialUnreadable,
    Forbidden,
    InvalidInput,
    ModelDisabled,
    ModelNotFound,
    ModelNotPermitted,
    ModelTypeMismatch,
    ModelyardError,
    NotFound,
    QuotaExceeded,
)
from core.metering import is_counted_in_tokens
from core.model_types import ModelKey, ModelType
from core.model_types.llm import ProviderType
from core.provider import Manifest, ModelCard

_QUOTA_ORDER = (QuotaType.PAID, QuotaType.FREE, QuotaType.TRIAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked for. Without a provider and name: the default of the type.

    `allowed_models` None allows every model; `pinnable` tells whether this viewer may pin a credential.
    """

    type: ModelType
    provider: str | None = None
    name: str | None = None
    credential_id: UUID | None = None
    allowed_models: frozenset[ModelKey] | None = None
    pinnable: Callable[[UUID], bool] = lambda _: True


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A model that exists for the workspace."""

    key: ModelKey
    card: ModelCard
    source: ModelSource
    manifest: Manifest


Amount = Callable[[Quota, Known], int]
"""The least that a call of a model takes from a quota, in the quota's unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One way to serve the call. `credential` None: none is needed, or hosted.

    `is_double`: it is a Default Config, and its credential another member's.
    """

    credential: Credential | None
    member: PoolMember | None
    usable: bool
    reason: str
    is_double: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What a call would do. With a `problem` it would do nothing but fail with it.

    `quota` is the one that it would draw, `quotas` are all that may pay for the model, in the order of spending.
    """

    model: Known | None = None
    provider_type: ProviderType | None = None
    candidates: tuple[Candidate, ...] = ()
    quota: Quota | None = None
    quotas: tuple[Quota, ...] = ()
    hosted: HostedProvider | None = None
    problem: ModelyardError | None = None
    base_model: str | None = None
    from_pool: bool = False

    @property
    def usable(self) -> Iterator[Candidate]:
        """Iterate the candidates that a call may try."""
        return (candidate for candidate in self.candidates if candidate.usable)


def resolve(
    configuration: Configuration,
    catalog: Catalog,
    request: Request,
    amount: Amount | None = None,
) -> Route:
    """Return the route of a request: what would serve it, in which order, or the problem that stands against it.

    `amount` None: a call takes 1. Never writes and never raises for what a workspace can have configured.
    """
    try:
        model = _asked_for(configuration, catalog, request)
    except ModelyardError as problem:
        return Route(problem=problem)
    return route_of(configuration, catalog, model, request, amount)


def route_of(
    configuration: Configuration,
    catalog: Catalog,
    model: Known,
    request: Request,
    amount: Amount | None = None,
) -> Route:
    """Return the route of a request for a model that is known."""
    try:
        _check_use(configuration, model, request)
        if request.credential_id is not None:
            return _pinned(configuration, model, request.credential_id, request.pinnable)
        kind = effective_type(configuration, catalog, model)
        if kind is ProviderType.SYSTEM:
            return _hosted(configuration, model, amount)
        return _custom(configuration, model)
    except ModelyardError as problem:
        return Route(model=model, problem=problem)


def find_model(configuration: Configuration, catalog: Catalog, key: ModelKey) -> Known | None:
    """Return what is known of a model by its canonical key; None where the workspace has no such model."""
    manifest = catalog.manifest(key.provider)
    if manifest is None:
        return None
    kept: Known | None = configuration.known.get(key)
    if kept is not None and kept.manifest is manifest:
        return kept
    found = _found(configuration, manifest, key)
    if found is not None:
        configuration.known[key] = found
    return found


def _found(configuration: Configuration, manifest: Manifest, key: ModelKey) -> Known | None:
    row = configuration.models.get(key)
    card = manifest.model(key.name, key.type)
    if card is not None:
        return Known(key=key, card=_priced(configuration, key, card), source=ModelSource.PREDEFINED, manifest=manifest)
    if row is None or row.source is ModelSource.PREDEFINED:
        return _hosted_model(configuration, manifest, key)
    if row.remote is not None:
        card = _labelled(configuration, key, remote_card(manifest, row.remote))
    else:
        card = _labelled(configuration, key, custom_card(manifest, key.name, key.type, row.form_values))
    return Known(key=key, card=card, source=row.source, manifest=manifest)


def card_behind(configuration: Configuration, model: Known, credential: Credential | None) -> ModelCard:
    """Return what is known of a model as it is behind a credential: of a custom one each says what it has there."""
    if model.source is not ModelSource.CUSTOM or credential is None or credential.form_values is None:
        return model.card
    if credential.form_values == configuration.models[model.key].form_values:
        return model.card
    card = custom_card(model.manifest, model.key.name, model.key.type, credential.form_values)
    return _labelled(configuration, model.key, card)


def _labelled(configuration: Configuration, key: ModelKey, card: ModelCard) -> ModelCard:
    row = configuration.models.get(key)
    return _priced(configuration, key, replace(card, label=row.label) if row is not None and row.label else card)


def _hosted_model(configuration: Configuration, manifest: Manifest, key: ModelKey) -> Known | None:
    """Return a model that is there because the installation hosts it."""
    hosted = configuration.hosted.get(key.provider)
    entry = hosted.models.get(key) if hosted is not None and hosted.models is not None else None
    if entry is None or entry.card is None:
        return None
    card = _priced(configuration, key, entry.card)
    return Known(key=key, card=card, source=ModelSource.PREDEFINED, manifest=manifest)


def preferred_type(configuration: Configuration, provider: str) -> tuple[ProviderType, bool]:
    """Return the type that a provider's models prefer, and whether that was chosen."""
    chosen = configuration.provider(provider).preferred_type
    if chosen is not None:
        return chosen, True
    if configuration.has_own(provider):
        return ProviderType.CUSTOM, False
    return (ProviderType.SYSTEM if provider in configuration.hosted else ProviderType.CUSTOM), False


def effective_type(configuration: Configuration, catalog: Catalog, model: Known) -> ProviderType:
    """Return whose credentials a call of the model made now would use."""
    preferred, _ = preferred_type(configuration, model.key.provider)
    quotas = _quotas(configuration, model.key.provider)
    if preferred is ProviderType.CUSTOM or model.source is ModelSource.CUSTOM or not quotas:
        return ProviderType.CUSTOM
    if any(quota.is_valid for quota in _allowing(configuration, model)):
        return ProviderType.SYSTEM
    return ProviderType.CUSTOM if has_custom(configuration, model) else ProviderType.SYSTEM


def has_custom(configuration: Configuration, model: Known) -> bool:
    """Tell whether the workspace has a pool or a credential that could serve the model."""
    return pool_candidates(configuration, model)[1] or active_credential(configuration, model) is not None


def active_credential(configuration: Configuration, model: Known) -> Credential | None:
    """Return the credential that serves the model outside a pool, and inside one as the Default Config."""
    row = configuration.models.get(model.key)
    if row is not None and row.active_credential_id is not None:
        return configuration.credentials.get(row.active_credential_id)
    if model.source is ModelSource.CUSTOM or configuration.model_credentials(model.key):
        return None
    active = configuration.provider(model.key.provider).active_credential_id
    return configuration.credentials.get(active) if active is not None else None


def pool_candidates(configuration: Configuration, model: Known) -> tuple[tuple[Candidate, ...], bool]:
    """Return the members of the model's pool as candidates, and whether the pool chooses (enabled, two usable)."""
    pool = configuration.pools.get(model.key)
    if pool is None:
        return (), False
    candidates = tuple(_member(configuration, model, pool, member) for member in pool.members)
    return candidates, pool.enabled and sum(candidate.usable for candidate in candidates) >= 2


def default_problem(configuration: Configuration, catalog: Catalog, model_type: ModelType) -> ModelyardError | None:
    """Return why the default of a type cannot serve now; None when it can, or none is set."""
    if model_type not in configuration.defaults:
        return None
    return resolve(configuration, catalog, Request(type=model_type)).problem


def used_up(provider: str) -> QuotaExceeded:
    """Return the refusal where no quota has anything left."""
    return QuotaExceeded(
        f"The hosted quota for {provider} is used up: order more, or add your own credential with `createCredential`."
    )


def too_little_left(provider: str) -> QuotaExceeded:
    """Return the refusal where a quota has something left, and less than a call may use."""
    return QuotaExceeded(
        f"The hosted quota for {provider} has not enough left for this call: order more, ask for less, or add your own "
        "credential with `createCredential`."
    )


# ---- steps, in the order of the specification


def _asked_for(configuration: Configuration, catalog: Catalog, request: Request) -> Known:
    if request.provider is None or request.name is None:
        key = configuration.defaults.get(request.type)
        if key is None:
            raise ModelNotFound(
                f"No default model of type {request.type} is set: name a model, or set one with `setDefaultModels`."
            )
    else:
        provider = catalog.canonical(request.provider)
        if provider is None or catalog.manifest(provider) is None:
            raise ModelNotFound(f"There is no provider {request.provider!r}.", path=("model", "provider"))
        key = ModelKey(provider=provider, name=request.name, type=request.type)
    known = find_model(configuration, catalog, key)
    if known is not None:
        return known
    for other in ModelType:
        if find_model(configuration, catalog, ModelKey(provider=key.provider, name=key.name, type=other)) is not None:
            raise ModelTypeMismatch(
                f"The model {key.name!r} of {key.provider} is of type {other}, not {key.type}.", path=("model",)
            )
    raise ModelNotFound(
        f"The provider {key.provider} has no model {key.name!r} of type {key.type} here; add it with `addModel`.",
        path=("model", "name"),
    )


def _check_use(configuration: Configuration, model: Known, request: Request) -> None:
    if request.allowed_models is not None and model.key not in request.allowed_models:
        raise ModelNotPermitted(
            f"This token may not call {model.key.name!r} of {model.key.provider}; its `allowedModels` name others.",
            path=("model",),
        )
    if not configuration.setting(model.key).enabled:
        raise ModelDisabled(
            f"The model {model.key.name!r} of {model.key.provider} is switched off; `setModelEnabled` switches it on.",
            path=("model",),
        )


def _pinned(configuration: Configuration, model: Known, credential_id: UUID, pinnable: Callable[[UUID], bool]) -> Route:
    credential = configuration.credentials.get(credential_id)
    if credential is None:
        raise NotFound("There is no such credential in this workspace.", path=("credentialId",))
    if not pinnable(credential_id):
        raise Forbidden(
            "Pinning a credential needs CREDENTIAL_READ, or a token that lists it in `credentialIds`.",
            path=("credentialId",),
        )
    if not serves(credential, model):
        raise InvalidInput(
            f"This credential does not serve the model {model.key.name!r} of {model.key.provider}.",
            path=("credentialId",),
        )
    return _single(model, credential, "pinned by credentialId")


def _hosted(configuration: Configuration, model: Known, amount: Amount | None) -> Route:
    allowing = _allowing(configuration, model)
    if not allowing:
        raise ModelNotPermitted(
            f"No hosted quota of this workspace includes the model {model.key.name!r} of {model.key.provider}.",
            path=("model",),
        )
    quota = next((quota for quota in allowing if _holds(quota, amount(quota, model) if amount else 1)), None)
    if quota is None:
        problem = too_little_left if any(_holds(quota, 1) for quota in allowing) else used_up
        return Route(model=model, provider_type=ProviderType.SYSTEM, problem=problem(model.key.provider))
    hosted = configuration.hosted[model.key.provider]
    return Route(
        model=model,
        provider_type=ProviderType.SYSTEM,
        quota=quota,
        quotas=tuple(allowing),
        hosted=hosted,
        base_model=hosted.base_model(model.key),
        candidates=(Candidate(credential=None, member=None, usable=True, reason=f"hosted, by the {quota.type} quota"),),
    )


def _custom(configuration: Configuration, model: Known) -> Route:
    members, effective = pool_candidates(configuration, model)
    if effective:
        return Route(model=model, provider_type=ProviderType.CUSTOM, candidates=members, from_pool=True)
    credential = active_credential(configuration, model)
    if credential is not None:
        where = "model" if credential.model is not None else "provider"
        return _single(
            model, credential, f"the active credential of the {where}", _why_no_pool(configuration, model, members)
        )
    if model.manifest.keyless:
        reason = f"the provider needs no credential{_why_no_pool(configuration, model, members)}"
        free = Candidate(credential=None, member=None, usable=True, reason=reason)
        return Route(model=model, provider_type=ProviderType.CUSTOM, candidates=(free,))
    return Route(model=model, provider_type=ProviderType.CUSTOM, problem=_nothing_active(configuration, model))


def _why_no_pool(configuration: Configuration, model: Known, members: Sequence[Candidate]) -> str:
    """Return why the pool of a model does not choose, to follow another reason; nothing where there is none."""
    pool = configuration.pools.get(model.key)
    if pool is None:
        return ""
    if not pool.enabled:
        return "; the pool is switched off, `setPoolEnabled` switches it on"
    usable = sum(candidate.usable for candidate in members)
    return f"; the pool does not choose: it takes two usable members and has {usable or 'none'}, see their `health`"


def _single(model: Known, credential: Credential, reason: str, aside: str = "") -> Route:
    problem = credential_problem(credential)
    candidate = Candidate(
        credential=credential,
        member=None,
        usable=problem is None,
        reason=f"{reason}{aside}" if problem is None else f"{problem.message.removesuffix('.')}{aside}",
    )
    return Route(model=model, provider_type=ProviderType.CUSTOM, candidates=(candidate,), problem=problem)


def _nothing_active(configuration: Configuration, model: Known) -> ModelyardError:
    provider = model.key.provider
    if configuration.model_credentials(model.key):
        return CredentialRemoved(
            f"The model {model.key.name!r} of {provider} has credentials of its own, but none is active; "
            "`activateCredential` makes one."
        )
    if model.source is not ModelSource.CUSTOM and configuration.provider_credentials(provider):
        return CredentialRemoved(f"No credential of {provider} is active; `activateCredential` makes one.")
    return CredentialMissing(
        f"Nothing is configured for {provider} that could serve {model.key.name!r}; add a credential with "
        "`createCredential`."
    )


def credential_problem(credential: Credential) -> ModelyardError | None:
    """Return why a credential cannot serve; None when it can be tried."""
    if credential.status is CredentialStatus.INVALID:
        return CredentialInvalid(
            f"The credential for this call is refused by {credential.provider}: check it, or enter another."
        )
    if credential.status is CredentialStatus.UNREADABLE:
        return CredentialUnreadable(
            "The credential for this call cannot be opened with the keys at hand; enter its values again."
        )
    return None


def _member(configuration: Configuration, model: Known, pool: Pool, member: PoolMember) -> Candidate:
    is_default = member.credential_id is None
    credential = (
        active_credential(configuration, model)
        if member.credential_id is None
        else configuration.credentials.get(member.credential_id)
    )
    problem = credential_problem(credential) if credential is not None else None
    doubled = is_default and any(
        credential is not None and other.credential_id == credential.id for other in pool.members
    )
    reason = (
        "the member is switched off"
        if not member.enabled
        else "no credential is active, which it stands for; `activateCredential` makes one"
        if credential is None
        else "the Default Config is another member's credential"
        if doubled
        else problem.message
        if problem is not None
        else ""
    )
    return Candidate(
        credential=credential,
        member=member,
        usable=not reason,
        reason=reason or "a member of the pool",
        is_double=doubled,
    )


def serves(credential: Credential, model: Known) -> bool:
    """Tell whether a credential may serve the model, active or not."""
    if credential.provider != model.key.provider:
        return False
    return credential.model == model.key if credential.model is not None else model.source is not ModelSource.CUSTOM


def _quotas(configuration: Configuration, provider: str) -> list[Quota]:
    """Return the quotas for a hosted provider in the order in which they are spent."""
    if provider not in configuration.hosted:
        return []
    return sorted(
        (quota for quota in configuration.quotas if quota.provider in {None, provider}),
        key=lambda quota: (_QUOTA_ORDER.index(quota.type), quota.provider is None),
    )


def _allowing(configuration: Configuration, model: Known) -> list[Quota]:
    """Return the quotas that may pay for a model; those of TOKENS only where it is priced per token."""
    key = model.key
    hosted = configuration.hosted.get(key.provider)
    if hosted is None or not hosted.allows(key, is_predefined=model.source is ModelSource.PREDEFINED):
        return []
    in_tokens = is_counted_in_tokens(model.card)
    return [
        quota
        for quota in _quotas(configuration, key.provider)
        if quota.allows(key) and (in_tokens or quota.unit is not QuotaUnit.TOKENS)
    ]


def _holds(quota: Quota, amount: int) -> bool:
    return quota.limit is None or quota.used + quota.reserved + amount <= quota.limit


def _priced(configuration: Configuration, key: ModelKey, card: ModelCard) -> ModelCard:
    setting = configuration.settings.get(key)
    return replace(card, pricing=setting.pricing) if setting is not None and setting.pricing is not None else card

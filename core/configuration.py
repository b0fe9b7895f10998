"""The frozen snapshot of all that can influence one call of a workspace."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from core.entities import (
    BudgetPeriod,
    Credential,
    ModelRow,
    ModelSetting,
    ModelSource,
    Pool,
    ProviderRow,
    Quota,
    QuotaType,
    QuotaUnit,
)
from core.model_types import ModelKey, ModelType
from core.provider import ModelCard, Values


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedModel:
    """A model that the installation serves with its own credentials. `card`: of one that the manifest does not have."""

    key: ModelKey
    base_model: str | None = None
    card: ModelCard | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A quota that every workspace is given once. `limit` None: without end."""

    type: QuotaType
    unit: QuotaUnit
    limit: int | None
    resets_every: BudgetPeriod | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedProvider:
    """A provider that the installation hosts, by the opened `values` of its own credential.

    `models` None: every predefined model. `base_models` are the names that the provider knows models by, `credits` what
    a call of a model takes of a quota of CREDITS.
    """

    name: str
    models: Mapping[ModelKey, HostedModel] | None = None
    base_models: Mapping[str, str] = field(default_factory=dict)
    credits: Mapping[str, int] = field(default_factory=dict)
    values: Values = field(default_factory=dict, repr=False)
    grants: tuple[Grant, ...] = ()

    def allows(self, key: ModelKey, *, is_predefined: bool) -> bool:
        """Tell whether the allow-list has the model; without one, every predefined model is hosted and no other."""
        return is_predefined if self.models is None else key in self.models

    def base_model(self, key: ModelKey) -> str | None:
        """Return the name by which the provider is asked for a model, where it is another one."""
        entry = self.models.get(key) if self.models is not None else None
        return (entry.base_model if entry is not None else None) or self.base_models.get(key.name)

    def credits_a_call(self, key: ModelKey) -> int:
        """Return what a call of a model takes of a quota of CREDITS."""
        return self.credits.get(key.name, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What a workspace has configured, as of `version`.

    `known` is where `core/resolve` keeps what it has made of models; it goes with the snapshot.
    """

    workspace_id: UUID
    version: int
    providers: Mapping[str, ProviderRow] = field(default_factory=dict)
    credentials: Mapping[UUID, Credential] = field(default_factory=dict)
    models: Mapping[ModelKey, ModelRow] = field(default_factory=dict)
    settings: Mapping[ModelKey, ModelSetting] = field(default_factory=dict)
    defaults: Mapping[ModelType, ModelKey] = field(default_factory=dict)
    pools: Mapping[ModelKey, Pool] = field(default_factory=dict)
    quotas: tuple[Quota, ...] = ()
    hosted: Mapping[str, HostedProvider] = field(default_factory=dict)
    known: dict[ModelKey, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    _of_models: Mapping[ModelKey, list[Credential]] = field(init=False, repr=False, compare=False)
    _of_providers: Mapping[str, list[Credential]] = field(init=False, repr=False, compare=False)
    _with_own: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        of_models: dict[ModelKey, list[Credential]] = {}
        of_providers: dict[str, list[Credential]] = {}
        with_own = {key.provider for key, row in self.models.items() if row.source is ModelSource.CUSTOM}
        for credential in self.credentials.values():
            with_own.add(credential.provider)
            if credential.model is not None:
                of_models.setdefault(credential.model, []).append(credential)
            else:
                of_providers.setdefault(credential.provider, []).append(credential)
        object.__setattr__(self, "_of_models", of_models)
        object.__setattr__(self, "_of_providers", of_providers)
        object.__setattr__(self, "_with_own", frozenset(with_own))

    def with_quotas(self, quotas: Iterable[Quota]) -> "Configuration":
        """Return it with these quotas, sharing what was made of all the rest."""
        other = object.__new__(Configuration)
        for name in self.__slots__:
            object.__setattr__(other, name, getattr(self, name))
        object.__setattr__(other, "quotas", tuple(quotas))
        return other

    def provider(self, name: str) -> ProviderRow:
        """Return the row of a provider, an empty one where nothing is stored."""
        return self.providers.get(name) or ProviderRow(name=name)

    def setting(self, key: ModelKey) -> ModelSetting:
        """Return the switch and price of a model, the defaults where nothing is stored."""
        return self.settings.get(key) or ModelSetting(key=key)

    def model_credentials(self, key: ModelKey) -> list[Credential]:
        """Return the credentials of one model, oldest first."""
        return list(self._of_models.get(key, ()))

    def provider_credentials(self, provider: str) -> list[Credential]:
        """Return the provider-level credentials of one provider, oldest first."""
        return list(self._of_providers.get(provider, ()))

    def has_own(self, provider: str) -> bool:
        """Tell whether the workspace has any credential or custom model of a provider."""
        return provider in self._with_own


def unspent(configuration: Configuration) -> Configuration:
    """Return the configuration as if nothing of its quotas were used: what may be kept, as balances may not."""
    if not configuration.quotas:
        return configuration
    return configuration.with_quotas(replace(quota, used=0, reserved=0) for quota in configuration.quotas)

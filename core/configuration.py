"""The frozen snapshot of all that can influence one call of a workspace."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from core.entities import Credential, ModelRow, ModelSetting, Pool, ProviderRow, Quota
from core.model_types import ModelKey, ModelType


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedModel:
    """A model that the installation serves with its own credentials."""

    key: ModelKey
    base_model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedProvider:
    """A provider that the installation hosts. `models` None: every predefined model."""

    name: str
    models: Mapping[ModelKey, HostedModel] | None = None

    def allows(self, key: ModelKey) -> bool:
        """Tell whether the allow-list has the model."""
        return self.models is None or key in self.models


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What a workspace has configured, as of `version`."""

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

    def provider(self, name: str) -> ProviderRow:
        """Return the row of a provider, an empty one where nothing is stored."""
        return self.providers.get(name) or ProviderRow(name=name)

    def setting(self, key: ModelKey) -> ModelSetting:
        """Return the switch and price of a model, the defaults where nothing is stored."""
        return self.settings.get(key) or ModelSetting(key=key)

    def model_credentials(self, key: ModelKey) -> list[Credential]:
        """Return the credentials of one model, oldest first."""
        return [credential for credential in self.credentials.values() if credential.model == key]

    def provider_credentials(self, provider: str) -> list[Credential]:
        """Return the provider-level credentials of one provider, oldest first."""
        return [
            credential
            for credential in self.credentials.values()
            if credential.provider == provider and credential.model is None
        ]

"""What state a provider is in, in a workspace: whose credentials its predefined models use, and what stops them."""

from dataclasses import dataclass
from enum import StrEnum

from core.catalog import Catalog
from core.configuration import Configuration
from core.entities import Credential, ModelSource, Quota
from core.errors import CredentialMissing, CredentialRemoved, ModelyardError
from core.model_types import ModelType
from core.model_types.llm import ProviderType
from core.provider import ConfigurationMethod, Manifest
from core.resolve import credential_problem, preferred_type, used_up


class SystemStatus(StrEnum):
    """Whether the installation's own credentials can serve a provider's models."""

    ACTIVE = "ACTIVE"
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED"
    UNSUPPORTED = "UNSUPPORTED"


class CustomStatus(StrEnum):
    """Whether the workspace's own credentials can serve a provider's models."""

    ACTIVE = "ACTIVE"
    NO_CONFIGURE = "NO_CONFIGURE"
    NO_ACTIVE_CREDENTIAL = "NO_ACTIVE_CREDENTIAL"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderQuery:
    """Which providers are asked for; what is None does not restrict."""

    supporting: ModelType | None = None
    configured: bool | None = None
    search: str | None = None


def list_providers(configuration: Configuration, catalog: Catalog, query: ProviderQuery) -> list[Manifest]:
    """Return the providers that match, in the order of their manifests."""
    return [manifest for manifest in catalog.manifests() if _matches(configuration, manifest, query)]


def is_configured(configuration: Configuration, manifest: Manifest) -> bool:
    """Tell whether anything could serve the provider's models: something of the workspace's, or a hosted quota."""
    return (
        custom_status(configuration, manifest) is not CustomStatus.NO_CONFIGURE
        or system_status(configuration, manifest) is not SystemStatus.UNSUPPORTED
    )


def system_status(configuration: Configuration, manifest: Manifest) -> SystemStatus:
    """Return the state of hosted use: unsupported where the provider is not hosted or has no quota."""
    quotas = _quotas(configuration, manifest)
    if not quotas:
        return SystemStatus.UNSUPPORTED
    return SystemStatus.ACTIVE if any(quota.is_valid for quota in quotas) else SystemStatus.QUOTA_EXCEEDED


def custom_status(configuration: Configuration, manifest: Manifest) -> CustomStatus:
    """Return the state of the workspace's own use. A provider that needs no credential is always active."""
    if manifest.keyless or _active(configuration, manifest):
        return CustomStatus.ACTIVE
    has_credentials = any(one.provider == manifest.name for one in configuration.credentials.values())
    has_models = any(
        key.provider == manifest.name and row.source is ModelSource.CUSTOM for key, row in configuration.models.items()
    )
    return CustomStatus.NO_ACTIVE_CREDENTIAL if has_credentials or has_models else CustomStatus.NO_CONFIGURE


def active_credential_of(configuration: Configuration, manifest: Manifest) -> Credential | None:
    """Return the provider-level credential that serves its predefined and remote models."""
    active = configuration.provider(manifest.name).active_credential_id
    return configuration.credentials.get(active) if active is not None else None


def provider_type(configuration: Configuration, manifest: Manifest) -> ProviderType | None:
    """Return whose credentials its predefined models would use now; None where it has no models of its own."""
    if not manifest.methods & {ConfigurationMethod.PREDEFINED_MODEL, ConfigurationMethod.FETCH_FROM_REMOTE}:
        return None
    preferred, _ = preferred_type(configuration, manifest.name)
    quotas = _quotas(configuration, manifest)
    if preferred is ProviderType.CUSTOM or not quotas:
        return ProviderType.CUSTOM
    has_custom = active_credential_of(configuration, manifest) is not None
    return ProviderType.CUSTOM if has_custom and not any(quota.is_valid for quota in quotas) else ProviderType.SYSTEM


def provider_problem(configuration: Configuration, manifest: Manifest) -> ModelyardError | None:
    """Return what a call of any of its predefined models would meet now; None where they can be called."""
    kind = provider_type(configuration, manifest)
    if kind is None:
        return None
    if kind is ProviderType.SYSTEM:
        if system_status(configuration, manifest) is SystemStatus.ACTIVE:
            return None
        return used_up(manifest.name)
    credential = active_credential_of(configuration, manifest)
    if credential is not None:
        return credential_problem(credential)
    if manifest.keyless:
        return None
    if configuration.provider_credentials(manifest.name):
        return CredentialRemoved(f"No credential of {manifest.name} is active; `activateCredential` makes one.")
    return CredentialMissing(f"Nothing is configured for {manifest.name}; add a credential with `createCredential`.")


def _active(configuration: Configuration, manifest: Manifest) -> bool:
    """Tell whether a credential is active: the provider's where it has some, else any of its models'."""
    if configuration.provider_credentials(manifest.name):
        return active_credential_of(configuration, manifest) is not None
    return any(
        key.provider == manifest.name and row.active_credential_id is not None
        for key, row in configuration.models.items()
    )


def _quotas(configuration: Configuration, manifest: Manifest) -> list[Quota]:
    if manifest.name not in configuration.hosted:
        return []
    return [quota for quota in configuration.quotas if quota.provider in {None, manifest.name}]


def _matches(configuration: Configuration, manifest: Manifest, query: ProviderQuery) -> bool:
    text = (query.search or "").strip().lower()
    return (
        (query.supporting is None or query.supporting in manifest.model_types)
        and (query.configured is None or is_configured(configuration, manifest) is query.configured)
        and (not text or text in manifest.name or text in manifest.label.lower())
    )

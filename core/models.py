"""Use cases of models: add a custom one, switch one on and off; and what a model's state is."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from uuid import UUID

from core.access import Permission, Viewer, require, workspace_of
from core.app import App
from core.catalog import Catalog
from core.configuration import Configuration
from core.credentials import insert_credential
from core.entities import Credential, ModelRow, ModelSource
from core.errors import (
    CredentialRemoved,
    InvalidInput,
    ModelDisabled,
    ModelNotPermitted,
    ModelyardError,
    NotFound,
    QuotaExceeded,
)
from core.live import tell_differences
from core.model_types import ModelFeature, ModelKey, ModelType
from core.provider import ConfigurationMethod, Manifest
from core.resolve import Known, Request, find_model, resolve
from core.validation import check_values, provider_of, public_values

MAX_NAME = 200


class ModelStatus(StrEnum):
    """Whether a call of a model made now could be served, and if not, why."""

    ACTIVE = "ACTIVE"
    NO_CONFIGURE = "NO_CONFIGURE"
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED"
    NO_PERMISSION = "NO_PERMISSION"
    DISABLED = "DISABLED"
    CREDENTIAL_REMOVED = "CREDENTIAL_REMOVED"


_STATUSES: Mapping[type[ModelyardError], ModelStatus] = {
    ModelDisabled: ModelStatus.DISABLED,
    ModelNotPermitted: ModelStatus.NO_PERMISSION,
    QuotaExceeded: ModelStatus.QUOTA_EXCEEDED,
    CredentialRemoved: ModelStatus.CREDENTIAL_REMOVED,
}
"""Problems that are statuses; an INVALID or UNREADABLE credential leaves the model ACTIVE with a problem."""


def model_state(
    configuration: Configuration, catalog: Catalog, model: Known
) -> tuple[ModelStatus, ModelyardError | None]:
    """Return the status of a model and the problem that a call of it made now would meet."""
    problem = resolve(
        configuration,
        catalog,
        Request(type=model.key.type, provider=model.key.provider, name=model.key.name),
    ).problem
    return status_of(problem), problem


def status_of(problem: ModelyardError | None) -> ModelStatus:
    """Return the status that a route's problem means."""
    if problem is None:
        return ModelStatus.ACTIVE
    status = _STATUSES.get(type(problem))
    if status is not None:
        return status
    is_missing = problem.code == "CREDENTIAL_MISSING"
    return ModelStatus.NO_CONFIGURE if is_missing else ModelStatus.ACTIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelQuery:
    """Which models are asked for; what is None does not restrict."""

    type: ModelType | None = None
    provider: str | None = None
    status: tuple[ModelStatus, ...] | None = None
    features: tuple[ModelFeature, ...] = ()
    search: str | None = None
    include_deprecated: bool = False


def list_models(configuration: Configuration, catalog: Catalog, query: ModelQuery) -> list[Known]:
    """Return the workspace's models in the order of providers and manifests, then by name."""
    found: list[Known] = []
    provider = catalog.canonical(query.provider) if query.provider is not None else None
    for manifest in catalog.manifests():
        if query.provider is not None and manifest.name != provider:
            continue
        found += [model for model in _models_of(configuration, catalog, manifest) if _matches(model, query)]
    if query.status is not None:
        found = [model for model in found if model_state(configuration, catalog, model)[0] in query.status]
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class NewModel:
    """What is entered to add a custom model: its key, and either a kept credential's id or new values."""

    key: ModelKey
    label: str | None = None
    existing_id: UUID | None = None
    credential_name: str | None = None
    values: Mapping[str, str | None] | None = None
    verify: bool = True
    workspace_id: UUID | None = None


async def add_model(app: App, viewer: Viewer, new: NewModel) -> tuple[Configuration, Known]:
    """Make a custom model with its first credential; where it exists already, the credential is attached to it.

    Raises:
        InvalidInput: the provider takes no custom models, or not of this type, or a value breaks the form.
        CredentialInvalid: the provider refuses the credential; nothing was stored.
        NotFound: the kept credential is not there.
    """
    workspace_id = workspace_of(viewer, new.workspace_id)
    require(viewer, workspace_id, Permission.MODEL_MANAGE)
    require(viewer, workspace_id, Permission.CREDENTIAL_MANAGE)
    provider = provider_of(app, new.key.provider)
    key = _custom_key(provider.manifest, new.key)
    checked = await check_values(app, provider, key, new.values, verify=new.verify) if new.values is not None else None
    async with app.storage.transaction() as tx:
        await tx.workspaces.touch(workspace_id)
        before = await tx.configuration(workspace_id)
        if checked is not None:
            credential = await insert_credential(app, tx, before, key.provider, key, new.credential_name, checked)
            values = checked.values
        else:
            credential = _kept(before, key, new.existing_id)
            values = await app.vault.open(credential)
        row = before.models.get(key)
        if row is None or row.active_credential_id is None:
            row = ModelRow(
                key=key,
                source=ModelSource.CUSTOM,
                label=row.label if row is not None else None,
                active_credential_id=credential.id,
                form_values=public_values(provider.manifest, values),
            )
        if new.label is not None:
            row = replace(row, label=_label(new.label))
        await tx.models.put(workspace_id, row)
        await tx.audit.add(
            workspace_id=workspace_id,
            viewer=viewer,
            action="model.add",
            subject=f"Model:{key.provider}/{key.type}/{key.name}",
            summary=f"Added the model {key.name!r} of {key.provider} with the credential {credential.name!r}",
        )
        after = await tx.configuration(workspace_id)
        tell_differences(tx, before, after)
    return after, _known(app, after, key)


async def set_model_enabled(
    app: App, viewer: Viewer, workspace_id: UUID, key: ModelKey, *, enabled: bool
) -> tuple[Configuration, Known]:
    """Switch a model on or off for the workspace.

    Raises:
        NotFound: there is no such model of the viewer's.
    """
    require(viewer, workspace_id, Permission.MODEL_MANAGE)
    async with app.storage.transaction() as tx:
        await tx.workspaces.touch(workspace_id)
        before = await tx.configuration(workspace_id)
        _known(app, before, key)
        await tx.models.put_setting(workspace_id, replace(before.setting(key), enabled=enabled))
        await tx.audit.add(
            workspace_id=workspace_id,
            viewer=viewer,
            action="model.enable" if enabled else "model.disable",
            subject=f"Model:{key.provider}/{key.type}/{key.name}",
            summary=f"Switched the model {key.name!r} of {key.provider} {'on' if enabled else 'off'}",
        )
        after = await tx.configuration(workspace_id)
        tell_differences(tx, before, after)
    return after, _known(app, after, key)


def _models_of(configuration: Configuration, catalog: Catalog, manifest: Manifest) -> list[Known]:
    keys = [ModelKey(provider=manifest.name, name=card.name, type=card.type) for card in manifest.models]
    own = [key for key in configuration.models if key.provider == manifest.name and key not in set(keys)]
    known = [find_model(configuration, catalog, key) for key in (*keys, *sorted(own, key=lambda key: key.name))]
    present = [model for model in known if model is not None]
    return sorted(present, key=lambda model: (model.source is not ModelSource.PREDEFINED, model.card.position))


def _matches(model: Known, query: ModelQuery) -> bool:
    text = (query.search or "").strip().lower()
    return (
        (query.type is None or model.key.type is query.type)
        and (query.include_deprecated or not model.card.deprecated)
        and set(query.features) <= model.card.features
        and (not text or text in model.key.name.lower() or text in model.card.label.lower())
    )


def _custom_key(manifest: Manifest, key: ModelKey) -> ModelKey:
    if ConfigurationMethod.CUSTOMIZABLE_MODEL not in manifest.methods:
        raise InvalidInput(f"The provider {manifest.name} takes no custom models.", path=("model", "provider"))
    if key.type not in manifest.model_types:
        raise InvalidInput(f"The provider {manifest.name} has no models of type {key.type}.", path=("model", "type"))
    name = key.name.strip()
    if not name or len(name) > MAX_NAME:
        raise InvalidInput(f"A model's name has 1 to {MAX_NAME} characters.", path=("model", "name"))
    if manifest.model(name, key.type) is not None:
        raise InvalidInput(
            f"{manifest.name} has a predefined model {name!r}; `createCredential` with `model` gives it its own key.",
            path=("model", "name"),
        )
    return ModelKey(provider=manifest.name, name=name, type=key.type)


def _kept(configuration: Configuration, key: ModelKey, credential_id: UUID | None) -> Credential:
    credential = configuration.credentials.get(credential_id) if credential_id is not None else None
    if credential is None:
        raise NotFound("There is no such credential, or it is not one of yours.", path=("credential", "existingId"))
    if credential.model != key:
        raise InvalidInput(
            f"The credential {credential.name!r} was made for another model.", path=("credential", "existingId")
        )
    return credential


def _label(label: str) -> str | None:
    label = label.strip()
    if len(label) > MAX_NAME:
        raise InvalidInput(f"A label has at most {MAX_NAME} characters.", path=("label",))
    return label or None


def _known(app: App, configuration: Configuration, key: ModelKey) -> Known:
    known = find_model(configuration, app.catalog, key)
    if known is None:
        raise NotFound("There is no such model, or it is not one of yours.", path=("id",))
    return known

"""Use cases of models: add, label, remove, switch and price them; and what a model's state is."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any
from uuid import UUID

from core.access import Permission, Viewer, require, workspace_of
from core.app import App
from core.audit import changes
from core.catalog import Catalog
from core.changing import changing
from core.configuration import Configuration
from core.credentials import check_name, described_by, insert_credential
from core.entities import Credential, ModelRow, ModelSource
from core.errors import (
    CredentialRemoved,
    Forbidden,
    InvalidInput,
    ModelDisabled,
    ModelNotPermitted,
    ModelyardError,
    NotFound,
    QuotaExceeded,
)
from core.model_types import ModelFeature, ModelKey, ModelType
from core.ports.transaction import Transaction
from core.pricing import check_pricing, plain
from core.provider import ConfigurationMethod, Manifest, Pricing
from core.resolve import Known, Request, find_model, route_of
from core.validation import check_values, provider_of

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
    asked = Request(type=model.key.type, provider=model.key.provider, name=model.key.name)
    problem = route_of(configuration, catalog, model, asked).problem
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


def place_of(model: Known) -> tuple[int | str, ...]:
    """Return where a model stands in lists: by provider, the manifest's in their order, then the others by name."""
    is_predefined = model.source is ModelSource.PREDEFINED
    return (
        model.manifest.position,
        model.manifest.name,
        0 if is_predefined else 1,
        model.card.position if is_predefined else 0,
        model.key.name,
        model.key.type.value,
    )


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
    """Make a custom model with its first credential; where a model is there already, the credential is attached to it.

    Raises:
        InvalidInput: the provider takes no custom models, or not of this type, or a value breaks the form.
        CredentialInvalid: the provider refuses the credential; nothing was stored.
        NotFound: the kept credential is not there.
    """
    workspace_id = workspace_of(viewer, new.workspace_id)
    require(viewer, workspace_id, Permission.MODEL_MANAGE)
    require(viewer, workspace_id, Permission.CREDENTIAL_MANAGE)
    provider = provider_of(app, new.key.provider, path=("model", "provider"))
    key, label = _custom_key(provider.manifest, new.key), _label(new.label)
    check_name(new.credential_name)
    checked = await check_values(app, provider, key, new.values, verify=new.verify) if new.values is not None else None
    async with changing(app, workspace_id) as change:
        tx, before = change.tx, change.before
        row = _row(app, before, key)
        if label is not None:
            row = replace(row, label=_own_label(row, label))
        if checked is not None:
            credential = await insert_credential(app, tx, before, key.provider, key, new.credential_name, checked)
            values = checked.values
        else:
            credential = _kept(before, key, new.existing_id)
            values = await app.vault.open(credential)
        if row.active_credential_id is None:
            row = described_by(provider.manifest, row, credential, values)
        await tx.models.put(workspace_id, row)
        await tx.audit.add(
            workspace_id=workspace_id,
            viewer=viewer,
            action="model.add",
            subject=_subject(key),
            summary=f"Added the model {key.name!r} of {key.provider} with the credential {credential.name!r}",
            changes=changes(name=(None, key.name), label=(None, row.label)),
        )
    return change.after, _known(app, change.after, key)


async def manageable_model(app: App, viewer: Viewer, workspace_id: UUID, key: ModelKey) -> tuple[Configuration, Known]:
    """Return a model as it is to one who may change it. NotFound if there is none of the viewer's."""
    require(viewer, workspace_id, Permission.MODEL_MANAGE)
    configuration = await app.configurations.get(workspace_id)
    return configuration, _known(app, configuration, key)


async def update_model(
    app: App, viewer: Viewer, workspace_id: UUID, key: ModelKey, label: str | None
) -> tuple[Configuration, Known]:
    """Change the label of a custom model; None shows its name again.

    Raises:
        NotFound: there is no such model of the viewer's.
        InvalidInput: it is no custom model, or the label is too long.
    """
    label = _label(label)

    async def relabel(tx: Transaction, known: Known, before: Configuration) -> Note:
        row = _row(app, before, key)
        await tx.models.put(workspace_id, replace(row, label=_own_label(row, label)))
        return Note(
            action="model.update",
            summary=f"Called the model {key.name!r} of {key.provider} {label or key.name!r}",
            changes=changes(label=(row.label, label)),
        )

    return await _changed(app, viewer, workspace_id, key, relabel)


async def remove_model(app: App, viewer: Viewer, workspace_id: UUID, key: ModelKey) -> tuple[Configuration, Manifest]:
    """Take a custom model off the list with its settings; its credentials are kept until the last is deleted.

    Raises:
        NotFound: there is no such model of the viewer's.
        InvalidInput: it is no custom model.
    """
    require(viewer, workspace_id, Permission.MODEL_MANAGE)
    async with changing(app, workspace_id) as change:
        tx, before = change.tx, change.before
        known = _known(app, before, key)
        if known.source is not ModelSource.CUSTOM:
            raise InvalidInput(
                f"{key.name!r} is not a custom model: `setModelEnabled` switches it off instead.", path=("id",)
            )
        await tx.models.delete(workspace_id, key)
        await tx.audit.add(
            workspace_id=workspace_id,
            viewer=viewer,
            action="model.remove",
            subject=_subject(key),
            summary=f"Removed the model {key.name!r} of {key.provider}; its credentials are kept",
            changes=changes(name=(key.name, None)),
        )
    return change.after, known.manifest


async def set_model_enabled(
    app: App, viewer: Viewer, workspace_id: UUID, key: ModelKey, *, enabled: bool
) -> tuple[Configuration, Known]:
    """Switch a model on or off for the workspace.

    Raises:
        NotFound: there is no such model of the viewer's.
    """

    async def switch(tx: Transaction, known: Known, before: Configuration) -> Note:
        setting = before.setting(key)
        await tx.models.put_setting(workspace_id, replace(setting, enabled=enabled))
        return Note(
            action="model.enable" if enabled else "model.disable",
            summary=f"Switched the model {key.name!r} of {key.provider} {'on' if enabled else 'off'}",
            changes=changes(enabled=(setting.enabled, enabled)),
        )

    return await _changed(app, viewer, workspace_id, key, switch)


async def set_model_pricing(
    app: App, viewer: Viewer, workspace_id: UUID, key: ModelKey, pricing: Pricing | None
) -> tuple[Configuration, Known]:
    """Set the workspace's own price of a model; None returns to the manifest's.

    Raises:
        NotFound: there is no such model of the viewer's.
        Forbidden: the viewer's token has a budget.
        InvalidInput: the price is none; the path names what is wrong of it.
    """
    if pricing is not None:
        check_pricing(pricing)
        pricing = replace(pricing, overridden=True)

    async def price(tx: Transaction, known: Known, before: Configuration) -> Note:
        if viewer.allowance is not None and viewer.allowance.budget_id is not None:
            raise Forbidden("Your token has a budget, which prices draw on: set them with one that has none.")
        setting = before.setting(key)
        await tx.models.put_setting(workspace_id, replace(setting, pricing=pricing))
        done = "Set" if pricing is not None else "Cleared"
        return Note(
            action="model.price",
            summary=f"{done} the price of the model {key.name!r} of {key.provider}",
            changes=changes(pricing=(_told(setting.pricing), _told(pricing))),
        )

    return await _changed(app, viewer, workspace_id, key, price)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedModel:
    """A custom model that was taken off the list, with the credentials that are kept, oldest first."""

    key: ModelKey
    credentials: tuple[Credential, ...]


def removed_models(configuration: Configuration, catalog: Catalog, provider: str) -> list[RemovedModel]:
    """Return the models of a provider that are gone while credentials of theirs are kept, by name and type."""
    kept: dict[ModelKey, list[Credential]] = {}
    for credential in configuration.credentials.values():
        if credential.provider == provider and credential.model is not None:
            kept.setdefault(credential.model, []).append(credential)
    return [
        RemovedModel(key=key, credentials=tuple(kept[key]))
        for key in sorted(kept, key=lambda key: (key.name, key.type))
        if find_model(configuration, catalog, key) is None
    ]


# ---- steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What the audit log says of a change."""

    action: str
    summary: str
    changes: Mapping[str, Any] | None = None


async def _changed(
    app: App,
    viewer: Viewer,
    workspace_id: UUID,
    key: ModelKey,
    work: Callable[[Transaction, Known, Configuration], Awaitable[Note]],
) -> tuple[Configuration, Known]:
    """Change one known model in a transaction, and return it as it is then."""
    require(viewer, workspace_id, Permission.MODEL_MANAGE)
    async with changing(app, workspace_id) as change:
        tx, before = change.tx, change.before
        note = await work(tx, _known(app, before, key), before)
        await tx.audit.add(
            workspace_id=workspace_id,
            viewer=viewer,
            action=note.action,
            subject=_subject(key),
            summary=note.summary,
            changes=note.changes,
        )
    return change.after, _known(app, change.after, key)


def _subject(key: ModelKey) -> str:
    return f"Model:{key.provider}/{key.type}/{key.name}"


def _row(app: App, configuration: Configuration, key: ModelKey) -> ModelRow:
    """Return the row of a model; of one that is not known, that of a new custom model."""
    known, row = find_model(configuration, app.catalog, key), configuration.models.get(key)
    if known is not None and row is not None:
        return row
    source = known.source if known is not None else ModelSource.CUSTOM
    return ModelRow(key=key, source=source, label=None, active_credential_id=None)


def _models_of(configuration: Configuration, catalog: Catalog, manifest: Manifest) -> list[Known]:
    keys = dict.fromkeys(ModelKey(provider=manifest.name, name=card.name, type=card.type) for card in manifest.models)
    hosted = configuration.hosted.get(manifest.name)
    listed = hosted.models or {} if hosted is not None else {}
    own = [key for key in configuration.models if key.provider == manifest.name]
    known = (find_model(configuration, catalog, key) for key in dict.fromkeys((*keys, *listed, *own)))
    return sorted((model for model in known if model is not None), key=place_of)


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


def _label(label: str | None) -> str | None:
    label = (label or "").strip()
    if len(label) > MAX_NAME:
        raise InvalidInput(f"A label has at most {MAX_NAME} characters.", path=("label",))
    return label or None


def _own_label(row: ModelRow, label: str | None) -> str | None:
    if row.source is not ModelSource.CUSTOM:
        raise InvalidInput(f"{row.key.name!r} is not a custom model: its label is its provider's.", path=("label",))
    return label


def _told(pricing: Pricing | None) -> dict[str, Any] | None:
    """Return a price as the audit log has it."""
    if pricing is None:
        return None
    amounts = {"input": pricing.input, "output": pricing.output, "cachedInput": pricing.cached_input}
    amounts["cacheWrite"] = pricing.cache_write
    told = {name: plain(amount) for name, amount in amounts.items() if amount is not None}
    return {"currency": pricing.currency, "unit": pricing.unit.value, **told}


def _known(app: App, configuration: Configuration, key: ModelKey) -> Known:
    known = find_model(configuration, app.catalog, key)
    if known is None:
        raise NotFound("There is no such model, or it is not one of yours.", path=("id",))
    return known

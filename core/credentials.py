"""Use cases of credentials: create, activate, delete, validate."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from core.access import Permission, Viewer, require, workspace_of
from core.app import App
from core.changes import Change, Noun
from core.configuration import Configuration
from core.entities import Credential, CredentialStatus, ModelRow, ModelSource
from core.errors import (
    AlreadyExists,
    Conflict,
    CredentialInvalid,
    InvalidInput,
    ModelNotFound,
    ModelyardError,
    NotFound,
    Problem,
    UpstreamAuthentication,
    UpstreamBadRequest,
    UpstreamModelNotFound,
    UpstreamPermission,
)
from core.forms import check_form
from core.ids import uuid7
from core.jobs import ValidateCredential
from core.live import tell_differences
from core.manifest_files import custom_card
from core.model_types import ModelKey, ModelType
from core.ports import Transaction
from core.provider import ConfigurationMethod, FormFieldType, Manifest, ModelCard, Provider, Values
from core.resolve import find_model
from core.wire.egress import normalise_base_url

log = logging.getLogger(__name__)

MAX_NAME = 64

DEFINITE = (UpstreamAuthentication, UpstreamPermission, UpstreamModelNotFound, UpstreamBadRequest, InvalidInput)
"""What a provider says when the credential itself is wrong; anything else leaves it undecided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelName:
    """A model within a provider."""

    name: str
    type: ModelType


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCredential:
    """What is entered for a credential; `name` None takes the next "API key N"."""

    provider: str
    values: Mapping[str, str | None]
    model: ModelName | None = None
    name: str | None = None
    verify: bool = True
    workspace_id: UUID | None = None


async def create_credential(app: App, viewer: Viewer, new: NewCredential) -> tuple[Configuration, Credential]:
    """Store a credential, verified first unless told otherwise; the first of its provider or model becomes active.

    Raises:
        InvalidInput: a value breaks the form's rules, or the provider does not offer credentials of this level.
        CredentialInvalid: the provider refuses it; nothing was stored.
        AlreadyExists: the name is taken.
    """
    workspace_id = workspace_of(viewer, new.workspace_id)
    require(viewer, workspace_id, Permission.CREDENTIAL_MANAGE)
    provider = _provider(app, new.provider)
    configuration = await app.configurations.get(workspace_id)
    key = _model_key(provider.manifest, new.model)
    if key is not None and find_model(configuration, app.catalog, key) is None:
        raise ModelNotFound(
            f"There is no model {key.name!r} of type {key.type} at {key.provider} here; `addModel` adds a custom one "
            "with its first credential.",
            path=("model",),
        )
    checked = await check_values(app, provider, key, new.values, verify=new.verify)
    async with app.storage.transaction() as tx:
        await tx.workspaces.touch(workspace_id)
        before = await tx.configuration(workspace_id)
        credential = await insert_credential(app, tx, before, provider.manifest.name, key, new.name, checked)
        await activate_first(tx, before, credential)
        await tx.audit.add(
            workspace_id=workspace_id,
            viewer=viewer,
            action="credential.create",
            subject=f"Credential:{credential.id}",
            summary=f"Created the credential {credential.name!r} of {credential.provider}",
        )
        after = await tx.configuration(workspace_id)
        tell_differences(tx, before, after)
    return after, after.credentials[credential.id]


async def activate_credential(app: App, viewer: Viewer, credential_id: UUID) -> tuple[Configuration, Credential]:
    """Make a credential the one that serves its provider, or its model.

    Raises:
        NotFound: there is no such credential of the viewer's.
        Conflict: its custom model was removed.
    """
    async with app.storage.transaction() as tx:
        workspace_id, credential = await locate(tx, viewer, credential_id, Permission.CREDENTIAL_MANAGE)
        await tx.workspaces.touch(workspace_id)
        configuration = await tx.configuration(workspace_id)
        credential = _present(configuration, credential_id)
        if credential.model is None:
            await tx.providers.set_active(workspace_id, credential.provider, credential.id)
        else:
            known = find_model(configuration, app.catalog, credential.model)
            if known is None:
                raise Conflict(
                    f"The model {credential.model.name!r} was removed; `addModel` with this credential's id as "
                    "`existingId` adds it again.",
                    path=("id",),
                )
            await tx.models.put(workspace_id, await _described(app, configuration, credential, known.source))
        await tx.audit.add(
            workspace_id=workspace_id,
            viewer=viewer,
            action="credential.activate",
            subject=f"Credential:{credential.id}",
            summary=f"Made the credential {credential.name!r} of {credential.provider} the active one",
        )
        after = await tx.configuration(workspace_id)
        tell_differences(tx, configuration, after)
    return after, after.credentials[credential_id]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted:
    """What went with a credential: `removed_model` is the custom model whose last credential it was."""

    configuration: Configuration
    credential: Credential
    removed_model: ModelKey | None


async def delete_credential(app: App, viewer: Viewer, credential_id: UUID) -> Deleted:
    """Delete a credential; nothing is made active in its place. A custom model goes with its last one.

    Raises:
        NotFound: there is no such credential of the viewer's.
    """
    async with app.storage.transaction() as tx:
        workspace_id, _ = await locate(tx, viewer, credential_id, Permission.CREDENTIAL_MANAGE)
        await tx.workspaces.touch(workspace_id)
        before = await tx.configuration(workspace_id)
        credential = _present(before, credential_id)
        await tx.credentials.delete(workspace_id, credential_id)
        removed = None
        if credential.model is not None and len(before.model_credentials(credential.model)) == 1:
            removed = await _without_credentials(tx, before, credential.model)
        await tx.audit.add(
            workspace_id=workspace_id,
            viewer=viewer,
            action="credential.delete",
            subject=f"Credential:{credential.id}",
            summary=f"Deleted the credential {credential.name!r} of {credential.provider}",
        )
        after = await tx.configuration(workspace_id)
        tell_differences(tx, before, after)
    return Deleted(configuration=after, credential=credential, removed_model=removed)


async def run_validation(app: App, workspace_id: UUID, credential_id: UUID, version: int) -> None:
    """Ask the provider whether a stored credential works, and write down the answer.

    Only a definite refusal makes it INVALID; what is undecided leaves the status it had, with a problem. A credential
    that was changed since is left to the validation that its change asked for.
    """
    async with app.storage.read() as tx:
        credential = await tx.credentials.get(workspace_id, credential_id)
    if credential is None or credential.version != version:
        return
    before = credential.status
    await _set_status(app, credential, CredentialStatus.VALIDATING, None, credential.validated_at)
    status, problem = await _ask(app, credential, before)
    validated_at = app.clock.now() if status in {CredentialStatus.VALID, CredentialStatus.INVALID} else None
    await _set_status(app, credential, status, problem, validated_at or credential.validated_at)


# ---- shared with models


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """Values that passed the form, and whether the provider has accepted them."""

    values: Values
    status: CredentialStatus
    validated_at: datetime | None


async def check_values(
    app: App, provider: Provider, key: ModelKey | None, given: Mapping[str, str | None], *, verify: bool
) -> Checked:
    """Check what was entered against the form and, with `verify`, against the provider. Nothing is stored here."""
    manifest = provider.manifest
    form = manifest.credential_form if key is None else manifest.model_credential_form
    values = check_form(
        form, given, key.type if key is not None else None, normalise_url=lambda text: _address(app, text)
    )
    if not verify:
        return Checked(values=values, status=CredentialStatus.UNVERIFIED, validated_at=None)
    try:
        await provider.validate(values, key, _card(manifest, key, values))
    except InvalidInput:
        raise
    except DEFINITE as refusal:
        raise CredentialInvalid(refusal.message, path=("values",)) from refusal
    return Checked(values=values, status=CredentialStatus.VALID, validated_at=app.clock.now())


async def insert_credential(
    app: App,
    tx: Transaction,
    configuration: Configuration,
    provider: str,
    key: ModelKey | None,
    name: str | None,
    checked: Checked,
) -> Credential:
    """Seal the values and insert them as a new credential; an unverified one gets its validation job."""
    workspace_id = configuration.workspace_id
    siblings = configuration.provider_credentials(provider) if key is None else configuration.model_credentials(key)
    credential_id, now = uuid7(), app.clock.now()
    credential = Credential(
        id=credential_id,
        workspace_id=workspace_id,
        provider=provider,
        model=key,
        name=_name(name, {sibling.name for sibling in siblings}),
        status=checked.status,
        problem=None,
        sealed=await app.vault.seal(tx, workspace_id, credential_id, checked.values),
        version=1,
        validated_at=checked.validated_at,
        last_used_at=None,
        created_at=now,
        updated_at=now,
    )
    try:
        await tx.credentials.insert(credential)
    except AlreadyExists:
        raise AlreadyExists(
            f"A credential named {credential.name!r} is there already; choose another name.", path=("name",)
        ) from None
    if checked.status is CredentialStatus.UNVERIFIED:
        await tx.outbox.add(ValidateCredential(workspace_id=workspace_id, credential_id=credential_id, version=1))
    return credential


async def activate_first(tx: Transaction, before: Configuration, credential: Credential) -> None:
    """Make a new credential active where its provider, or its predefined model, has none yet."""
    if credential.model is None:
        if before.provider(credential.provider).active_credential_id is None:
            await tx.providers.set_active(before.workspace_id, credential.provider, credential.id)
        return
    row = before.models.get(credential.model)
    if row is None:
        row = ModelRow(key=credential.model, source=ModelSource.PREDEFINED, label=None, active_credential_id=None)
    if row.active_credential_id is None:
        await tx.models.put(before.workspace_id, replace(row, active_credential_id=credential.id))


def public_values(manifest: Manifest, values: Values) -> dict[str, str]:
    """Return the values that describe a custom model: neither secrets nor addresses."""
    hidden = {field.name for field in manifest.model_credential_form if field.type in _NOT_PUBLIC}
    return {name: value for name, value in values.items() if name not in hidden and isinstance(value, str)}


async def locate(
    tx: Transaction, viewer: Viewer, credential_id: UUID, permission: Permission
) -> tuple[UUID, Credential]:
    """Return a credential and its workspace among the viewer's, if their role there allows it."""
    for workspace_id in viewer.memberships:
        credential = await tx.credentials.get(workspace_id, credential_id)
        if credential is not None:
            require(viewer, workspace_id, permission)
            return workspace_id, credential
    raise NotFound("There is no such credential, or it is not one of yours.", path=("id",))


def provider_of(app: App, name: str) -> Provider:
    """Return a provider by any of its names. NotFound if there is none."""
    return _provider(app, name)


def _address(app: App, text: str) -> str:
    """Return an entered base URL in its canonical form, if this installation may ever call it."""
    url = normalise_base_url(text)
    app.egress.check_url(url)
    return url


_NOT_PUBLIC = (FormFieldType.SECRET, FormFieldType.URL)


def _provider(app: App, name: str) -> Provider:
    canonical = app.catalog.canonical(name)
    provider = app.catalog.provider(canonical) if canonical is not None else None
    if provider is None:
        raise NotFound(f"There is no provider {name!r}.", path=("provider",))
    return provider


def _model_key(manifest: Manifest, model: ModelName | None) -> ModelKey | None:
    if model is None:
        if ConfigurationMethod.PREDEFINED_MODEL not in manifest.methods:
            raise InvalidInput(
                f"The provider {manifest.name} has a credential per model: name the `model`, or use `addModel`.",
                path=("model",),
            )
        return None
    if not manifest.model_credential_form:
        raise InvalidInput(f"The provider {manifest.name} has no credentials of single models.", path=("model",))
    return ModelKey(provider=manifest.name, name=model.name, type=model.type)


def _card(manifest: Manifest, key: ModelKey | None, values: Values) -> ModelCard | None:
    if key is None:
        return None
    return manifest.model(key.name, key.type) or custom_card(
        manifest, key.name, key.type, public_values(manifest, values)
    )


def _name(name: str | None, taken: set[str]) -> str:
    if name is None:
        return next(text for number in range(1, len(taken) + 2) if (text := f"API key {number}") not in taken)
    name = name.strip()
    if not name or len(name) > MAX_NAME:
        raise InvalidInput(f"A name has 1 to {MAX_NAME} characters.", path=("name",))
    return name


def _present(configuration: Configuration, credential_id: UUID) -> Credential:
    credential = configuration.credentials.get(credential_id)
    if credential is None:
        raise NotFound("There is no such credential, or it is not one of yours.", path=("id",))
    return credential


async def _described(app: App, configuration: Configuration, credential: Credential, source: ModelSource) -> ModelRow:
    """Return the row of a model whose active credential is this one; a custom model is described by its values."""
    assert credential.model is not None
    row = configuration.models.get(credential.model) or ModelRow(
        key=credential.model, source=source, label=None, active_credential_id=None
    )
    if source is not ModelSource.CUSTOM:
        return replace(row, active_credential_id=credential.id)
    manifest = _provider(app, credential.provider).manifest
    values = await app.vault.open(credential)
    return replace(row, active_credential_id=credential.id, form_values=public_values(manifest, values))


async def _without_credentials(tx: Transaction, before: Configuration, key: ModelKey) -> ModelKey | None:
    """Remove a custom model that has no credential left; a predefined one returns to the provider's key."""
    row = before.models.get(key)
    if row is None or row.source is not ModelSource.CUSTOM:
        return None
    await tx.models.delete(before.workspace_id, key)
    return key


async def _ask(app: App, credential: Credential, before: CredentialStatus) -> tuple[CredentialStatus, Problem | None]:
    undecided = CredentialStatus.UNVERIFIED if before is CredentialStatus.VALIDATING else before
    try:
        provider = _provider(app, credential.provider)
        values = await app.vault.open(credential)
        await provider.validate(values, credential.model, _card(provider.manifest, credential.model, values))
    except DEFINITE as refusal:
        return CredentialStatus.INVALID, Problem.of(refusal)
    except ModelyardError as failure:
        return undecided, Problem.of(failure)
    return CredentialStatus.VALID, None


async def _set_status(
    app: App,
    credential: Credential,
    status: CredentialStatus,
    problem: Problem | None,
    validated_at: datetime | None,
) -> None:
    workspace_id = credential.workspace_id
    async with app.storage.transaction() as tx:
        is_set = await tx.credentials.set_status(
            workspace_id,
            credential.id,
            version=credential.version,
            status=status,
            problem=problem,
            validated_at=validated_at,
        )
        if is_set:
            key = str(credential.id)
            tx.news.add(Change(workspace_id=workspace_id, noun=Noun.CREDENTIAL, key=key, status=status.value))
            tx.news.add(Change(workspace_id=workspace_id, noun=Noun.PROVIDER, key=credential.provider))

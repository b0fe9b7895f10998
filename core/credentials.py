"""Use cases of credentials: create, update, activate, validate, delete; and the preferred type of a provider."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from core.access import Permission, Viewer, require, workspace_of
from core.app import App
from core.audit import changes
from core.changing import changing
from core.configuration import Configuration
from core.entities import Credential, CredentialStatus, ModelRow, ModelSource
from core.errors import AlreadyExists, Conflict, CredentialUnreadable, InvalidInput, ModelNotFound, NotFound
from core.ids import uuid7
from core.jobs import ValidateCredential
from core.model_types import ModelKey, ModelType
from core.model_types.llm import ProviderType
from core.ports.transaction import Transaction
from core.provider import ConfigurationMethod, Manifest, Values
from core.resolve import find_model
from core.secret import Secret
from core.validation import Checked, check_values, let_try, provider_of, public_values, validate

MAX_NAME = 64
OWN_MODELS = frozenset({ConfigurationMethod.PREDEFINED_MODEL, ConfigurationMethod.FETCH_FROM_REMOTE})
"""The methods by which one credential serves models of the provider's own."""

_UNSETTLED = frozenset({CredentialStatus.UNVERIFIED, CredentialStatus.VALIDATING})


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
    check_name(new.name)
    provider = provider_of(app, new.provider)
    configuration = await app.configurations.get(workspace_id)
    key = _model_key(provider.manifest, new.model)
    if key is not None and find_model(configuration, app.catalog, key) is None:
        raise ModelNotFound(
            f"There is no model {key.name!r} of type {key.type} at {key.provider} here; `addModel` adds a custom one "
            "with its first credential.",
            path=("model",),
        )
    checked = await check_values(app, provider, key, new.values, verify=new.verify)
    async with changing(app, workspace_id) as change:
        tx, before = change.tx, change.before
        credential = await insert_credential(app, tx, before, provider.manifest.name, key, new.name, checked)
        await _activate_first(app, tx, before, credential, checked.values)
        await tx.audit.add(
            workspace_id=workspace_id,
            viewer=viewer,
            action="credential.create",
            subject=f"Credential:{credential.id}",
            summary=f"Created the credential {credential.name!r} of {credential.provider}",
            changes=changes(name=(None, credential.name)),
        )
    return change.after, change.after.credentials[credential.id]


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialUpdate:
    """What is to change of a credential: `values` over those stored, and its name where it `is_renamed`.

    Renamed to None it takes the next "API key N". A value None clears an optional field.
    """

    values: Mapping[str, str | None] | None = None
    name: str | None = None
    is_renamed: bool = False
    verify: bool = True
    expected_version: int | None = None


async def update_credential(
    app: App, viewer: Viewer, workspace_id: UUID, credential_id: UUID, update: CredentialUpdate
) -> tuple[Configuration, Credential]:
    """Change a credential's name and values. New values are verified before anything is stored, unless told otherwise.

    Raises:
        NotFound: there is no such credential of the viewer's.
        InvalidInput: a value breaks the form's rules, or a secret would travel to another host.
        CredentialInvalid: the provider refuses the new values; nothing was stored.
        AlreadyExists: the name is taken.
        Conflict: it is not of the expected version, or was changed meanwhile.
    """
    async with app.storage.read() as tx:
        old = await _located(tx, viewer, workspace_id, credential_id)
    if update.expected_version not in {None, old.version}:
        raise _changed_meanwhile(old.version, path=("expectedVersion",))
    if update.is_renamed:
        check_name(update.name)
    stored = await _stored(app, old) if update.values else None
    checked = None
    if update.values:
        provider = provider_of(app, old.provider)
        checked = await check_values(app, provider, old.model, update.values, verify=update.verify, stored=stored)
    async with changing(app, workspace_id) as change:
        tx, before = change.tx, change.before
        present = await tx.credentials.get(workspace_id, credential_id)  # with its status as it is stored
        if present is None:
            raise _unknown()
        if present.version != old.version:
            raise _changed_meanwhile(present.version, path=("id",))
        name = _name(update.name, _taken(before, present)) if update.is_renamed else present.name
        new = await _updated(app, tx, present, name, checked)
        if not await _put(tx, new, old.version):
            raise _changed_meanwhile(present.version, path=("id",))
        if checked is not None:
            await _describe_model(app, tx, before, new, checked.values)
        await tx.audit.add(
            workspace_id=workspace_id,
            viewer=viewer,
            action="credential.update",
            subject=f"Credential:{new.id}",
            summary=f"Changed the credential {new.name!r} of {new.provider}",
            changes=_diff(present, new, stored or {}, checked),
        )
    if checked is not None and checked.status is CredentialStatus.VALID:
        await let_try(app, workspace_id, credential_id, is_new=True)
    return change.after, change.after.credentials[credential_id]


async def activate_credential(
    app: App, viewer: Viewer, workspace_id: UUID, credential_id: UUID
) -> tuple[Configuration, Credential]:
    """Make a credential the one that serves its provider, or its model.

    Raises:
        NotFound: there is no such credential of the viewer's.
        Conflict: its custom model was removed.
    """
    async with app.storage.read() as tx:
        credential = await _located(tx, viewer, workspace_id, credential_id)
    await _stored(app, credential)  # its key is at hand then, and the transaction needs no second connection for it
    async with changing(app, workspace_id) as change:
        tx, before = change.tx, change.before
        credential = _present(before, credential_id)
        if credential.model is None:
            await tx.providers.set_active(workspace_id, credential.provider, credential.id)
        else:
            await tx.models.put(workspace_id, await _served_by(app, before, credential))
        await tx.audit.add(
            workspace_id=workspace_id,
            viewer=viewer,
            action="credential.activate",
            subject=f"Credential:{credential.id}",
            summary=f"Made the credential {credential.name!r} of {credential.provider} the active one",
            changes=changes(activeCredential=(_active_name(before, credential), credential.name)),
        )
    return change.after, change.after.credentials[credential_id]


async def validate_credential(
    app: App, viewer: Viewer, workspace_id: UUID, credential_id: UUID
) -> tuple[Configuration, Credential]:
    """Ask the provider now whether a credential works, and return it with what is known of it then.

    Raises:
        NotFound: there is no such credential of the viewer's, or it was deleted meanwhile.
    """
    async with app.storage.read() as tx:
        credential = await _located(tx, viewer, workspace_id, credential_id)
    await validate(app, workspace_id, credential_id, credential.version)
    configuration = await app.configurations.get(workspace_id)
    validated = _present(configuration, credential_id)
    async with app.storage.transaction() as tx:
        await tx.audit.add(
            workspace_id=workspace_id,
            viewer=viewer,
            action="credential.validate",
            subject=f"Credential:{credential.id}",
            summary=f"Had the credential {credential.name!r} of {credential.provider} validated",
            changes=changes(status=(credential.status, validated.status)),
        )
    return configuration, validated


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted:
    """What went with a credential: `removed_model` is the custom model whose last it was, `pools` those it stood in."""

    configuration: Configuration
    credential: Credential
    removed_model: ModelKey | None
    pools: tuple[ModelKey, ...]


async def delete_credential(app: App, viewer: Viewer, workspace_id: UUID, credential_id: UUID) -> Deleted:
    """Delete a credential; nothing is made active in its place. A custom model goes with its last one.

    Raises:
        NotFound: there is no such credential of the viewer's.
    """
    async with app.storage.read() as tx:
        await _located(tx, viewer, workspace_id, credential_id)
    async with changing(app, workspace_id) as change:
        tx, before = change.tx, change.before
        credential = _present(before, credential_id)
        stood_in = [
            pool for pool in before.pools.values() if credential_id in {one.credential_id for one in pool.members}
        ]
        for pool in stood_in:
            await tx.pools.put(workspace_id, pool.without(credential_id))
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
            changes=changes(name=(credential.name, None)),
        )
    return Deleted(
        configuration=change.after,
        credential=credential,
        removed_model=removed,
        pools=tuple(pool.key for pool in stood_in),
    )


async def set_preferred_type(
    app: App, viewer: Viewer, workspace_id: UUID | None, provider: str, preferred: ProviderType | None
) -> tuple[Configuration, Manifest]:
    """Store whose credentials a provider's models prefer; None stores no choice.

    Raises:
        InvalidInput: SYSTEM, where the installation does not host the provider.
        NotFound: there is no such provider.
    """
    workspace_id = workspace_of(viewer, workspace_id)
    require(viewer, workspace_id, Permission.PROVIDER_MANAGE)
    manifest = provider_of(app, provider).manifest
    async with changing(app, workspace_id) as change:
        tx, before = change.tx, change.before
        if preferred is ProviderType.SYSTEM and manifest.name not in before.hosted:
            raise InvalidInput(
                f"This installation does not host {manifest.name}: choose CUSTOM, or null for no choice.",
                path=("type",),
            )
        await tx.providers.set_preferred(workspace_id, manifest.name, preferred)
        await tx.audit.add(
            workspace_id=workspace_id,
            viewer=viewer,
            action="provider.prefer",
            subject=f"Provider:{manifest.name}",
            summary=f"Chose {preferred} for {manifest.name}"
            if preferred
            else f"Cleared the choice for {manifest.name}",
            changes={"preferredType": {"from": before.provider(manifest.name).preferred_type, "to": preferred}},
        )
    return change.after, manifest


# ---- shared with models


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
        form_values=_form_values(app, provider, key, checked),
    )
    try:
        await tx.credentials.insert(credential)
    except AlreadyExists:
        raise _name_taken(credential.name) from None
    if checked.status is CredentialStatus.UNVERIFIED:
        await tx.outbox.add(_validation_of(credential))
    return credential


def described_by(manifest: Manifest, row: ModelRow, credential: Credential, values: Values) -> ModelRow:
    """Return the row of a model whose active credential is this one; a custom model is described by its values."""
    row = replace(row, active_credential_id=credential.id)
    if row.source is not ModelSource.CUSTOM:
        return row
    return replace(row, form_values=public_values(manifest, values))


def check_name(name: str | None) -> None:
    """Let a name for a credential pass. InvalidInput if it is none."""
    if name is not None and not 1 <= len(name.strip()) <= MAX_NAME:
        raise InvalidInput(f"A name has 1 to {MAX_NAME} characters.", path=("name",))


# ---- steps


def _model_key(manifest: Manifest, model: ModelName | None) -> ModelKey | None:
    if model is None:
        if not manifest.methods & OWN_MODELS:
            raise InvalidInput(
                f"The provider {manifest.name} has a credential per model: name the `model`, or use `addModel`.",
                path=("model",),
            )
        return None
    if not manifest.model_credential_form:
        raise InvalidInput(f"The provider {manifest.name} has no credentials of single models.", path=("model",))
    if model.type not in manifest.model_types:
        raise InvalidInput(f"The provider {manifest.name} has no models of type {model.type}.", path=("model", "type"))
    return ModelKey(provider=manifest.name, name=model.name, type=model.type)


async def _located(tx: Transaction, viewer: Viewer, workspace_id: UUID, credential_id: UUID) -> Credential:
    """Return a credential of one of the viewer's workspaces, if their role there lets them manage it."""
    found = await tx.credentials.get(workspace_id, credential_id) if workspace_id in viewer.memberships else None
    if found is None:
        raise _unknown()
    require(viewer, workspace_id, Permission.CREDENTIAL_MANAGE)
    return found


def _active_name(configuration: Configuration, sibling: Credential) -> str | None:
    """Return the name of the credential that serves what this one could serve."""
    if sibling.model is None:
        active_id = configuration.provider(sibling.provider).active_credential_id
    else:
        row = configuration.models.get(sibling.model)
        active_id = row.active_credential_id if row is not None else None
    active = configuration.credentials.get(active_id) if active_id is not None else None
    return active.name if active is not None else None


def _present(configuration: Configuration, credential_id: UUID) -> Credential:
    credential = configuration.credentials.get(credential_id)
    if credential is None:
        raise _unknown()
    return credential


def _unknown() -> NotFound:
    return NotFound("There is no such credential, or it is not one of yours.", path=("id",))


def _name(name: str | None, taken: set[str]) -> str:
    check_name(name)
    if name is not None:
        return name.strip()
    return next(text for number in range(1, len(taken) + 2) if (text := f"API key {number}") not in taken)


def _taken(configuration: Configuration, credential: Credential) -> set[str]:
    """Return the names of a credential's siblings."""
    siblings = (
        configuration.provider_credentials(credential.provider)
        if credential.model is None
        else configuration.model_credentials(credential.model)
    )
    return {sibling.name for sibling in siblings if sibling.id != credential.id}


def _name_taken(name: str) -> AlreadyExists:
    return AlreadyExists(f"A credential named {name!r} is there already; choose another name.", path=("name",))


def _validation_of(credential: Credential) -> ValidateCredential:
    return ValidateCredential(
        workspace_id=credential.workspace_id, credential_id=credential.id, version=credential.version
    )


async def _stored(app: App, credential: Credential) -> Values | None:
    """Return the values that an update keeps; None where they cannot be opened, and all are entered again."""
    try:
        return await app.vault.open(credential)
    except CredentialUnreadable:
        return None


async def _updated(app: App, tx: Transaction, old: Credential, name: str, checked: Checked | None) -> Credential:
    """Return the next version of a credential: with new values it is what was found of them."""
    new = replace(old, name=name, version=old.version + 1, updated_at=app.clock.now())
    if checked is None:
        return new
    return replace(
        new,
        sealed=await app.vault.seal(tx, old.workspace_id, old.id, checked.values),
        status=checked.status,
        problem=None,
        validated_at=checked.validated_at,
        form_values=_form_values(app, old.provider, old.model, checked),
    )


def _form_values(app: App, provider: str, key: ModelKey | None, checked: Checked) -> Mapping[str, str] | None:
    return public_values(provider_of(app, provider).manifest, checked.values) if key is not None else None


async def _put(tx: Transaction, credential: Credential, version: int) -> bool:
    """Write a credential over that version of it, and ask for its validation where nobody knows whether it works."""
    try:
        is_put = await tx.credentials.update(credential, version=version)
    except AlreadyExists:
        raise _name_taken(credential.name) from None
    if is_put and credential.status in _UNSETTLED:
        await tx.outbox.add(_validation_of(credential))
    return is_put


def _changed_meanwhile(version: int, path: tuple[str, ...]) -> Conflict:
    return Conflict(f"Somebody else changed it; it is at version {version} now: read it again.", path=path)


def _diff(old: Credential, new: Credential, stored: Values, checked: Checked | None) -> dict[str, Any]:
    """Return what an update changed; of a secret, that it did."""
    changes: dict[str, Any] = {}
    if old.name != new.name:
        changes["name"] = {"from": old.name, "to": new.name}
    values = checked.values if checked is not None else stored
    fields = [field for field in dict.fromkeys((*stored, *values)) if stored.get(field) != values.get(field)]
    if fields:
        changes["values"] = {field: {"from": _told(stored, field), "to": _told(values, field)} for field in fields}
    return changes


def _told(values: Values, field: str) -> str | None:
    value = values.get(field)
    return "(secret)" if isinstance(value, Secret) else value


async def _activate_first(
    app: App, tx: Transaction, before: Configuration, credential: Credential, values: Values
) -> None:
    """Make a new credential active where its provider, or its model, has none that is."""
    if credential.model is None:
        if before.provider(credential.provider).active_credential_id is None:
            await tx.providers.set_active(before.workspace_id, credential.provider, credential.id)
        return
    row = _row(app, before, credential.model)
    if row.active_credential_id is None:
        manifest = provider_of(app, credential.provider).manifest
        await tx.models.put(before.workspace_id, described_by(manifest, row, credential, values))


async def _served_by(app: App, configuration: Configuration, credential: Credential) -> ModelRow:
    """Return the row of a credential's model with that credential active."""
    assert credential.model is not None
    row = _row(app, configuration, credential.model)
    values = await app.vault.open(credential) if row.source is ModelSource.CUSTOM else {}
    return described_by(provider_of(app, credential.provider).manifest, row, credential, values)


async def _describe_model(
    app: App, tx: Transaction, before: Configuration, credential: Credential, values: Values
) -> None:
    """Let a custom model be what its active credential's new values say."""
    row = before.models.get(credential.model) if credential.model is not None else None
    if row is not None and row.active_credential_id == credential.id:
        manifest = provider_of(app, credential.provider).manifest
        await tx.models.put(before.workspace_id, described_by(manifest, row, credential, values))


def _row(app: App, configuration: Configuration, key: ModelKey) -> ModelRow:
    """Return the row of a model, a new one where nothing is stored.

    Raises:
        Conflict: it is a custom model that was removed.
    """
    known = find_model(configuration, app.catalog, key)
    if known is None:
        raise Conflict(
            f"The model {key.name!r} was removed; `addModel` with this credential's id as `existingId` adds it again.",
            path=("id",),
        )
    row = configuration.models.get(key)
    return row or ModelRow(key=key, source=known.source, label=None, active_credential_id=None)


async def _without_credentials(tx: Transaction, before: Configuration, key: ModelKey) -> ModelKey | None:
    """Remove a custom model that has no credential left; a predefined one returns to the provider's key."""
    row = before.models.get(key)
    if row is None or row.source is not ModelSource.CUSTOM:
        return None
    await tx.models.delete(before.workspace_id, key)
    return key

"""Use case of a provider's own list of models: read it, and keep what it says as REMOTE models."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from uuid import UUID

from core.access import Permission, Viewer, require, workspace_of
from core.app import App
from core.audit import changes
from core.changing import changing
from core.configuration import Configuration
from core.entities import Credential, ModelRow, ModelSource
from core.errors import Conflict, CredentialMissing, InvalidInput, UpstreamAuthentication, UpstreamTimeout
from core.model_types import ModelKey
from core.provider import ConfigurationMethod, Manifest, ModelLists, Provider, RemoteModel
from core.providers_state import active_credential_of, provider_problem
from core.validation import provider_of, validate_soon

MAX_MODELS = 2000
"""How many models of one list are kept, in the list's order."""

_MAX_NAME = 200
_SECONDS = 60.0


def lists_models(provider: Provider) -> bool:
    """Tell whether a provider has a list of models: its adapter reads one, and its manifest says that there is one."""
    return provider.listing is not None and ConfigurationMethod.FETCH_FROM_REMOTE in provider.manifest.methods


async def refresh_models(
    app: App, viewer: Viewer, workspace_id: UUID | None, provider: str
) -> tuple[Configuration, Manifest]:
    """Read a provider's list of models with its active credential, for a viewer.

    Raises:
        NotFound: there is no such provider.
        InvalidInput: the provider has no list.
        CredentialMissing, CredentialRemoved, CredentialInvalid, CredentialUnreadable: no credential can ask for it.
        UpstreamError: the provider does not give it; nothing was changed.
        Conflict: the credential was changed meanwhile.
    """
    workspace_id = workspace_of(viewer, workspace_id)
    require(viewer, workspace_id, Permission.MODEL_MANAGE)
    found = provider_of(app, provider)
    return await refresh(app, workspace_id, found, viewer), found.manifest


async def refresh(app: App, workspace_id: UUID, provider: Provider, viewer: Viewer | None = None) -> Configuration:
    """Read a provider's list and keep what it says; models that it has no more are deprecated. As `refresh_models`."""
    manifest, listing = provider.manifest, provider.listing
    if listing is None or not lists_models(provider):
        raise InvalidInput(f"The provider {manifest.name} has no list of models to read.", path=("provider",))
    credential = _credential(await app.configurations.get(workspace_id), manifest)
    models = _kept(manifest, await _ask(app, listing, credential))
    async with changing(app, workspace_id) as change:
        tx, before = change.tx, change.before
        now = active_credential_of(before, manifest)
        if now is None or (now.id, now.version) != (credential.id, credential.version):
            raise Conflict(f"The credential of {manifest.name} was changed meanwhile; ask again.", path=("provider",))
        rows = list(_changed_rows(before, manifest, models))
        for row in rows:
            await tx.models.put(workspace_id, row)
        await tx.providers.set_refreshed(workspace_id, manifest.name, app.clock.now())
        if viewer is not None:
            await tx.audit.add(
                workspace_id=workspace_id,
                viewer=viewer,
                action="provider.refresh_models",
                subject=f"Provider:{manifest.name}",
                summary=f"Read the list of models of {manifest.name}: {len(models)}, of which {len(rows)} have changed",
                changes=changes(models=(None, [row.key.name for row in rows])),
            )
    return change.after


def _credential(configuration: Configuration, manifest: Manifest) -> Credential:
    """Return the credential that asks."""
    credential = active_credential_of(configuration, manifest)
    problem = provider_problem(configuration, manifest) if credential is not None else None
    if problem is not None:
        raise problem
    if credential is None:
        raise CredentialMissing(
            f"No credential of {manifest.name} is active: the list needs one, which `createCredential` or "
            "`activateCredential` gives.",
            path=("provider",),
        )
    return credential


async def _ask(app: App, listing: ModelLists, credential: Credential) -> Sequence[RemoteModel]:
    try:
        async with asyncio.timeout(_SECONDS):
            return await listing.list_models(await app.vault.open(credential))
    except TimeoutError:
        raise UpstreamTimeout(f"{credential.provider} did not list its models in time.") from None
    except UpstreamAuthentication:
        await validate_soon(app, credential)
        raise


def _kept(manifest: Manifest, found: Sequence[RemoteModel]) -> dict[ModelKey, RemoteModel]:
    """Return the models of types that the provider serves, those of the manifest left out."""
    models: dict[ModelKey, RemoteModel] = {}
    for model in found:
        is_own = manifest.model(model.name, model.type) is not None
        if model.type in manifest.model_types and 0 < len(model.name) <= _MAX_NAME and not is_own:
            models[ModelKey(provider=manifest.name, name=model.name, type=model.type)] = model
    return dict(list(models.items())[:MAX_MODELS])


def _changed_rows(before: Configuration, manifest: Manifest, models: dict[ModelKey, RemoteModel]) -> Iterator[ModelRow]:
    """Yield the rows that differ from what is stored; a custom model of the same name stays the workspace's own."""
    for key, model in models.items():
        row = before.models.get(key)
        if row is None:
            yield ModelRow(key=key, source=ModelSource.REMOTE, label=None, active_credential_id=None, remote=model)
        elif row.source is ModelSource.REMOTE and row.remote != model:
            yield replace(row, remote=model)
    for key, row in before.models.items():
        if key.provider == manifest.name and row.remote is not None and key not in models and not row.remote.gone:
            yield replace(row, remote=replace(row.remote, gone=True))

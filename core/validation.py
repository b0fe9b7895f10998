"""Whether the values of a credential work: by the form's rules, and by what the provider says of them."""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from core.app import App
from core.cards import custom_card
from core.changes import Change, Noun
from core.entities import Credential, CredentialStatus
from core.errors import (
    CredentialInvalid,
    InvalidInput,
    ModelyardError,
    NotFound,
    Problem,
    UpstreamAuthentication,
    UpstreamBadRequest,
    UpstreamModelNotFound,
    UpstreamPermission,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from core.forms import check_form
from core.jobs import ValidateCredential
from core.live import tell_of_pools
from core.model_types import ModelKey
from core.provider import FormField, FormFieldType, Manifest, ModelCard, Provider, Values
from core.wire.egress import is_loopback, normalise_base_url
from core.wire.http import Unreachable

log = logging.getLogger(__name__)

DEFINITE = (UpstreamAuthentication, UpstreamPermission, UpstreamModelNotFound, UpstreamBadRequest, InvalidInput)
"""What a provider says when the credential itself is wrong; anything else leaves it undecided."""

LIMIT_S = 10.0
"""How long a provider is waited for."""

_CONTAINER = (
    "Where this server runs in a container, localhost is that container: its host is at host.docker.internal, if an "
    "operator allows that."
)
_REFUSALS = frozenset(refusal.code for refusal in DEFINITE)
_NOT_PUBLIC = (FormFieldType.SECRET, FormFieldType.URL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """Values that passed the form, and whether the provider has accepted them."""

    values: Values
    status: CredentialStatus
    validated_at: datetime | None


async def check_values(
    app: App,
    provider: Provider,
    key: ModelKey | None,
    given: Mapping[str, str | None],
    *,
    verify: bool,
    stored: Values | None = None,
) -> Checked:
    """Check what was entered by the form, by the adapter and, with `verify`, by the provider. Nothing is stored here.

    With `stored` it is an update of these values.

    Raises:
        InvalidInput: a value breaks the form's rules; the path names its field.
        CredentialInvalid: the provider refuses the values.
        UpstreamError: the provider could not be asked.
    """
    manifest = provider.manifest
    form = _form(manifest, key)
    values = check_form(
        form,
        given,
        key.type if key is not None else None,
        normalise_url=lambda text: _address(app, text),
        stored=stored,
    )
    try:
        await provider.check(values)
        if verify:
            await _asked(provider, values, key)
    except InvalidInput as refusal:
        refusal.path = _within(form, refusal.path)
        raise
    except DEFINITE as refusal:
        raise CredentialInvalid(refusal.message, path=_within(form, refusal.path) or ("values",)) from refusal
    if not verify:
        return Checked(values=values, status=CredentialStatus.UNVERIFIED, validated_at=None)
    return Checked(values=values, status=CredentialStatus.VALID, validated_at=app.clock.now())


async def validate(app: App, workspace_id: UUID, credential_id: UUID, version: int) -> None:
    """Ask the provider whether a stored credential works, and write down the answer; meanwhile it is VALIDATING.

    Only a definite refusal makes it INVALID; what is undecided leaves the status it had, with a problem. A credential
    that was changed since is left to the validation that its change asked for.
    """
    async with app.storage.read() as tx:
        credential = await tx.credentials.get(workspace_id, credential_id)
    if credential is None or credential.version != version:
        return
    before = _settled(credential)
    await _set_status(app, credential, CredentialStatus.VALIDATING, credential.problem, credential.validated_at)
    asked = replace(credential, status=CredentialStatus.VALIDATING)
    try:
        answer, problem = await _ask(app, credential)
    except BaseException:
        await asyncio.shield(_set_status(app, asked, before, credential.problem, credential.validated_at))
        raise
    validated_at = app.clock.now() if answer is not None else credential.validated_at
    await _set_status(app, asked, answer or before, problem, validated_at)
    if answer is CredentialStatus.VALID:
        await let_try(app, workspace_id, credential_id)


async def let_try(app: App, workspace_id: UUID, credential_id: UUID, *, is_new: bool = False) -> None:
    """Let the pools try a credential that rests because its provider refused it, and that was found valid since.

    One with new values does so even if it rests for a time only.
    """
    if await app.pools.validated(workspace_id, credential_id, is_new=is_new):
        await tell_of_pools(app, workspace_id, credential_id)


async def validate_soon(app: App, credential: Credential) -> None:
    """Let a worker ask whether a credential still works: a provider has refused it in a call. Never raises."""
    job = ValidateCredential(
        workspace_id=credential.workspace_id, credential_id=credential.id, version=credential.version
    )
    try:
        async with app.storage.transaction() as tx:
            await tx.outbox.add(job)
    except ModelyardError as error:
        log.warning("the credential %s is validated later: %s", credential.id, error)


def public_values(manifest: Manifest, values: Values) -> dict[str, str]:
    """Return the values that describe a custom model: neither secrets nor addresses."""
    hidden = {field.name for field in manifest.model_credential_form if field.type in _NOT_PUBLIC}
    return {name: value for name, value in values.items() if name not in hidden and isinstance(value, str)}


def provider_of(app: App, name: str, path: tuple[str, ...] = ("provider",)) -> Provider:
    """Return a provider by any of its names. NotFound if there is none."""
    canonical = app.catalog.canonical(name)
    provider = app.catalog.provider(canonical) if canonical is not None else None
    if provider is None:
        raise NotFound(f"There is no provider {name!r}.", path=path)
    return provider


def _form(manifest: Manifest, key: ModelKey | None) -> tuple[FormField, ...]:
    return manifest.credential_form if key is None else manifest.model_credential_form


def _within(form: Iterable[FormField], path: tuple[str, ...]) -> tuple[str, ...]:
    """Return a path that an adapter gave, within the input where it names a field of the form."""
    return ("values", *path) if path and path[0] in {field.name for field in form} else path


def _address(app: App, text: str) -> str:
    """Return an entered base URL in its canonical form, if this installation may ever call it."""
    url = normalise_base_url(text)
    app.egress.check_url(url)
    return url


async def _asked(provider: Provider, values: Values, key: ModelKey | None) -> None:
    """Let the provider accept the values, or raise what it says of them; UpstreamTimeout if it says nothing."""
    manifest = provider.manifest
    try:
        async with asyncio.timeout(LIMIT_S):
            await provider.validate(values, key, _card(manifest, key, values))
    except Unreachable as failure:
        addresses = [values.get(field.name, "") for field in _form(manifest, key) if field.type is FormFieldType.URL]
        if not any(is_loopback(str(url)) for url in addresses if url):
            raise
        raise UpstreamUnavailable(f"{failure.message} {_CONTAINER}") from failure
    except TimeoutError:
        raise UpstreamTimeout(
            f"{manifest.label} did not answer within {LIMIT_S:g} seconds: try again, or store it with `verify: false`."
        ) from None


def _card(manifest: Manifest, key: ModelKey | None, values: Values) -> ModelCard | None:
    if key is None:
        return None
    return manifest.model(key.name, key.type) or custom_card(
        manifest, key.name, key.type, public_values(manifest, values)
    )


def _settled(credential: Credential) -> CredentialStatus:
    """Return the status that the last answer gave a credential, whoever is asking now or died while they asked."""
    if credential.status is not CredentialStatus.VALIDATING:
        return credential.status
    if credential.validated_at is None:
        return CredentialStatus.UNVERIFIED
    is_refused = credential.problem is not None and credential.problem.code in _REFUSALS
    return CredentialStatus.INVALID if is_refused else CredentialStatus.VALID


async def _ask(app: App, credential: Credential) -> tuple[CredentialStatus | None, Problem | None]:
    """Return what the provider says, with what was met; None where it says nothing definite."""
    try:
        provider = provider_of(app, credential.provider)
        values = await app.vault.open(credential)
        await _asked(provider, values, credential.model)
    except DEFINITE as refusal:
        return CredentialStatus.INVALID, Problem.of(refusal)
    except ModelyardError as failure:
        return None, Problem.of(failure)
    return CredentialStatus.VALID, None


async def _set_status(
    app: App,
    credential: Credential,
    status: CredentialStatus,
    problem: Problem | None,
    validated_at: datetime | None,
) -> None:
    """Set the status of a credential that is still of its version, and tell of it and of pools that it changes."""
    workspace_id, key = credential.workspace_id, str(credential.id)
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
            tx.news.add(Change(workspace_id=workspace_id, noun=Noun.CREDENTIAL, key=key, status=status.value))
            tx.news.add(Change(workspace_id=workspace_id, noun=Noun.PROVIDER, key=credential.provider))
    if is_set and CredentialStatus.INVALID in {status, credential.status} and status is not credential.status:
        await tell_of_pools(app, workspace_id, credential.id)

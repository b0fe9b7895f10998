"""Credentials: named, sealed values of a provider's form."""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from typing import Annotated, TypeVar, cast
from uuid import UUID

import strawberry

from core import entities
from core.access import Permission
from core.catalog import Catalog
from core.changes import Change, ChangeKind, Noun
from core.configuration import Configuration
from core.credentials import (
    CredentialUpdate,
    ModelName,
    NewCredential,
    activate_credential,
    create_credential,
    delete_credential,
    update_credential,
    validate_credential,
)
from core.entities import CredentialStatus
from core.errors import CredentialUnreadable, InvalidInput, NotFound
from core.forms import shown
from core.live import Topic, follow
from core.model_types import ModelKey as CoreModelKey
from core.provider import Values
from core.resolve import credential_problem, find_model
from core.secret import Secret
from graph import ids, links
from graph.changes import seen, workspace_followed
from graph.connections import Connection, Page, Place, list_page
from graph.context import Context, Info
from graph.links import ModelLink, PoolLink, PoolMemberLink, ProviderLink
from graph.mutations import ERRORS, INPUT, mutation
from graph.problems import UserError
from graph.types import Node, argument, attribute, described, input_type, object_type, resolved, streamed
from graph.values import ModelKey, ModelType

T = TypeVar("T")

described(
    CredentialStatus,
    "What is known of whether a credential works.",
    UNVERIFIED="Nobody has asked the provider yet.",
    VALIDATING="The provider is being asked.",
    VALID="The provider accepted it.",
    INVALID="The provider refused it.",
    UNREADABLE="Its values cannot be opened with the keys at hand.",
)


class CredentialLevel(StrEnum):
    """What a credential serves."""

    PROVIDER = "PROVIDER"
    MODEL = "MODEL"


described(
    CredentialLevel,
    "What a credential serves.",
    PROVIDER="All predefined and remote models of its provider.",
    MODEL="One model.",
)


@object_type
class CredentialValue:
    """A stored value of a credential."""

    field: str = attribute("The field of the form.")
    value: str = attribute("The value; of a secret, its ends around stars, or stars alone.")
    is_secret: bool = attribute("Whether the value is masked. No operation returns a secret in clear.")


@object_type
class Credential(Node):
    """A named set of values of a provider's form, its secrets sealed."""

    configuration: strawberry.Private[Configuration]
    credential: strawberry.Private[entities.Credential]

    @property
    def workspace_id(self) -> object:
        """Return the workspace that it belongs to."""
        return self.configuration.workspace_id

    @resolved
    def id(self) -> strawberry.ID:
        """The credential's id."""
        return ids.credential_id(self.configuration.workspace_id, self.credential.id)

    @resolved
    def name(self) -> str:
        """The name: unique within its provider, or its model."""
        return self.credential.name

    @resolved
    def provider(self, info: Info) -> ProviderLink:
        """The provider that it is for."""
        manifest = info.context.app.catalog.manifest(self.credential.provider)
        assert manifest is not None, "credentials of providers that are gone are not shown"
        return links.provider(self.configuration, manifest)

    @resolved
    def level(self) -> CredentialLevel:
        """What it serves."""
        return level_of(self.credential)

    @resolved
    def model(self) -> ModelKey | None:
        """The model that it serves; null: every predefined and remote model of the provider."""
        return ModelKey.of(self.credential.model) if self.credential.model is not None else None

    @resolved
    def values(self, info: Info) -> list[CredentialValue]:
        """What is stored, in order of the form; secrets masked. Empty where it cannot be opened."""
        return _once_opened(info.context, self.credential, _shown)

    @resolved
    def status(self, info: Info) -> CredentialStatus:
        """What is known of whether it works."""
        return _once_opened(info.context, self.credential, lambda opened: _status(self.credential, opened))

    @resolved
    def problem(self, info: Info) -> UserError | None:
        """Why it does not work, or what the last validation met; null: nothing is wrong."""
        return _once_opened(info.context, self.credential, lambda opened: _problem(self.credential, opened))

    @resolved
    def is_active(self) -> bool:
        """Whether it serves its provider, or its model, outside a pool."""
        return self.credential.id == _active_id(self.configuration, self.credential)

    @resolved
    def validated_at(self) -> datetime | None:
        """When the provider last accepted or refused it; null: never."""
        return self.credential.validated_at

    @resolved
    async def last_used_at(self, info: Info) -> datetime | None:
        """When a call was last made with it, up to a minute late; null: never."""
        return await info.context.load.credential_last_used(self.credential.id)

    @resolved
    def created_at(self) -> datetime:
        """When it was made."""
        return self.credential.created_at

    @resolved
    def updated_at(self) -> datetime:
        """When it was last changed."""
        return self.credential.updated_at

    @resolved
    def key_version(self) -> int:
        """The version of the workspace's key that seals it."""
        return self.credential.sealed.key_version

    @resolved
    def pool_members(self, info: Info) -> list[PoolMemberLink] | None:
        """Its places in pools, but for those where it is the Default Config."""
        return links.pool_members(info.context, self.configuration, self.credential.id)

    @resolved
    def version(self) -> int:
        """How often people changed it; its status does not count."""
        return self.credential.version


def _once_opened(context: Context, credential: entities.Credential, show: Callable[[Values | None], T]) -> T:
    """Return what is shown of the values: at once where they are at hand, else what gives it when it is awaited."""
    opened = context.app.vault.opened(credential)
    if opened is not None:
        return show(opened)

    async def shown_later() -> T:
        return show(await _opened(context, credential))

    return cast("T", shown_later())


def _shown(opened: Values | None) -> list[CredentialValue]:
    return [
        CredentialValue(field=field, value=shown(value), is_secret=isinstance(value, Secret))
        for field, value in (opened or {}).items()
    ]


def _status(credential: entities.Credential, opened: Values | None) -> CredentialStatus:
    return credential.status if opened is not None else CredentialStatus.UNREADABLE


def _problem(credential: entities.Credential, opened: Values | None) -> UserError | None:
    if opened is None:
        return UserError.of(CredentialUnreadable("It cannot be opened with the keys at hand; enter its values again."))
    return UserError.optional(credential.problem or credential_problem(credential))


async def _opened(context: Context, credential: entities.Credential) -> Values | None:
    """Return the values, secrets closed; None where they cannot be opened."""
    try:
        return await context.app.vault.open(credential)
    except CredentialUnreadable:
        return None


def _active_id(configuration: Configuration, credential: entities.Credential) -> object:
    if credential.model is None:
        return configuration.provider(credential.provider).active_credential_id
    row = configuration.models.get(credential.model)
    return row.active_credential_id if row is not None else None


def level_of(credential: entities.Credential) -> CredentialLevel:
    """Return what a credential serves."""
    return CredentialLevel.PROVIDER if credential.model is None else CredentialLevel.MODEL


async def credential_page(
    context: Context,
    configuration: Configuration,
    page: Page,
    *,
    provider: str | None = None,
    level: CredentialLevel | None = None,
    model: CoreModelKey | None = None,
    status: Sequence[CredentialStatus] | None = None,
    search: str | None = None,
) -> Connection[Credential]:
    """Return a page of the workspace's credentials, oldest first; what is None does not restrict."""
    catalog = context.app.catalog
    wanted_provider = catalog.canonical(provider) if provider is not None else None
    wanted_model = canonical_key(catalog, model) if model is not None else None
    text = (search or "").strip().lower()
    found = [
        one
        for one in configuration.credentials.values()
        if catalog.manifest(one.provider) is not None
        and (provider is None or one.provider == wanted_provider)
        and (level is None or level_of(one) is level)
        and (model is None or (wanted_model is not None and one.model == wanted_model))
        and text in one.name.lower()
        and (status is None or _status(one, await _opened(context, one)) in status)
    ]
    return list_page(found, page, lambda one: Credential(configuration=configuration, credential=one), _place)


def canonical_key(catalog: Catalog, key: CoreModelKey) -> CoreModelKey | None:
    """Return a key with its provider's canonical name; None where there is no such provider."""
    provider = catalog.canonical(key.provider)
    return CoreModelKey(provider=provider, name=key.name, type=key.type) if provider is not None else None


def _place(credential: entities.Credential) -> Place:
    return (credential.id.hex,)


# ---- mutations


@input_type
class CredentialValueInput:
    """A value of a credential form."""

    field: str = attribute("The field's name.")
    value: str | None = attribute("What is entered; null clears an optional field.", default=None)


@input_type
class ModelNameInput:
    """Names a model of a provider that is known."""

    name: str = attribute("The model's name.")
    type: ModelType = attribute("What the model does.")


@input_type
class CreateCredentialInput:
    """What a new credential is to be."""

    workspace_id: strawberry.ID | None = attribute(
        "The workspace; left out, the token's, or the only one that your account belongs to.", default=None
    )
    provider: str = attribute("The provider, by its name or an alias.")
    model: ModelNameInput | None = attribute("Makes it a credential of that model alone.", default=None)
    name: str | None = attribute("At most 64 characters; left out, “API key N”.", default=None)
    values: list[CredentialValueInput] = attribute("What is entered into the form.")
    verify: bool | None = attribute(
        "Whether the provider is asked before anything is stored. With false it is stored UNVERIFIED and validated soon.",
        default=True,
    )


@input_type
class UpdateCredentialInput:
    """What is to change of a credential."""

    id: strawberry.ID = attribute("The credential's id.")
    name: str | None = attribute(
        "At most 64 characters; null takes the next “API key N”. Left out, it stays.", default=strawberry.UNSET
    )
    values: list[CredentialValueInput] | None = attribute(
        "What is entered anew: a field left out keeps its value, null clears an optional one. Where a field that "
        "decides the host changes, every secret is entered again.",
        default=None,
    )
    verify: bool | None = attribute(
        "Whether the provider is asked before new values are stored. With false they are stored UNVERIFIED and validated "
        "soon.",
        default=True,
    )
    expected_version: int | None = attribute(
        "The version that you have seen; CONFLICT where it is not the present one.", default=None
    )


@input_type
class ValidateCredentialInput:
    """Which credential is to be tried."""

    id: strawberry.ID = attribute("The credential's id.")


@input_type
class ActivateCredentialInput:
    """Which credential is to serve."""

    id: strawberry.ID = attribute("The credential's id.")


@input_type
class DeleteCredentialInput:
    """Which credential is to go."""

    id: strawberry.ID = attribute("The credential's id.")


@object_type
class CredentialPayload:
    """What came of a change of a credential."""

    credential: Credential | None = attribute("The credential as it is now; null when it failed.", default=None)
    provider: ProviderLink | None = attribute("Its provider as it is now; null when it failed.", default=None)
    model: ModelLink | None = attribute(
        "The model that it is for, as it is now; null for one of a provider.", default=None
    )
    errors: list[UserError] = attribute(ERRORS)


@object_type
class DeleteCredentialPayload:
    """What came of deleting a credential."""

    deleted_id: strawberry.ID | None = attribute("The credential that is gone; null when it failed.", default=None)
    deleted_model_id: strawberry.ID | None = attribute(
        "The custom model that is gone with its last credential; null: none.", default=None
    )
    provider: ProviderLink | None = attribute("Its provider as it is now; null when it failed.", default=None)
    model: ModelLink | None = attribute(
        "The model that it was for, as it is now; null for one of a provider, and where the model is gone.",
        default=None,
    )
    pools: list[PoolLink] | None = attribute(
        "The pools in which it stood, as they are now; null when it failed.", default=None
    )
    errors: list[UserError] = attribute(ERRORS)


@strawberry.type(name="Mutation")
class CredentialMutations:
    """Changes of credentials."""

    @mutation(CredentialPayload)
    async def create_credential(self, info: Info, input: Annotated[CreateCredentialInput, INPUT]) -> CredentialPayload:
        """Stores a credential, by default after the provider accepted it. The first of its provider, or model, becomes active.

        Needs CREDENTIAL_MANAGE.
        """
        context = info.context
        new = NewCredential(
            provider=input.provider,
            values=values_of(input.values, ("values",)),
            model=ModelName(name=input.model.name, type=input.model.type) if input.model is not None else None,
            name=input.name,
            verify=input.verify is not False,
            workspace_id=ids.optional_uuid(input.workspace_id, "Workspace", ("workspaceId",)),
        )
        return _changed(context, *await create_credential(context.app, context.who, new))

    @mutation(CredentialPayload)
    async def activate_credential(
        self, info: Info, input: Annotated[ActivateCredentialInput, INPUT]
    ) -> CredentialPayload:
        """Makes a credential the one that serves its provider, or its model, outside a pool.

        Needs CREDENTIAL_MANAGE.
        """
        context = info.context
        place = ids.given_pair(input.id, "Credential")
        return _changed(context, *await activate_credential(context.app, context.who, *place))

    @mutation(CredentialPayload)
    async def update_credential(self, info: Info, input: Annotated[UpdateCredentialInput, INPUT]) -> CredentialPayload:
        """Changes a credential's name and values. New values are stored after the provider accepted them, by default.

        Needs CREDENTIAL_MANAGE.
        """
        context = info.context
        place = ids.given_pair(input.id, "Credential")
        is_renamed = input.name is not strawberry.UNSET
        change = CredentialUpdate(
            values=values_of(input.values, ("values",)) if input.values else None,
            name=input.name if is_renamed else None,
            is_renamed=is_renamed,
            verify=input.verify is not False,
            expected_version=input.expected_version,
        )
        return _changed(context, *await update_credential(context.app, context.who, *place, change))

    @mutation(CredentialPayload)
    async def validate_credential(
        self, info: Info, input: Annotated[ValidateCredentialInput, INPUT]
    ) -> CredentialPayload:
        """Asks the provider whether a credential works; `status` and `problem` tell what it says.

        Needs CREDENTIAL_MANAGE.
        """
        context = info.context
        place = ids.given_pair(input.id, "Credential")
        return _changed(context, *await validate_credential(context.app, context.who, *place))

    @mutation(DeleteCredentialPayload)
    async def delete_credential(
        self, info: Info, input: Annotated[DeleteCredentialInput, INPUT]
    ) -> DeleteCredentialPayload:
        """Deletes a credential. Nothing is made active in its place; a custom model goes with its last one.

        Needs CREDENTIAL_MANAGE.
        """
        context = info.context
        deleted = await delete_credential(context.app, context.who, *ids.given_pair(input.id, "Credential"))
        configuration, credential, removed = deleted.configuration, deleted.credential, deleted.removed_model
        context.changed(configuration)
        manifest = context.app.catalog.manifest(credential.provider)
        known = find_model(configuration, context.app.catalog, credential.model) if credential.model else None
        return DeleteCredentialPayload(
            deleted_id=ids.credential_id(configuration.workspace_id, credential.id),
            deleted_model_id=ids.model_id(configuration.workspace_id, removed) if removed is not None else None,
            provider=links.provider(configuration, manifest) if manifest is not None else None,
            model=links.model(configuration, known) if known is not None else None,
            pools=[
                view
                for key in deleted.pools
                if (view := links.pool(context, configuration, configuration.pools.get(key))) is not None
            ],
            errors=[],
        )


# ---- changes as they happen


@object_type
class CredentialChange:
    """What happened to a credential."""

    kind: ChangeKind = attribute("What happened.")
    id: strawberry.ID = attribute("The credential's id.")
    credential: Credential | None = attribute("The credential as it is now; null where it is gone.", default=None)


@strawberry.type(name="Subscription")
class CredentialSubscriptions:
    """Changes of credentials."""

    @streamed
    async def credential_changed(
        self,
        info: Info,
        workspace_id: Annotated[
            strawberry.ID | None,
            argument(
                "The workspace; left out, the credential's, else the token's, or the only one that your account belongs to."
            ),
        ] = None,
        credential_id: Annotated[
            strawberry.ID | None, argument("Only this credential: it comes first, as CURRENT.")
        ] = None,
    ) -> AsyncGenerator[CredentialChange, None]:
        """Streams changes of credentials: their values and names, their status, which is active.

        Ends after DELETED where one credential is followed; with an error when access ends, or when changes may have been
        missed: subscribe again. Needs CREDENTIAL_READ.
        """
        context = info.context
        place = ids.given_pair(credential_id, "Credential", ("credentialId",)) if credential_id is not None else None
        given = ids.optional_uuid(workspace_id, "Workspace", ("workspaceId",))
        topic = Topic(
            workspace_id=workspace_followed(context, given, place[0] if place is not None else None),
            noun=Noun.CREDENTIAL,
            permission=Permission.CREDENTIAL_READ,
            key=str(place[1]) if place is not None else None,
        )
        news = follow(context.app, context.who, topic)
        if place is not None:
            configuration = await context.configuration(topic.workspace_id)
            if topic.workspace_id != place[0] or place[1] not in configuration.credentials:
                raise NotFound("There is no such credential, or it is not one of yours.", path=("credentialId",))
        return seen(context, news, _credential_change)


async def _credential_change(context: Context, change: Change) -> CredentialChange | None:
    configuration, key = await context.configuration(change.workspace_id), UUID(change.key)
    found = configuration.credentials.get(key)
    kind = ChangeKind.DELETED if found is None and change.kind is ChangeKind.CURRENT else change.kind
    if found is None and kind is not ChangeKind.DELETED:
        return None  # it is gone by now, which is told next
    if found is not None and change.status == CredentialStatus.VALIDATING and change.status != found.status:
        found = replace(found, status=CredentialStatus.VALIDATING, problem=None)
    return CredentialChange(
        kind=kind,
        id=ids.credential_id(change.workspace_id, key),
        credential=links.optional_credential(configuration, found),
    )


def values_of(given: Sequence[CredentialValueInput], path: tuple[str, ...]) -> dict[str, str | None]:
    """Return entered values by field.

    Raises:
        InvalidInput: a field is entered twice.
    """
    values: dict[str, str | None] = {}
    for one in given:
        if one.field in values:
            raise InvalidInput(f"The field {one.field!r} is entered twice.", path=(*path, one.field))
        values[one.field] = one.value
    return values


def _changed(context: Context, configuration: Configuration, credential: entities.Credential) -> CredentialPayload:
    context.changed(configuration)
    manifest = context.app.catalog.manifest(credential.provider)
    known = find_model(configuration, context.app.catalog, credential.model) if credential.model else None
    return CredentialPayload(
        credential=Credential(configuration=configuration, credential=credential),
        provider=links.provider(configuration, manifest) if manifest is not None else None,
        model=links.model(configuration, known) if known is not None else None,
        errors=[],
    )

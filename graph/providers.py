"""Providers: services that serve models, as a workspace has them."""

from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Annotated

import strawberry

from core.access import Permission
from core.changes import Change, ChangeKind, Noun
from core.configuration import Configuration
from core.credentials import set_preferred_type
from core.entities import CredentialStatus
from core.errors import NotFound
from core.listing import refresh_models
from core.live import Topic, follow
from core.models import ModelQuery, ModelStatus, removed_models
from core.models import RemovedModel as CoreRemovedModel
from core.provider import ConfigurationMethod, Manifest
from core.providers_state import (
    CustomStatus,
    ProviderQuery,
    SystemStatus,
    active_credential_of,
    custom_status,
    list_providers,
    provider_problem,
    provider_type,
    system_status,
)
from core.resolve import preferred_type
from graph import ids, links
from graph.changes import seen, workspace_followed
from graph.connections import After, Before, Connection, First, Last, Page, list_page, page_of
from graph.context import Context, Info
from graph.credentials import CredentialLevel, credential_page
from graph.forms import FormField
from graph.links import CredentialLink, ModelLink, WorkspaceLink
from graph.models import model_page
from graph.mutations import ERRORS, INPUT, mutation
from graph.problems import UserError
from graph.types import Node, argument, attribute, described, input_type, object_type, resolved, streamed
from graph.values import ModelKeyInput, ModelType, ProviderType

described(
    ConfigurationMethod,
    "How a workspace can configure a provider.",
    PREDEFINED_MODEL="One credential serves the models that the provider's manifest lists.",
    CUSTOMIZABLE_MODEL="Models are added one by one, each with its own credential.",
    FETCH_FROM_REMOTE="One credential serves the models that the provider's own list names.",
)
described(
    SystemStatus,
    "Whether the installation's own credentials can serve a provider's models.",
    ACTIVE="They can, against a quota.",
    QUOTA_EXCEEDED="The quotas are used up.",
    UNSUPPORTED="The installation does not host the provider, or this workspace has no quota.",
)
described(
    CustomStatus,
    "Whether the workspace's own credentials can serve a provider's models.",
    ACTIVE="One is active, or none is needed.",
    NO_CONFIGURE="Nothing is configured.",
    NO_ACTIVE_CREDENTIAL="Something is configured, but no credential is active.",
)


@object_type
class RemovedModel:
    """A custom model that was taken off the list while its credentials are kept."""

    configuration: strawberry.Private[Configuration]
    removed: strawberry.Private[CoreRemovedModel]

    @property
    def workspace_id(self) -> object:
        """Return the workspace that it was removed from."""
        return self.configuration.workspace_id

    @resolved
    def name(self) -> str:
        """The name that it had."""
        return self.removed.key.name

    @resolved
    def type(self) -> ModelType:
        """What it did."""
        return self.removed.key.type

    @resolved
    def credentials(self) -> list[CredentialLink] | None:
        """The credentials that are kept, oldest first; `addModel` with the id of one adds the model again."""
        return [links.credential(self.configuration, one) for one in self.removed.credentials]


@object_type
class Provider(Node):
    """A provider as this workspace has it."""

    configuration: strawberry.Private[Configuration]
    manifest: strawberry.Private[Manifest]

    @property
    def workspace_id(self) -> object:
        """Return the workspace that it is seen from."""
        return self.configuration.workspace_id

    @resolved
    def id(self) -> strawberry.ID:
        """The provider's id; it does not change when the workspace stores something of the provider."""
        return ids.encode("Provider", self.configuration.workspace_id, self.manifest.name)

    @resolved
    async def workspace(self, info: Info) -> WorkspaceLink:
        """The workspace that it is seen from."""
        return await links.present_workspace(info.context, self.configuration.workspace_id)

    @resolved
    def name(self) -> str:
        """The canonical name: lower case, with underscores."""
        return self.manifest.name

    @resolved
    def label(self) -> str:
        """What is shown."""
        return self.manifest.label

    @resolved
    def description(self) -> str:
        """What it is."""
        return self.manifest.description

    @resolved
    def icon_url(self) -> str | None:
        """A picture of it; null: none."""
        return self.manifest.icon_url

    @resolved
    def help_url(self) -> str | None:
        """Where to get a key; null where no page tells."""
        return self.manifest.help_url

    @resolved
    def supported_model_types(self) -> list[ModelType]:
        """The types of models that it serves."""
        return list(self.manifest.model_types)

    @resolved
    def configuration_methods(self) -> list[ConfigurationMethod]:
        """The ways to configure it."""
        return [method for method in ConfigurationMethod if method in self.manifest.methods]

    @resolved
    def credential_form(self) -> list[FormField]:
        """What a provider-level credential is made of; empty where there are none."""
        return FormField.all_of(self.manifest.credential_form)

    @resolved
    def model_credential_form(
        self,
        type: Annotated[ModelType, argument("The type of the model that the credential is for.")],
    ) -> list[FormField]:
        """What a credential of one model is made of; empty where there are none."""
        return FormField.all_of(self.manifest.model_credential_form if type in self.manifest.model_types else ())

    @resolved
    def preferred_type(self) -> ProviderType:
        """The choice stored, or the one that holds without a choice."""
        return preferred_type(self.configuration, self.manifest.name)[0]

    @resolved
    def preferred_type_chosen(self) -> bool:
        """Whether the preferred type was chosen."""
        return preferred_type(self.configuration, self.manifest.name)[1]

    @resolved
    def effective_type(self) -> ProviderType | None:
        """Whose credentials its predefined models would use now; null where it has none. A model has its own."""
        return provider_type(self.configuration, self.manifest)

    @resolved
    def problem(self) -> UserError | None:
        """What keeps its predefined models from being called now; null: nothing."""
        return UserError.optional(provider_problem(self.configuration, self.manifest))

    @resolved
    def system_status(self) -> SystemStatus:
        """Whether the installation's own credentials can serve its models."""
        return system_status(self.configuration, self.manifest)

    @resolved
    def custom_status(self) -> CustomStatus:
        """Whether the workspace's own credentials can serve its models."""
        return custom_status(self.configuration, self.manifest)

    @resolved
    def active_credential(self) -> CredentialLink | None:
        """The credential that serves its predefined and remote models outside a pool; null: none."""
        return links.optional_credential(self.configuration, active_credential_of(self.configuration, self.manifest))

    @resolved
    def can_add_model(self) -> bool:
        """Whether it takes custom models."""
        return ConfigurationMethod.CUSTOMIZABLE_MODEL in self.manifest.methods

    @resolved
    def models_refreshed_at(self) -> datetime | None:
        """When its own list of models was last read; null where it was not, or it has none."""
        return self.configuration.provider(self.manifest.name).models_refreshed_at

    @resolved
    def removed_models(self, info: Info) -> list[RemovedModel] | None:
        """Custom models that were taken off the list and whose credentials are kept, by name."""
        found = removed_models(self.configuration, info.context.app.catalog, self.manifest.name)
        return [RemovedModel(configuration=self.configuration, removed=one) for one in found]

    @resolved
    async def credentials(
        self,
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        level: Annotated[CredentialLevel | None, argument("Only those that serve this.")] = None,
        model: Annotated[ModelKeyInput | None, argument("Only those of this model.")] = None,
        status: Annotated[list[CredentialStatus] | None, argument("Only those of one of these statuses.")] = None,
        search: Annotated[str | None, argument("Only those whose name holds this text.")] = None,
    ) -> Connection[CredentialLink] | None:
        """Its credentials, oldest first."""
        return await credential_page(
            info.context,
            self.configuration,
            page_of(first, after, last, before),
            provider=self.manifest.name,
            level=level,
            model=model.key() if model is not None else None,
            status=status,
            search=search,
        )

    @resolved
    def models(
        self,
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        type: Annotated[ModelType | None, argument("Only those of this type.")] = None,
        status: Annotated[list[ModelStatus] | None, argument("Only those of one of these statuses.")] = None,
        include_deprecated: Annotated[bool | None, argument("Whether those on their way out are listed.")] = False,  # noqa: FBT002 - an argument of the schema
    ) -> Connection[ModelLink]:
        """Its models, in the order of the manifest, then by name."""
        query = ModelQuery(
            provider=self.manifest.name,
            type=type,
            status=tuple(status) if status is not None else None,
            include_deprecated=bool(include_deprecated),
        )
        return model_page(info.context, self.configuration, page_of(first, after, last, before), query)


# ---- changes as they happen


@object_type
class ProviderChange:
    """What happened to a provider, as a workspace has it."""

    kind: ChangeKind = attribute("What happened.")
    id: strawberry.ID = attribute("The provider's id.")
    provider: Provider | None = attribute("The provider as it is now.", default=None)


@strawberry.type(name="Subscription")
class ProviderSubscriptions:
    """Changes of providers."""

    @streamed
    async def provider_changed(
        self,
        info: Info,
        workspace_id: Annotated[
            strawberry.ID | None,
            argument("The workspace; left out, the token's, or the only one that your account belongs to."),
        ] = None,
        provider: Annotated[
            str | None, argument("Only this provider, by its name or an alias: it comes first, as CURRENT.")
        ] = None,
    ) -> AsyncGenerator[ProviderChange, None]:
        """Streams changes of providers: their credentials, models, preference and status.

        Ends with an error when access ends, or when changes may have been missed: subscribe again. Needs MODEL_READ.
        """
        context = info.context
        given = ids.optional_uuid(workspace_id, "Workspace", ("workspaceId",))
        name = context.app.catalog.canonical(provider) if provider is not None else None
        topic = Topic(
            workspace_id=workspace_followed(context, given),
            noun=Noun.PROVIDER,
            permission=Permission.MODEL_READ,
            key=name,
        )
        news = follow(context.app, context.who, topic)
        if provider is not None and name is None:
            raise NotFound(f"There is no provider {provider!r}.", path=("provider",))
        return seen(context, news, _provider_change)


async def _provider_change(context: Context, change: Change) -> ProviderChange | None:
    manifest = context.app.catalog.manifest(change.key)
    if manifest is None:
        return None
    configuration = await context.configuration(change.workspace_id)
    return ProviderChange(
        kind=change.kind,
        id=ids.encode("Provider", change.workspace_id, change.key),
        provider=Provider(configuration=configuration, manifest=manifest),
    )


# ---- mutations


@input_type
class SetPreferredProviderTypeInput:
    """Whose credentials a provider's models are to prefer."""

    workspace_id: strawberry.ID | None = attribute(
        "The workspace; left out, the token's, or the only one that your account belongs to.", default=None
    )
    provider: str = attribute("The provider, by its name or an alias.")
    type: ProviderType | None = attribute(
        "The choice; null: none, so that it follows what is configured.", default=None
    )


@input_type
class RefreshModelsInput:
    """Which provider's own list of models to read."""

    workspace_id: strawberry.ID | None = attribute(
        "The workspace; left out, the token's, or the only one that your account belongs to.", default=None
    )
    provider: str = attribute("The provider, by its name or an alias.")


@object_type
class ProviderPayload:
    """What came of a change of a provider."""

    provider: Provider | None = attribute("The provider as it is now; null when it failed.", default=None)
    errors: list[UserError] = attribute(ERRORS)


@strawberry.type(name="Mutation")
class ProviderMutations:
    """Changes of providers."""

    @mutation(ProviderPayload)
    async def set_preferred_provider_type(
        self, info: Info, input: Annotated[SetPreferredProviderTypeInput, INPUT]
    ) -> ProviderPayload:
        """Chooses whose credentials a provider's models prefer, or clears the choice.

        Needs PROVIDER_MANAGE.
        """
        context = info.context
        given = ids.optional_uuid(input.workspace_id, "Workspace", ("workspaceId",))
        configuration, manifest = await set_preferred_type(context.app, context.who, given, input.provider, input.type)
        context.changed(configuration)
        return ProviderPayload(provider=Provider(configuration=configuration, manifest=manifest), errors=[])

    @mutation(ProviderPayload)
    async def refresh_models(self, info: Info, input: Annotated[RefreshModelsInput, INPUT]) -> ProviderPayload:
        """Reads a provider's own list of models with its active credential, and keeps what it says as REMOTE models.

        What the list has no more is deprecated and stays callable. A failure changes nothing. Needs MODEL_MANAGE.
        """
        context = info.context
        given = ids.optional_uuid(input.workspace_id, "Workspace", ("workspaceId",))
        configuration, manifest = await refresh_models(context.app, context.who, given, input.provider)
        context.changed(configuration)
        return ProviderPayload(provider=Provider(configuration=configuration, manifest=manifest), errors=[])


def provider_page(
    context: Context, configuration: Configuration, page: Page, query: ProviderQuery
) -> Connection[Provider]:
    """Return a page of the providers, in the order of their manifests."""
    found = list_providers(configuration, context.app.catalog, query)
    return list_page(
        found,
        page,
        lambda one: Provider(configuration=configuration, manifest=one),
        lambda one: (one.position, one.name),
    )

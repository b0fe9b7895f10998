"""Models: predefined, custom and remote ones, as a workspace has them."""

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Annotated

import strawberry

from core.configuration import Configuration
from core.entities import ModelSource
from core.errors import ModelyardError
from core.model_types import ModelKey as CoreModelKey
from core.models import (
    ModelQuery,
    ModelStatus,
    NewModel,
    add_model,
    list_models,
    manageable_model,
    model_state,
    place_of,
    remove_model,
    set_model_enabled,
    set_model_pricing,
    update_model,
)
from core.provider import ParameterRule as CoreParameterRule
from core.provider import ParameterType
from core.provider import Pricing as CorePricing
from core.resolve import Known, Request, active_credential, effective_type, resolve
from core.voices import list_voices
from graph import ids, links
from graph.connections import After, Before, Connection, First, Last, Page, list_page, page_of
from graph.context import Context, Info
from graph.credentials import CredentialValueInput, values_of
from graph.links import CredentialLink, PoolLink, ProviderLink, QuotaLink, WorkspaceLink
from graph.mutations import ERRORS, INPUT, mutation
from graph.problems import UserError
from graph.scalars import JSON
from graph.types import Node, argument, attribute, described, input_type, object_type, one_of_input, resolved
from graph.values import ModelFeature, ModelKeyInput, ModelType, Pricing, PricingUnit, ProviderType

described(
    ModelSource,
    "Where a model comes from.",
    PREDEFINED="The provider's manifest.",
    CUSTOM="The workspace added it.",
    REMOTE="The provider's own list.",
)
described(
    ModelStatus,
    "Whether a call of a model made now could be served, and if not, why.",
    ACTIVE="It could; a `problem` may still tell of a credential that is refused or unreadable.",
    NO_CONFIGURE="Nothing is configured that could serve it.",
    QUOTA_EXCEEDED="The hosted quota is used up.",
    NO_PERMISSION="No hosted quota includes it.",
    DISABLED="The workspace switched it off.",
    CREDENTIAL_REMOVED="Credentials are there, but none is active.",
)
described(
    ParameterType,
    "What a parameter's value is.",
    FLOAT="A number.",
    INT="A whole number.",
    STRING="A line of text.",
    BOOLEAN="True or false.",
    TEXT="Longer text.",
)


@object_type
class ParameterRule:
    """What values a parameter of a model may have."""

    rule: strawberry.Private[CoreParameterRule]

    @resolved
    def name(self) -> str:
        """What it is called in `parameters`."""
        return self.rule.name

    @resolved
    def label(self) -> str:
        """What is shown."""
        return self.rule.label

    @resolved
    def type(self) -> ParameterType:
        """What its value is."""
        return self.rule.type

    @resolved
    def help(self) -> str | None:
        """An explanation; null: none."""
        return self.rule.help

    @resolved
    def required(self) -> bool:
        """Whether a call must give it."""
        return self.rule.required

    @resolved
    def default(self) -> JSON | None:
        """What a call that leaves it out gets; null: whatever the provider does."""
        return self.rule.default

    @resolved
    def min(self) -> float | None:
        """The lowest value; null: any."""
        return self.rule.min

    @resolved
    def max(self) -> float | None:
        """The highest value; null: any."""
        return self.rule.max

    @resolved
    def precision(self) -> int | None:
        """The most decimals; null: any number of them."""
        return self.rule.precision

    @resolved
    def options(self) -> list[str]:
        """The values to choose from; empty where any may be given."""
        return list(self.rule.options)


@object_type
class Voice:
    """One who speaks."""

    id: str = attribute("What `speech` takes as `voice`.")
    name: str = attribute("What is shown.")
    languages: list[str] = attribute("Codes such as en or pt-BR; empty: whatever the model speaks.")


@object_type
class Model(Node):
    """A model as this workspace has it."""

    configuration: strawberry.Private[Configuration]
    known: strawberry.Private[Known]
    _state: strawberry.Private[tuple[ModelStatus, ModelyardError | None] | None] = None

    @property
    def workspace_id(self) -> object:
        """Return the workspace that it is seen from."""
        return self.configuration.workspace_id

    def state(self, context: Context) -> tuple[ModelStatus, ModelyardError | None]:
        """Return the status and the problem, found once."""
        if self._state is None:
            self._state = model_state(self.configuration, context.app.catalog, self.known)
        return self._state

    @resolved
    def id(self) -> strawberry.ID:
        """The model's id; it does not change when the workspace stores something of the model."""
        return ids.model_id(self.configuration.workspace_id, self.known.key)

    @resolved
    async def workspace(self, info: Info) -> WorkspaceLink:
        """The workspace that it is seen from."""
        return await links.present_workspace(info.context, self.configuration.workspace_id)

    @resolved
    def provider(self) -> ProviderLink:
        """Its provider."""
        return links.provider(self.configuration, self.known.manifest)

    @resolved
    def name(self) -> str:
        """The name that calls use."""
        return self.known.key.name

    @resolved
    def label(self) -> str:
        """What is shown."""
        return self.known.card.label

    @resolved
    def type(self) -> ModelType:
        """What it does."""
        return self.known.key.type

    @resolved
    def source(self) -> ModelSource:
        """Where it comes from."""
        return self.known.source

    @resolved
    def features(self) -> list[ModelFeature]:
        """What it can take and give beyond text."""
        return [feature for feature in ModelFeature if feature in self.known.card.features]

    @resolved
    def context_window(self) -> int | None:
        """The most tokens of input and output together; null where that is not known."""
        return self.known.card.context_window

    @resolved
    def max_output_tokens(self) -> int | None:
        """The most tokens of output; null where that is not known."""
        return self.known.card.max_output_tokens

    @resolved
    def properties(self) -> JSON:
        """What else is known of it."""
        return dict(self.known.card.properties)

    @resolved
    def parameter_rules(self) -> list[ParameterRule]:
        """The parameters that calls may give."""
        return [ParameterRule(rule=rule) for rule in self.known.card.parameter_rules]

    @resolved
    async def voices(
        self,
        info: Info,
        language: Annotated[str | None, argument("Only those that speak it, such as en or pt-BR.")] = None,
    ) -> list[Voice] | None:
        """Who can speak with it, by its manifest or its provider's list; null where nobody knows, and of other types."""
        found = await list_voices(info.context.app, self.configuration, self.known, language)
        return (
            [Voice(id=voice.id, name=voice.name, languages=list(voice.languages)) for voice in found]
            if found is not None
            else None
        )

    @resolved
    def pricing(self) -> Pricing | None:
        """Its price; null where none is known."""
        return Pricing.of(self.known.card.pricing)

    @resolved
    def enabled(self) -> bool:
        """Whether the workspace lets it be called."""
        return self.configuration.setting(self.known.key).enabled

    @resolved
    def deprecated(self) -> bool:
        """Whether it is on its way out; it stays callable."""
        return self.known.card.deprecated

    @resolved
    def status(self, info: Info) -> ModelStatus:
        """Whether a call made now could be served."""
        return self.state(info.context)[0]

    @resolved
    def problem(self, info: Info) -> UserError | None:
        """What a call made now would meet; null: nothing."""
        return UserError.optional(self.state(info.context)[1])

    @resolved
    def is_default(self) -> bool:
        """Whether calls of its type that name no model use it."""
        return self.configuration.defaults.get(self.known.key.type) == self.known.key

    @resolved
    def effective_type(self, info: Info) -> ProviderType | None:
        """Whose credentials a call made now would use; null: nobody's."""
        return effective_type(self.configuration, info.context.app.catalog, self.known)

    @resolved
    def current_quota(self, info: Info) -> QuotaLink | None:
        """The quota that a call made now would draw; null where the workspace's own credentials would serve it."""
        key = self.known.key
        asked = Request(type=key.type, provider=key.provider, name=key.name)
        found = resolve(self.configuration, info.context.app.catalog, asked).quota
        return links.quota(found) if found is not None else None

    @resolved
    def active_credential(self) -> CredentialLink | None:
        """The model-level credential that serves it; null where the provider's does, or none."""
        active = active_credential(self.configuration, self.known)
        return links.optional_credential(self.configuration, active if active and active.model else None)

    @resolved
    def credentials(
        self, first: First = None, after: After = None, last: Last = None, before: Before = None
    ) -> Connection[CredentialLink] | None:
        """All that may stand in its pool: its own, and the provider's where it is predefined or remote."""
        found = self.configuration.model_credentials(self.known.key)
        if self.known.source is not ModelSource.CUSTOM:
            found = [*found, *self.configuration.provider_credentials(self.known.key.provider)]
        return list_page(
            found,
            page_of(first, after, last, before),
            lambda one: links.credential(self.configuration, one),
            lambda one: (one.id.hex,),
        )

    @resolved
    def pool(self, info: Info) -> PoolLink | None:
        """The pool among whose members its calls are spread; null: it has none."""
        return links.pool(info.context, self.configuration, self.configuration.pools.get(self.known.key))


def model_page(context: Context, configuration: Configuration, page: Page, query: ModelQuery) -> Connection[Model]:
    """Return a page of the workspace's models, in the order of providers and manifests."""
    found = list_models(configuration, context.app.catalog, query)
    return list_page(found, page, lambda one: Model(configuration=configuration, known=one), place_of)


# ---- mutations


@input_type
class NewCredentialInput:
    """A new credential of a model."""

    name: str | None = attribute("At most 64 characters; left out, “API key N”.", default=None)
    values: list[CredentialValueInput] = attribute("What is entered into the form.")


@one_of_input
class AddModelCredentialInput:
    """The credential of a custom model: a kept one, or a new one."""

    existing_id: strawberry.ID | None = attribute(
        "A kept credential of that name and type, by its id.", default=strawberry.UNSET
    )
    new: NewCredentialInput | None = attribute("A new credential.", default=strawberry.UNSET)


@input_type
class AddModelInput:
    """What a custom model is to be."""

    workspace_id: strawberry.ID | None = attribute(
        "The workspace; left out, the token's, or the only one that your account belongs to.", default=None
    )
    model: ModelKeyInput = attribute("Its provider, name and type.")
    label: str | None = attribute("What is shown; left out, the name.", default=None)
    credential: AddModelCredentialInput = attribute("What serves it.")
    verify: bool | None = attribute(
        "Whether the provider is asked before anything is stored. With false it is stored UNVERIFIED and validated soon.",
        default=True,
    )


@input_type
class SetModelEnabledInput:
    """Whether a model may be called."""

    id: strawberry.ID = attribute("The model's id.")
    enabled: bool = attribute("Whether calls are let through.")


@input_type
class UpdateModelInput:
    """What is to change of a custom model."""

    id: strawberry.ID = attribute("The model's id.")
    label: str | None = attribute("What is shown; null: its name. Left out, it stays.", default=strawberry.UNSET)


@input_type
class RemoveModelInput:
    """Which custom model is to go."""

    id: strawberry.ID = attribute("The model's id.")


@input_type
class PricingInput:
    """The price of one million units of each kind."""

    currency: str = attribute("The currency's ISO 4217 code.")
    input: Decimal = attribute("Of a million units of input.")
    output: Decimal | None = attribute("Of a million tokens of output.", default=None)
    cached_input: Decimal | None = attribute("Of a million cached tokens of input; null: as other input.", default=None)
    cache_write: Decimal | None = attribute(
        "Of a million tokens written into the cache; null: as other input.", default=None
    )
    unit: PricingUnit = attribute("What is counted.", default=PricingUnit.TOKEN)

    def pricing(self) -> CorePricing:
        """Return what core takes."""
        return CorePricing(
            currency=self.currency,
            input=self.input,
            output=self.output,
            cached_input=self.cached_input,
            cache_write=self.cache_write,
            unit=self.unit,
        )


@input_type
class SetModelPricingInput:
    """What a model is to cost in this workspace."""

    id: strawberry.ID = attribute("The model's id.")
    pricing: PricingInput | None = attribute(
        "The price; null: that of the provider's manifest. Left out, it stays.", default=strawberry.UNSET
    )


@object_type
class RemoveModelPayload:
    """What came of removing a model."""

    deleted_id: strawberry.ID | None = attribute("The model that is gone; null when it failed.", default=None)
    provider: ProviderLink | None = attribute("Its provider as it is now; null when it failed.", default=None)
    errors: list[UserError] = attribute(ERRORS)


@object_type
class ModelPayload:
    """What came of a change of a model."""

    model: Model | None = attribute("The model as it is now; null when it failed.", default=None)
    errors: list[UserError] = attribute(ERRORS)


@strawberry.type(name="Mutation")
class ModelMutations:
    """Changes of models."""

    @mutation(ModelPayload)
    async def add_model(self, info: Info, input: Annotated[AddModelInput, INPUT]) -> ModelPayload:
        """Adds a custom model with its first credential; where the model is there, the credential is attached to it.

        Needs MODEL_MANAGE and CREDENTIAL_MANAGE.
        """
        context = info.context
        existing, new = input.credential.existing_id, input.credential.new
        entered = NewModel(
            key=input.model.key(),
            label=input.label,
            existing_id=ids.given_credential(existing, ("credential", "existingId")) if existing else None,
            credential_name=new.name if new else None,
            values=values_of(new.values, ("credential", "new", "values")) if new else None,
            verify=input.verify is not False,
            workspace_id=ids.optional_uuid(input.workspace_id, "Workspace", ("workspaceId",)),
        )
        with _inside_credential():
            return _changed(context, *await add_model(context.app, context.who, entered))

    @mutation(ModelPayload)
    async def update_model(self, info: Info, input: Annotated[UpdateModelInput, INPUT]) -> ModelPayload:
        """Changes the label of a custom model.

        Needs MODEL_MANAGE.
        """
        context = info.context
        place = ids.given_model(input.id)
        if input.label is strawberry.UNSET:
            return _changed(context, *await manageable_model(context.app, context.who, *place))
        return _changed(context, *await update_model(context.app, context.who, *place, input.label))

    @mutation(RemoveModelPayload)
    async def remove_model(self, info: Info, input: Annotated[RemoveModelInput, INPUT]) -> RemoveModelPayload:
        """Takes a custom model off the list, with its settings. Its credentials are kept until the last is deleted.

        Needs MODEL_MANAGE.
        """
        context = info.context
        workspace_id, key = ids.given_model(input.id)
        configuration, manifest = await remove_model(context.app, context.who, workspace_id, key)
        context.changed(configuration)
        return RemoveModelPayload(
            deleted_id=ids.model_id(workspace_id, key), provider=links.provider(configuration, manifest), errors=[]
        )

    @mutation(ModelPayload)
    async def set_model_pricing(self, info: Info, input: Annotated[SetModelPricingInput, INPUT]) -> ModelPayload:
        """Sets what a model costs in this workspace, in place of the price that its provider's manifest has.

        Needs MODEL_MANAGE.
        """
        context = info.context
        place = ids.given_model(input.id)
        if input.pricing is strawberry.UNSET:
            return _changed(context, *await manageable_model(context.app, context.who, *place))
        pricing = input.pricing.pricing() if input.pricing is not None else None
        return _changed(context, *await set_model_pricing(context.app, context.who, *place, pricing))

    @mutation(ModelPayload)
    async def set_model_enabled(self, info: Info, input: Annotated[SetModelEnabledInput, INPUT]) -> ModelPayload:
        """Switches a model on or off for the workspace.

        Needs MODEL_MANAGE.
        """
        context = info.context
        workspace_id, key = ids.given_model(input.id)
        changed = await set_model_enabled(context.app, context.who, workspace_id, key, enabled=input.enabled)
        return _changed(context, *changed)


@contextmanager
def _inside_credential() -> Iterator[None]:
    """Give an error of the new credential the path that it has in this input, where the credential is further inside."""
    try:
        yield
    except ModelyardError as error:
        if error.path[:1] in {("values",), ("name",)}:
            error.path = ("credential", "new", *error.path)
        raise


def _changed(context: Context, configuration: Configuration, known: Known) -> ModelPayload:
    context.changed(configuration)
    return ModelPayload(model=Model(configuration=configuration, known=known), errors=[])


def key_of(context: Context, given: ModelKeyInput) -> CoreModelKey | None:
    """Return the key that an input names, canonical; None where there is no such provider."""
    provider = context.app.catalog.canonical(given.provider)
    return CoreModelKey(provider=provider, name=given.name, type=given.type) if provider is not None else None

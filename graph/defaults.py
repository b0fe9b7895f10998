"""Default models: what serves a call that names none."""

from typing import Annotated

import strawberry

from core.configuration import Configuration
from core.defaults import NewDefault, set_default_models
from core.resolve import default_problem, find_model
from graph import ids, links
from graph.context import Info
from graph.links import ModelLink
from graph.mutations import ERRORS, INPUT, mutation
from graph.problems import UserError
from graph.types import attribute, input_type, object_type, resolved
from graph.values import ModelReferenceInput, ModelType


@object_type
class DefaultModel:
    """The model that serves calls of a type that name none."""

    configuration: strawberry.Private[Configuration]
    of_type: strawberry.Private[ModelType]

    @property
    def workspace_id(self) -> object:
        """Return the workspace."""
        return self.configuration.workspace_id

    @resolved
    def type(self) -> ModelType:
        """The type of the calls."""
        return self.of_type

    @resolved
    def model(self, info: Info) -> ModelLink | None:
        """The model; null where none is set, and where the one set is gone."""
        key = self.configuration.defaults.get(self.of_type)
        known = find_model(self.configuration, info.context.app.catalog, key) if key is not None else None
        return links.model(self.configuration, known) if known is not None else None

    @resolved
    def problem(self, info: Info) -> UserError | None:
        """What keeps the default from serving now; null where none is set."""
        return UserError.optional(default_problem(self.configuration, info.context.app.catalog, self.of_type))


def all_defaults(configuration: Configuration) -> list[DefaultModel]:
    """Return the default of every type, set or not."""
    return [DefaultModel(configuration=configuration, of_type=model_type) for model_type in ModelType]


@input_type
class DefaultModelInput:
    """What is to serve the calls of a type that name no model."""

    type: ModelType = attribute("The type of the calls.")
    model: ModelReferenceInput | None = attribute(
        "An ACTIVE model of that type; null clears the default.", default=None
    )


@input_type
class SetDefaultModelsInput:
    """Defaults to set, all or none."""

    workspace_id: strawberry.ID | None = attribute(
        "The workspace; left out, the token's, or the only one that your account belongs to.", default=None
    )
    defaults: list[DefaultModelInput] = attribute("The types to change, each at most once.")


@object_type
class DefaultModelsPayload:
    """What came of setting defaults."""

    default_models: list[DefaultModel] | None = attribute(
        "The default of every type as it is now; null when it failed.", default=None
    )
    errors: list[UserError] = attribute(ERRORS)


@strawberry.type(name="Mutation")
class DefaultMutations:
    """Changes of default models."""

    @mutation(DefaultModelsPayload)
    async def set_default_models(
        self, info: Info, input: Annotated[SetDefaultModelsInput, INPUT]
    ) -> DefaultModelsPayload:
        """Sets the default models of several types, all or none. Each must be able to serve now.

        Needs DEFAULT_MANAGE.
        """
        context = info.context
        entered = [
            NewDefault(type=one.type, model=one.model.reference() if one.model is not None else None)
            for one in input.defaults
        ]
        workspace_id = ids.optional_uuid(input.workspace_id, "Workspace", ("workspaceId",))
        configuration = await set_default_models(context.app, context.who, workspace_id, entered)
        context.changed(configuration)
        return DefaultModelsPayload(default_models=all_defaults(configuration), errors=[])

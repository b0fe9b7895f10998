"""Moderation: whether a text is harmful."""

from typing import Annotated

import strawberry

from core.invoke import moderate
from core.model_types.moderation import ModerationRequest
from graph.calls import CallInput, CallPayload, check_text
from graph.context import Info
from graph.mutations import INPUT, mutation
from graph.problems import UserError
from graph.scalars import JSON
from graph.types import attribute, input_type, object_type

MAX_CHARACTERS = 1_000_000


@input_type
class ModerateInput(CallInput):
    """What is to be judged."""

    text: str = attribute("The text.")

    def request(self) -> ModerationRequest:
        """Return what core takes.

        Raises:
            InvalidInput: a value breaks its rules; its path says which.
        """
        check_text(self.text, "`text`", ("text",), MAX_CHARACTERS)
        return ModerationRequest(text=self.text, end_user=self.end_user, provider_options=self.options())


@object_type
class ModeratePayload(CallPayload):
    """What came of a moderation."""

    flagged: bool | None = attribute("Whether the text is harmful; null when it failed.", default=None)
    categories: JSON | None = attribute(
        "By the provider's names of kinds of harm: an object with `flagged`, and `score` from 0 to 1 or null.",
        default=None,
    )


@strawberry.type(name="Mutation")
class ModerationMutations:
    """Moderation."""

    @mutation(ModeratePayload)
    async def moderate(self, info: Info, input: Annotated[ModerateInput, INPUT]) -> ModeratePayload:
        """Judges whether a text is harmful. A document has at most one such field.

        Needs MODEL_INVOKE.
        """
        context = info.context
        outcome = await moderate(context.app, context.who, input.asked(), input.request())
        verdict = outcome.result
        found = (
            {name: {"flagged": one.flagged, "score": one.score} for name, one in verdict.categories.items()}
            if verdict
            else None
        )
        return ModeratePayload(
            flagged=verdict.flagged if verdict is not None else None,
            categories=found,
            invocation_id=outcome.invocation_id,
            errors=UserError.listed(outcome.problem),
        )

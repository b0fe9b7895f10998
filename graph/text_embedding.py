"""Embeddings: texts to vectors."""

from typing import Annotated

import strawberry

from core.errors import InvalidInput
from core.invoke import embed
from core.model_types.text_embedding import MAX_TEXTS, EmbeddingPurpose, EmbeddingRequest
from graph.calls import CallInput, CallPayload, check_text
from graph.context import Info
from graph.mutations import INPUT, mutation
from graph.problems import UserError
from graph.scalars import Vector
from graph.types import attribute, described, input_type, object_type

described(
    EmbeddingPurpose,
    "What vectors are for; some models embed a question differently from what answers it.",
    DOCUMENT="To be found.",
    QUERY="To find with.",
)

MAX_CHARACTERS = 1_000_000
MAX_DIMENSIONS = 65_536


@input_type
class EmbedInput(CallInput):
    """What is to be embedded."""

    texts: list[str] = attribute("1 to 2048 texts; they are sent in as many requests as the provider needs.")
    purpose: EmbeddingPurpose | None = attribute("What the vectors are for.", default=None)
    dimensions: int | None = attribute(
        "How many dimensions the vectors have, where the model can choose; left out, the model's own.", default=None
    )

    def request(self) -> EmbeddingRequest:
        """Return what core takes.

        Raises:
            InvalidInput: a value breaks its rules; its path says which.
        """
        if not 1 <= len(self.texts) <= MAX_TEXTS:
            raise InvalidInput(f"There are 1 to {MAX_TEXTS} texts.", path=("texts",))
        for number, text in enumerate(self.texts):
            check_text(text, "A text", ("texts", str(number)), MAX_CHARACTERS)
        if self.dimensions is not None and not 1 <= self.dimensions <= MAX_DIMENSIONS:
            raise InvalidInput(f"`dimensions` is from 1 to {MAX_DIMENSIONS}.", path=("dimensions",))
        return EmbeddingRequest(
            texts=tuple(self.texts),
            purpose=self.purpose,
            dimensions=self.dimensions,
            end_user=self.end_user,
            provider_options=self.options(),
        )


@object_type
class EmbedPayload(CallPayload):
    """What came of an embedding."""

    embeddings: list[Vector] | None = attribute(
        "A vector for each text, in their order; null when it failed.", default=None
    )


@strawberry.type(name="Mutation")
class EmbeddingMutations:
    """Embeddings."""

    @mutation(EmbedPayload)
    async def embed(self, info: Info, input: Annotated[EmbedInput, INPUT]) -> EmbedPayload:
        """Turns texts into vectors. A document has at most one such field.

        Needs MODEL_INVOKE.
        """
        context = info.context
        outcome = await embed(context.app, context.who, input.asked(), input.request())
        return EmbedPayload(
            embeddings=list(outcome.result.vectors) if outcome.result is not None else None,
            invocation_id=outcome.invocation_id,
            errors=UserError.listed(outcome.problem),
        )

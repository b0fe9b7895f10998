"""Reranking: documents ordered by how well they answer a query."""

import math
from typing import Annotated

import strawberry

from core.errors import InvalidInput
from core.invoke import rerank_documents
from core.model_types.rerank import MAX_DOCUMENTS, RerankRequest
from graph.calls import CallInput, CallPayload, check_text
from graph.context import Info
from graph.mutations import INPUT, mutation
from graph.problems import UserError
from graph.types import attribute, input_type, object_type

MAX_CHARACTERS = 1_000_000


@input_type
class RerankInput(CallInput):
    """What is to be ordered."""

    query: str = attribute("The question.")
    documents: list[str] = attribute("1 to 1000 texts that may answer it.")
    top_n: int | None = attribute("The most hits; left out, all.", default=None)
    score_threshold: float | None = attribute("Hits below this score are left out.", default=None)

    def request(self) -> RerankRequest:
        """Return what core takes.

        Raises:
            InvalidInput: a value breaks its rules; its path says which.
        """
        check_text(self.query, "`query`", ("query",), MAX_CHARACTERS)
        if not 1 <= len(self.documents) <= MAX_DOCUMENTS:
            raise InvalidInput(f"There are 1 to {MAX_DOCUMENTS} documents.", path=("documents",))
        for number, document in enumerate(self.documents):
            check_text(document, "A document", ("documents", str(number)), MAX_CHARACTERS)
        if self.top_n is not None and self.top_n < 1:
            raise InvalidInput("`topN` is at least 1.", path=("topN",))
        if self.score_threshold is not None and not math.isfinite(self.score_threshold):
            raise InvalidInput("`scoreThreshold` is a finite number.", path=("scoreThreshold",))
        return RerankRequest(
            query=self.query,
            documents=tuple(self.documents),
            top_n=min(self.top_n, len(self.documents)) if self.top_n is not None else None,
            score_threshold=self.score_threshold,
            end_user=self.end_user,
            provider_options=self.options(),
        )


@object_type
class RerankHit:
    """A document, and how well it answers."""

    index: int = attribute("Its place among the documents, counted from 0.")
    score: float = attribute("The model's score; those of two models do not compare.")
    text: str = attribute("The document.")


@object_type
class RerankPayload(CallPayload):
    """What came of a reranking."""

    hits: list[RerankHit] | None = attribute("The best first; null when it failed.", default=None)


@strawberry.type(name="Mutation")
class RerankMutations:
    """Reranking."""

    @mutation(RerankPayload)
    async def rerank(self, info: Info, input: Annotated[RerankInput, INPUT]) -> RerankPayload:
        """Orders documents by how well they answer a query. A document of GraphQL has at most one such field.

        Needs MODEL_INVOKE.
        """
        context = info.context
        outcome = await rerank_documents(context.app, context.who, input.asked(), input.request())
        hits = outcome.result.hits if outcome.result is not None else None
        return RerankPayload(
            hits=[RerankHit(index=hit.index, score=hit.score, text=input.documents[hit.index]) for hit in hits]
            if hits is not None
            else None,
            invocation_id=outcome.invocation_id,
            errors=UserError.listed(outcome.problem),
        )

"""The use case of counting the tokens of a completion before it is made: nobody is called, nothing is held."""

import asyncio
from dataclasses import dataclass

from core.access import Viewer
from core.admission import configuration_for, current
from core.app import App
from core.counting import estimated_input, input_upper_bound, is_bounded
from core.model_types.llm import ChatRequest
from core.plan import CompletionRequest, plan
from core.provider import ModelCard


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCount:
    """How many tokens of input a request has by our estimate, and at most; `upper_bound` None: nothing bounds it."""

    input_tokens: int
    upper_bound: int | None


async def count_tokens(app: App, viewer: Viewer, request: CompletionRequest) -> TokenCount:
    """Return the count for the model that the request would go to first. Counting is done in a thread.

    Raises:
        ModelyardError: the request would be refused before anybody is called.
    """
    configuration = await current(app, await configuration_for(app, viewer, request.workspace_id))
    (first, *_) = plan(app.catalog, viewer, configuration, request)
    return await asyncio.to_thread(_count, first.chat, first.card)


def _count(chat: ChatRequest, card: ModelCard) -> TokenCount:
    words, image = card.vocabulary, card.image_tokens
    return TokenCount(
        input_tokens=estimated_input(chat, words, image),
        upper_bound=input_upper_bound(chat, words, image) if is_bounded(chat, image) else None,
    )

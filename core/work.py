"""What an attempt does whose result comes whole: one request, or as many as the provider needs."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

import msgspec

from core.metering import Estimate, expected
from core.model_types import Usage, text_embedding
from core.model_types.text_embedding import EmbeddingRequest, Embeddings
from core.provider import Call, EmbeddingModels, ModelCard

T = TypeVar("T")
A = TypeVar("A")
R_co = TypeVar("R_co", covariant=True)

BATCHES_AT_ONCE = 4
"""How many requests of one embedding are under way together."""


class Requests:
    """The requests of one attempt; `answers` is called whenever one is answered."""

    def __init__(self, answers: Callable[[], None]) -> None:
        self._answers = answers
        self.unanswered: list[Usage] = []
        """What those are likely to use that were sent, and not answered."""

    async def ask(self, request: Awaitable[A], foreseen: Usage) -> A:
        """Wait for the answer of a request."""
        self.unanswered.append(foreseen)
        found = await request
        self.unanswered.remove(foreseen)
        self._answers()
        return found


class Work(Protocol[R_co]):
    """What one type expects to use, does in an attempt, and what the answers of all attempts together have used."""

    def estimate(self, card: ModelCard) -> Estimate: ...
    async def attempt(self, call: Call, requests: Requests) -> R_co: ...
    def usage(self) -> Usage | None: ...


class Single(Generic[T]):
    """One request, one answer."""

    def __init__(
        self,
        attempt: Callable[[Call], Awaitable[T]],
        used: Callable[[T], Usage],
        foreseen: Usage,
        estimate: Estimate,
    ) -> None:
        self._attempt = attempt
        self._estimate = estimate
        self._used = used
        self._foreseen = foreseen
        self._found: T | None = None

    def estimate(self, card: ModelCard) -> Estimate:
        """Return what the request may use."""
        return self._estimate

    async def attempt(self, call: Call, requests: Requests) -> T:
        """Ask once."""
        self._found = await requests.ask(self._attempt(call), self._foreseen)
        return self._found

    def usage(self) -> Usage | None:
        """Return what the answer used."""
        return self._used(self._found) if self._found is not None else None


class Batches:
    """Texts in batches as large as the model takes; what one attempt has got, the next does not ask for again."""

    def __init__(self, adapter: EmbeddingModels, request: EmbeddingRequest) -> None:
        self._adapter = adapter
        self._request = request
        self._found: dict[int, Embeddings] = {}

    async def attempt(self, call: Call, requests: Requests) -> Embeddings:
        """Ask for all batches that are missing, a few at once."""
        texts, size = self._request.texts, self._batch_size(call.card)
        waiting = [start for start in range(0, len(texts), size) if start not in self._found]
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(BATCHES_AT_ONCE, len(waiting))):
                    group.create_task(self._ask(call, requests, waiting, size))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        batches = [self._found[start] for start in sorted(self._found)]
        return Embeddings(vectors=tuple(vector for batch in batches for vector in batch.vectors), usage=self.usage())

    def estimate(self, card: ModelCard) -> Estimate:
        """Return what all batches may use."""
        requests = -(-len(self._request.texts) // self._batch_size(card))
        return expected(msgspec.structs.replace(text_embedding.estimate_usage(self._request), requests=requests))

    def usage(self) -> Usage | None:
        """Return what the batches have used that were answered."""
        if not self._found:
            return None
        counted = [batch.usage for batch in self._found.values()]
        usages = [usage for usage in counted if usage is not None]
        return Usage(
            input_tokens=sum(usage.input_tokens for usage in usages),
            requests=len(counted),
            estimated=any(usage.estimated for usage in usages),
        )

    def _batch_size(self, card: ModelCard) -> int:
        """Return how many texts go into a request."""
        return _whole(card.properties.get("max_texts")) or self._adapter.max_texts

    async def _ask(self, call: Call, requests: Requests, waiting: list[int], size: int) -> None:
        while waiting:
            start = waiting.pop(0)
            request = msgspec.structs.replace(self._request, texts=self._request.texts[start : start + size])
            foreseen = text_embedding.estimate_usage(request)
            found = await requests.ask(self._adapter.embed(call, request), foreseen)
            self._found[start] = msgspec.structs.replace(found, usage=found.usage or foreseen)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None

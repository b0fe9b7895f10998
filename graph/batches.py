"""A source of events in batches, which graphql-core sees one by one and the compiled path takes as they come."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any


class Batches(AsyncIterator[Any]):
    """What a streaming subscription resolves to. Read by `batches` or by iterating, not by both."""

    def __init__(self, batches: AsyncGenerator[Sequence[Any], None]) -> None:
        self.batches = batches
        self._events = _one_by_one(batches)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._events

    async def __anext__(self) -> Any:
        return await anext(self._events)

    async def aclose(self) -> None:
        """Close the source."""
        await self._events.aclose()
        await self.batches.aclose()


async def _one_by_one(batches: AsyncGenerator[Sequence[Any], None]) -> AsyncGenerator[Any, None]:
    async with aclosing(batches):
        async for batch in batches:
            for event in batch:
                yield event

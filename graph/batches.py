"""A source of events in batches, which graphql-core sees one by one and the compiled path takes as they come."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

from core.model_types.llm import Event
from core.stream import Reader
from graph.completion_events import mark_of


class EventPayloads(list[bytes]):
    """Encoded payloads of a batch of a completion's events."""

    __slots__ = ("events",)

    def __init__(self, events: Sequence[Event]) -> None:
        super().__init__()
        self.events = events

    def marks(self) -> Sequence[str | None]:
        """Return what stands for each payload's place, by which a client can say how far it came."""
        return [mark_of(event) for event in self.events]


class Tap:
    """Where events of a completion can be had in the very turn in which they come: its reader, once there is one."""

    reader: Reader | None = None


class Batches(AsyncIterator[Any]):
    """What a streaming subscription resolves to. Read by `batches` or by iterating, not by both."""

    def __init__(self, batches: AsyncGenerator[Sequence[Any], None], tap: Tap) -> None:
        self.batches = batches
        self.tap = tap
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

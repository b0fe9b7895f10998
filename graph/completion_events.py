"""The events of a completion. A resolver is given core's own event: nothing is copied on the way out."""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar, cast, dataclass_transform
from uuid import UUID

import strawberry

from core.errors import InvalidInput
from core.model_types import llm
from core.model_types.llm import FinishReason, InterruptReason, ProviderType
from graph import ids, links
from graph.context import Info
from graph.links import InvocationLink
from graph.problems import UserError
from graph.types import attribute, described, object_type, resolved
from graph.values import Attempt, Cost, ModelKey, Usage

if TYPE_CHECKING:
    from graph.invocations import Invocation

T = TypeVar("T")

_NUMBER = re.compile(r"-1|[0-9]{1,9}")

described(
    FinishReason,
    "Why a model stopped.",
    STOP="It was done, or met a stop sequence.",
    LENGTH="It reached the most tokens that it may write.",
    TOOL_CALLS="It waits for the results of tools.",
    CONTENT_FILTER="The provider's filter cut it off.",
    OTHER="The provider gave another reason.",
)
described(
    InterruptReason,
    "Why one reader was sent away while the completion goes on.",
    LAGGED="It read too slowly.",
    SHUTDOWN="This server stops.",
    UNAUTHORIZED="Its token may no longer read this.",
)


@object_type
class ToolCall:
    """A call of a tool that the model asks for."""

    id: str = attribute("The id that the result refers to.")
    name: str = attribute("The tool's name.")
    arguments: str = attribute("The arguments: JSON text as the model wrote it, to be checked before use.")


@object_type
class AssistantMessage:
    """A whole answer, as it can be sent back in `messages`."""

    text: str = attribute("What was said.")
    reasoning: str | None = attribute("The reasoning that the model showed; null where it showed none.")
    tool_calls: list[ToolCall] = attribute("The tools that the model asks to have called.")
    continuation: str | None = attribute(
        "Opaque: what the provider needs back with this message to go on from it (signed reasoning and the like); null: nothing."
    )

    @classmethod
    def of(cls, message: llm.AssistantMessage) -> "AssistantMessage":
        """Return a message as the type of the schema that reads it."""
        return cast("AssistantMessage", message)


@lru_cache(maxsize=4096)
def global_id(invocation_id: str) -> strawberry.ID:
    """Return the id of an invocation, which all its events carry."""
    return ids.encode("Invocation", UUID(invocation_id))


def mark_of(event: llm.Event) -> str | None:
    """Return what stands for the place after an event in its completion; None where there is no completion."""
    return f"{global_id(event.invocation_id)}:{event.sequence}" if event.invocation_id is not None else None


def read_mark(mark: str) -> tuple[str, int]:
    """Return the invocation's id and the number that a mark stands for.

    Raises:
        InvalidInput: it is no mark.
    """
    given, _, number = mark.rpartition(":")
    if not given or not _NUMBER.fullmatch(number):
        raise InvalidInput("`Last-Event-ID` is the id of an event of this API.")
    return given, int(number)


@strawberry.interface(description="What happens in a completion, in order.")
class CompletionEvent:
    """What all events carry."""

    sequence: int = attribute("The event's number: from 0, without gaps.")

    @resolved
    def invocation_id(self) -> strawberry.ID | None:
        """The invocation that the event belongs to; null in a call that was refused before it was admitted."""
        found = cast("llm.Event", self).invocation_id
        return global_id(found) if found is not None else None


@dataclass_transform(kw_only_default=True, field_specifiers=(attribute,))
def event_type(event: type[llm.Event]) -> Callable[[type[T]], type[T]]:
    """Make a class the type of the schema that reads an event of core."""

    def declare(cls: type[T]) -> type[T]:
        cls.is_type_of = classmethod(lambda _, value, __: isinstance(value, event))  # type: ignore[attr-defined]
        return object_type(cls)

    return declare


async def _invocation(event: object, info: Info) -> "Invocation | None":
    found = cast("llm.Event", event).invocation_id
    return await links.invocation(info.context, UUID(found)) if found is not None else None


@event_type(llm.CompletionStarted)
class CompletionStarted(CompletionEvent):
    """The call was admitted. Sent before the first byte goes to the provider, so that it can be cancelled."""

    model: ModelKey = attribute("The model that is tried first.")
    provider_type: ProviderType = attribute("Whose credentials serve.")
    credential_name: str | None = attribute(
        "The credential that is used; null without CREDENTIAL_READ, and where none is needed."
    )


@event_type(llm.CompletionRerouted)
class CompletionRerouted(CompletionEvent):
    """An attempt failed before anything was delivered, and another follows."""

    failed: Attempt = attribute("The attempt that failed.")
    model: ModelKey = attribute("The model that is tried next.")
    credential_name: str | None = attribute(
        "The credential that is used next; null without CREDENTIAL_READ, and where none is needed."
    )


@event_type(llm.TextDelta)
class TextDelta(CompletionEvent):
    """More of the answer's text."""

    text: str = attribute("What to append.")


@event_type(llm.ReasoningDelta)
class ReasoningDelta(CompletionEvent):
    """More of the model's reasoning."""

    text: str = attribute("What to append.")


@event_type(llm.ToolCallDelta)
class ToolCallDelta(CompletionEvent):
    """More of a tool call that the model asks for."""

    index: int = attribute("Which call it belongs to, counted from 0.")
    id: str | None = attribute("The call's id, with the first delta of the call; null with those after it.")
    name: str | None = attribute("The tool's name, with the first delta of the call; null with those after it.")
    arguments: str = attribute("What to append to the arguments' JSON text.")


@event_type(llm.CompletionFinished)
class CompletionFinished(CompletionEvent):
    """The end of a completion that went well."""

    finish_reason: FinishReason = attribute("Why the model stopped.")
    message: AssistantMessage = attribute("The whole answer.")
    usage: Usage = attribute("What it used.")
    cost: Cost | None = attribute("What it cost; null where no price is known.")

    @resolved
    async def invocation(self, info: Info) -> InvocationLink | None:
        """The record of the call."""
        return await _invocation(self, info)


@event_type(llm.CompletionFailed)
class CompletionFailed(CompletionEvent):
    """The end of a completion that failed, or was refused or cancelled."""

    error: UserError = attribute("Why.")
    usage: Usage | None = attribute("What it used until then; null where nothing was.")

    @resolved
    async def invocation(self, info: Info) -> InvocationLink | None:
        """The record of the call; null in a call that was refused before it was admitted."""
        return await _invocation(self, info)


@event_type(llm.CompletionInterrupted)
class CompletionInterrupted(CompletionEvent):
    """The end of this reader, not of the completion. It takes no number: `sequence` is that of the last event delivered, -1 if none."""

    reason: InterruptReason = attribute("Why the reader was sent away.")
    resume_after: int | None = attribute("The number of the last event that was delivered; null: none was.")
    retry_after: float | None = attribute(
        "How many seconds to wait before coming back; null: none, or there is no coming back."
    )


EVENT_TYPES = (
    CompletionStarted,
    CompletionRerouted,
    TextDelta,
    ReasoningDelta,
    ToolCallDelta,
    CompletionFinished,
    CompletionFailed,
    CompletionInterrupted,
)
"""Every type of event, by which the schema knows them."""

EVENT_STRUCTS: Mapping[str, type[llm.Event]] = {
    "CompletionStarted": llm.CompletionStarted,
    "CompletionRerouted": llm.CompletionRerouted,
    "TextDelta": llm.TextDelta,
    "ReasoningDelta": llm.ReasoningDelta,
    "ToolCallDelta": llm.ToolCallDelta,
    "CompletionFinished": llm.CompletionFinished,
    "CompletionFailed": llm.CompletionFailed,
    "CompletionInterrupted": llm.CompletionInterrupted,
}
"""The class of core that each type of event reads."""

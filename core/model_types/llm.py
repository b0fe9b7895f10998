"""Language models: the request, the pieces a dialect yields, and the numbered events a reader gets."""

from enum import StrEnum
from typing import Any

import msgspec

from core.errors import Problem
from core.model_types import ModelKey, Usage


class Role(StrEnum):
    """Who speaks in a message."""

    SYSTEM = "SYSTEM"
    USER = "USER"
    ASSISTANT = "ASSISTANT"
    TOOL = "TOOL"


class MediaKind(StrEnum):
    """What a media part holds."""

    IMAGE = "IMAGE"
    AUDIO = "AUDIO"
    VIDEO = "VIDEO"
    DOCUMENT = "DOCUMENT"


class Text(msgspec.Struct, frozen=True, tag="text"):
    """A text part of a message."""

    text: str


class Media(msgspec.Struct, frozen=True, kw_only=True, tag="media"):
    """A media part: by `url` or by `base64` with its `mime_type`; exactly one of the two is set."""

    kind: MediaKind
    url: str | None = None
    base64: str | None = None
    mime_type: str | None = None
    filename: str | None = None


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call of a tool that the model asks for; `arguments` is the JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message of the conversation; `continuation` is what an earlier answer gave to be sent back with it."""

    role: Role
    content: tuple[Text | Media, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    continuation: str | None = None


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A function that the model may ask for; `parameters` is a JSON schema."""

    name: str
    description: str | None = None
    parameters: dict[str, Any]


class ToolChoiceMode(StrEnum):
    """Whether the model may, must not or must call a tool."""

    AUTO = "AUTO"
    NONE = "NONE"
    REQUIRED = "REQUIRED"


class ToolChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Either a mode or the name of the one tool to call."""

    mode: ToolChoiceMode | None = None
    tool: str | None = None


class ResponseFormat(msgspec.Struct, frozen=True, kw_only=True):
    """Structured output: any JSON object, or one of a schema."""

    json_schema: dict[str, Any] | None = None


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a completion asks of a model; `parameters` are checked against the model's rules beforehand."""

    messages: tuple[Message, ...]
    parameters: dict[str, Any] = {}
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    response_format: ResponseFormat | None = None
    stop: tuple[str, ...] = ()
    end_user: str | None = None
    provider_options: dict[str, Any] = {}


class FinishReason(StrEnum):
    """Why a model stopped."""

    STOP = "STOP"
    LENGTH = "LENGTH"
    TOOL_CALLS = "TOOL_CALLS"
    CONTENT_FILTER = "CONTENT_FILTER"
    OTHER = "OTHER"


# ---- pieces: what a dialect yields, in batches of one network read


class TextPiece(msgspec.Struct, frozen=True, gc=False):
    """More of the answer's text."""

    text: str


class ReasoningPiece(msgspec.Struct, frozen=True, gc=False):
    """More of the model's reasoning."""

    text: str


class ToolCallPiece(msgspec.Struct, frozen=True, gc=False):
    """More of a tool call; `id` and `name` come once, with the first piece of an `index` (counted from 0)."""

    index: int
    id: str | None
    name: str | None
    arguments: str


class UsagePiece(msgspec.Struct, frozen=True):
    """The provider's count so far; a later one replaces an earlier one."""

    usage: Usage


class FinishPiece(msgspec.Struct, frozen=True):
    """The model stopped. What is still to come is usage."""

    reason: FinishReason


class ContinuationPiece(msgspec.Struct, frozen=True):
    """The opaque text that the provider needs back with this message (signed reasoning and the like)."""

    continuation: str


Piece = TextPiece | ReasoningPiece | ToolCallPiece | UsagePiece | FinishPiece | ContinuationPiece


# ---- events: what a reader of a completion gets, numbered from 0


class ProviderType(StrEnum):
    """Whose credentials serve: the installation's or the workspace's."""

    SYSTEM = "SYSTEM"
    CUSTOM = "CUSTOM"


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One try at a provider within an invocation. `started_at` is seconds since the epoch, `duration` seconds."""

    model: ModelKey
    credential_id: str | None = None
    credential_name: str | None = None
    started_at: float
    duration: float | None = None
    error: Problem | None = None


class AssistantMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer."""

    text: str = ""
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    continuation: str | None = None


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """An exact amount in major units, as decimal text, with its ISO 4217 code."""

    amount: str
    currency: str


class Event(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What all events carry: the invocation (None when refused before admission) and the place in the sequence."""

    invocation_id: str | None
    sequence: int


class CompletionStarted(Event, frozen=True, kw_only=True):
    """Admitted; sent before the first byte goes to the provider."""

    model: ModelKey
    provider_type: ProviderType
    credential_name: str | None = None


class CompletionRerouted(Event, frozen=True, kw_only=True):
    """An attempt failed before anything was delivered, and another follows."""

    failed: Attempt
    model: ModelKey
    credential_name: str | None = None


class TextDelta(Event, frozen=True, kw_only=True, gc=False):
    """More text."""

    text: str


class ReasoningDelta(Event, frozen=True, kw_only=True, gc=False):
    """More reasoning."""

    text: str


class ToolCallDelta(Event, frozen=True, kw_only=True, gc=False):
    """More of a tool call."""

    index: int
    id: str | None
    name: str | None
    arguments: str


DELTAS = (TextDelta, ReasoningDelta, ToolCallDelta)
"""The events that carry what the model writes."""


class CompletionFinished(Event, frozen=True, kw_only=True):
    """The end, well."""

    finish_reason: FinishReason
    message: AssistantMessage
    usage: Usage
    cost: Cost | None = None


class CompletionFailed(Event, frozen=True, kw_only=True):
    """The end, not well."""

    error: Problem
    usage: Usage | None = None


class InterruptReason(StrEnum):
    """Why one reader was sent away while the completion goes on."""

    LAGGED = "LAGGED"
    SHUTDOWN = "SHUTDOWN"
    UNAUTHORIZED = "UNAUTHORIZED"


class CompletionInterrupted(Event, frozen=True, kw_only=True):
    """Ends one reader; in no log, and takes no number."""

    reason: InterruptReason
    resume_after: int | None = None
    retry_after: float | None = None


CompletionEvent = (
    CompletionStarted
    | CompletionRerouted
    | TextDelta
    | ReasoningDelta
    | ToolCallDelta
    | CompletionFinished
    | CompletionFailed
    | CompletionInterrupted
)

"""Answers of Cohere's chat, streamed or whole, to the pieces that every dialect yields."""

from collections.abc import Mapping, Sequence

import msgspec

from core.continuation import Layout
from core.errors import ModelyardError, UpstreamProtocol, UpstreamTimeout
from core.model_types import Usage
from core.model_types.llm import (
    ContinuationPiece,
    FinishReason,
    Piece,
    ReasoningPiece,
    TextPiece,
    ToolCallPiece,
    UsagePiece,
)
from core.wire.decoding import EMPTY, Pieces, Reader, StreamDecoder, decode_known, made_up_id, read_whole
from core.wire.failures import failure_in_stream
from core.wire.sse import EventDecoder

_REASONS: Mapping[str, FinishReason] = {
    "COMPLETE": FinishReason.STOP,
    "STOP_SEQUENCE": FinishReason.STOP,
    "MAX_TOKENS": FinishReason.LENGTH,
    "ERROR_LIMIT": FinishReason.LENGTH,
    "TOOL_CALL": FinishReason.TOOL_CALLS,
    "ERROR_TOXIC": FinishReason.CONTENT_FILTER,
}
_LATE = "The provider gave the answer up: it took too long."
_FAILED = "The model failed."
_TYPES = frozenset(
    {"content-start", "content-delta", "tool-plan-delta", "tool-call-start", "tool-call-delta", "message-end"}
)


# ---- the wire's types: only what is read; all else is skipped undecoded


class _Content(msgspec.Struct, gc=False):
    type: str = ""
    text: str | None = None
    thinking: str | None = None


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    id: str | None = None
    function: _Function | None = None


class _Message(msgspec.Struct):
    """A part of a message: content and calls stand alone in a stream, in lists in a whole answer."""

    content: _Content | list[_Content] | None = None
    tool_plan: str | None = None
    tool_calls: _ToolCall | list[_ToolCall] | None = None


class _Tokens(msgspec.Struct, gc=False):
    input_tokens: float | None = None
    output_tokens: float | None = None


class _Usage(msgspec.Struct):
    tokens: _Tokens | None = None
    billed_units: _Tokens | None = None
    cached_tokens: float | None = None


class _End(msgspec.Struct):
    message: _Message | None = None
    finish_reason: str | None = None
    usage: _Usage | None = None
    error: str | None = None
    error_type: str | None = None


class _Event(msgspec.Struct):
    type: str = ""
    index: int = 0
    delta: _End | None = None


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_answer = msgspec.json.Decoder(_End).decode


class _Answer:
    """One answer: told as pieces; the plan and the thoughts are kept to go back with it."""

    def __init__(self, pieces: Pieces, provider: str, secrets: Sequence[str]) -> None:
        self._pieces = pieces
        self._provider = provider
        self._secrets = secrets
        self._layout = Layout()
        self._calls: dict[int, int] = {}  # the provider's number of a call to ours
        self._plan: list[str] = []
        self._thoughts: list[str] = []

    def add(self, content: _Content) -> None:
        """Add text or thoughts."""
        if content.thinking:
            self._thoughts.append(content.thinking)
            self._pieces.say(ReasoningPiece, content.thinking)
        if content.text:
            self._keep_thoughts()
            self._pieces.say(TextPiece, content.text)
            self._layout.text(len(content.text))

    def plan(self, text: str) -> None:
        """Add to what the model plans to do with its tools; it is neither its answer nor its thoughts."""
        self._plan.append(text)

    def start_call(self, index: int, call: _ToolCall) -> None:
        """Add a call with what is known of it."""
        self._keep_thoughts()
        number = self._calls[index] = len(self._calls)
        function = call.function or _Function()
        self._pieces.add(ToolCallPiece(number, call.id or made_up_id(), function.name or "", function.arguments or ""))
        self._layout.call()

    def write_call(self, index: int, call: _ToolCall) -> None:
        """Add to the arguments of a call."""
        arguments = call.function.arguments if call.function is not None else None
        if arguments and index in self._calls:
            self._pieces.add(ToolCallPiece(self._calls[index], None, None, arguments))

    def end(self, said: _End) -> None:
        """Add usage, continuation and the reason to stop.

        Raises:
            ModelyardError: it is a failure.
        """
        if said.usage is not None and (used := _counted(said.usage)) is not None:
            self._pieces.add(UsagePiece(used))
        if said.finish_reason in {"ERROR", "TIMEOUT"} or said.error:
            raise self._failure(said)
        self._keep_thoughts()
        if self._plan:
            self._layout.block({"tool_plan": "".join(self._plan)})
        if (continuation := self._layout.sealed(self._provider)) is not None:
            self._pieces.add(ContinuationPiece(continuation))
        self._pieces.end(_REASONS.get(said.finish_reason or "", FinishReason.OTHER))

    def _failure(self, said: _End) -> ModelyardError:
        if said.finish_reason == "TIMEOUT":
            return UpstreamTimeout(_LATE)
        error = {"message": said.error or _FAILED, "type": said.error_type or ""}
        return failure_in_stream({"error": error}, secrets=self._secrets)

    def _keep_thoughts(self) -> None:
        if self._thoughts:
            self._layout.block({"type": "thinking", "thinking": "".join(self._thoughts)})
            self._thoughts.clear()


class _Reader(Reader):
    """Reads one streamed answer."""

    def __init__(self, provider: str, secrets: Sequence[str]) -> None:
        super().__init__()
        self._answer = _Answer(self.pieces, provider, secrets)

    def read(self, event: bytes) -> None:
        """Read one event; citations and what is not known are left out."""
        said = decode_known(event, _decode_event, _TYPES)
        if said is None or said.type not in _TYPES or said.delta is None:
            return
        if said.type == "message-end":
            self._answer.end(said.delta)
            self.complete = True
        elif said.delta.message is not None:
            self._read(said.type, said.index, said.delta.message)

    def _read(self, kind: str, index: int, message: _Message) -> None:
        call = message.tool_calls
        if isinstance(message.content, _Content):
            self._answer.add(message.content)
        elif message.tool_plan:
            self._answer.plan(message.tool_plan)
        elif isinstance(call, _ToolCall):
            (self._answer.start_call if kind == "tool-call-start" else self._answer.write_call)(index, call)


def stream_decoder(provider: str, *, secrets: Sequence[str] = ()) -> StreamDecoder:
    """Return what decodes one streamed answer; `provider` is who can take its continuation back."""
    return StreamDecoder(EventDecoder(), _Reader(provider, secrets))


def decode_answer(body: bytes, *, provider: str, secrets: Sequence[str] = ()) -> Sequence[Piece]:
    """Return the pieces of a whole answer.

    Raises:
        UpstreamProtocol: it is no answer.
        ModelyardError: it is an error that came with a status of success.
    """

    def read(body: bytes) -> Pieces:
        said = _decode_answer(body)
        if said.message is None or said.finish_reason is None:
            raise _error_in(body, secrets)
        pieces = Pieces()
        answer = _Answer(pieces, provider, secrets)
        if said.message.tool_plan:
            answer.plan(said.message.tool_plan)
        for content in said.message.content if isinstance(said.message.content, list) else ():
            answer.add(content)
        for index, call in enumerate(said.message.tool_calls if isinstance(said.message.tool_calls, list) else ()):
            answer.start_call(index, call)
        answer.end(said)
        return pieces

    def read_any(body: bytes) -> Pieces:
        try:
            return read(body)
        except msgspec.ValidationError:
            raise _error_in(body, secrets) from None

    return read_whole(body, read_any)


def _error_in(body: bytes, secrets: Sequence[str]) -> ModelyardError:
    """Return the error that an object without an answer is; a message is what all of Cohere's errors have."""
    value = msgspec.json.decode(body)
    if isinstance(value, dict) and isinstance(value.get("message"), str):
        return failure_in_stream(value, secrets=secrets)
    return UpstreamProtocol(EMPTY)


def _counted(sent: _Usage) -> Usage | None:
    """Return what was processed, in our terms, and what is billed, which can be less; either alone stands for both."""
    tokens, billed = sent.tokens or sent.billed_units, sent.billed_units
    if tokens is None:
        return None
    return Usage(
        input_tokens=int(tokens.input_tokens or 0),
        output_tokens=int(tokens.output_tokens or 0),
        cached_input_tokens=int(sent.cached_tokens or 0),
        billed_input_tokens=int(billed.input_tokens or 0) if billed is not None else None,
        billed_output_tokens=int(billed.output_tokens or 0) if billed is not None else None,
    )

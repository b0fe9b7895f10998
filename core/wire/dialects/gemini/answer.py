"""Answers of Gemini, streamed or whole, to the pieces that every dialect yields."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from core.continuation import Layout
from core.errors import ModelyardError, UpstreamProtocol
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
from core.wire.decoding import EMPTY, TRUNCATED, Pieces, Reader, StreamDecoder, made_up_id, read_whole
from core.wire.failures import failure_in_stream
from core.wire.http import ANSWER_LIMIT
from core.wire.sse import EventDecoder

_REASONS: Mapping[str, FinishReason] = {
    "STOP": FinishReason.STOP,
    "MAX_TOKENS": FinishReason.LENGTH,
    "SAFETY": FinishReason.CONTENT_FILTER,
    "RECITATION": FinishReason.CONTENT_FILTER,
    "BLOCKLIST": FinishReason.CONTENT_FILTER,
    "PROHIBITED_CONTENT": FinishReason.CONTENT_FILTER,
    "SPII": FinishReason.CONTENT_FILTER,
    "IMAGE_SAFETY": FinishReason.CONTENT_FILTER,
    "IMAGE_PROHIBITED_CONTENT": FinishReason.CONTENT_FILTER,
    "IMAGE_RECITATION": FinishReason.CONTENT_FILTER,
}
_TAIL_BYTES = 8192
_BARE_ERROR = re.compile(rb'(?m)^[\[,]?\s*(\{\s*"error"\s*:.*)', re.DOTALL)


# ---- the wire's types: only what is read; all else is skipped undecoded


class _Function(msgspec.Struct, gc=False):
    name: str = ""
    id: str | None = None
    args: msgspec.Raw = msgspec.Raw(b"{}")


class _Part(msgspec.Struct, rename="camel"):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: _Function | None = None
    executable_code: dict[str, Any] | None = None
    code_execution_result: dict[str, Any] | None = None


class _Content(msgspec.Struct):
    parts: list[_Part] | None = None


class _Candidate(msgspec.Struct, rename="camel"):
    index: int | None = None
    content: _Content | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct, rename="camel", gc=False):
    prompt_token_count: int | None = None
    cached_content_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None


class _Feedback(msgspec.Struct, rename="camel"):
    block_reason: str | None = None


class _Response(msgspec.Struct, rename="camel"):
    candidates: list[_Candidate] | None = None
    usage_metadata: _Usage | None = None
    prompt_feedback: _Feedback | None = None
    error: Any = None


_decode_response = msgspec.json.Decoder(_Response).decode


class _Answer:
    """The parts of one answer: told as pieces, and remembered in their order."""

    def __init__(self, pieces: Pieces, provider: str, secrets: Sequence[str]) -> None:
        self._pieces = pieces
        self._provider = provider
        self._secrets = secrets
        self._layout = Layout()
        self._calls = 0
        self._reason: str | None = None
        self._usage: _Usage | None = None

    def add(self, response: _Response) -> None:
        """Add what the first candidate says, and the usage.

        Raises:
            ModelyardError: it is an error.
        """
        if response.error:
            raise failure_in_stream({"error": response.error}, secrets=self._secrets)
        for candidate in response.candidates or ():
            if not candidate.index:
                self._add_candidate(candidate)
        if response.usage_metadata is not None:
            self._usage = response.usage_metadata
        feedback = response.prompt_feedback
        if feedback is not None and feedback.block_reason:
            self._reason = self._reason or "SAFETY"
        if self._reason is not None:
            self._end(self._reason)

    def _end(self, reason: str) -> None:
        if self._usage is not None:
            self._pieces.add(UsagePiece(_counted(self._usage)))
        if (continuation := self._layout.sealed(self._provider)) is not None:
            self._pieces.add(ContinuationPiece(continuation))
        is_call = reason == "STOP" and self._calls
        self._pieces.end(FinishReason.TOOL_CALLS if is_call else _REASONS.get(reason, FinishReason.OTHER))

    def _add_candidate(self, candidate: _Candidate) -> None:
        if candidate.content is not None:
            for part in candidate.content.parts or ():
                self._add_part(part)
        self._reason = candidate.finish_reason or self._reason

    def _add_part(self, part: _Part) -> None:
        signature = {"thoughtSignature": part.thought_signature} if part.thought_signature else {}
        if part.function_call is not None:
            self._add_call(part.function_call, signature)
        elif part.executable_code is not None:
            self._layout.block({"executableCode": part.executable_code, **signature})
        elif part.code_execution_result is not None:
            self._layout.block({"codeExecutionResult": part.code_execution_result, **signature})
        elif part.thought:
            self._pieces.say(ReasoningPiece, part.text or "")
            if signature:
                self._layout.block({"text": part.text or "", "thought": True, **signature})
        elif part.text or signature:
            self._pieces.say(TextPiece, part.text or "")
            self._layout.text(len(part.text or ""), signature)

    def _add_call(self, function: _Function, signature: dict[str, Any]) -> None:
        arguments = bytes(function.args).decode()
        arguments = "{}" if arguments == "null" else arguments
        self._pieces.add(ToolCallPiece(self._calls, function.id or made_up_id(), function.name, arguments))
        self._layout.call(signature)
        self._calls += 1


class _Frames(EventDecoder):
    """Events, and the end of the bytes as they came: an error can stand there that is no event at all."""

    __slots__ = ("tail",)

    def __init__(self) -> None:
        super().__init__(limit=ANSWER_LIMIT)  # an image or a file comes in one event
        self.tail = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the data of the events that `chunk` completes."""
        self.tail = (self.tail + chunk)[-_TAIL_BYTES:]
        return super().feed(chunk)


class _Reader(Reader):
    """Reads one streamed answer: it ends with its bytes, after a reason to finish."""

    def __init__(self, provider: str, secrets: Sequence[str], frames: _Frames) -> None:
        super().__init__()
        self._answer = _Answer(self.pieces, provider, secrets)
        self._frames = frames
        self._secrets = secrets

    def read(self, event: bytes) -> None:
        """Read one event."""
        self._answer.add(_decode_response(event))

    def end(self) -> None:
        """Take the end of the bytes for the end of an answer that has its reason."""
        if self.pieces.finish is None:
            raise _bare_error(self._frames.tail, self._secrets) or UpstreamProtocol(TRUNCATED)
        self.complete = True


def stream_decoder(provider: str, *, secrets: Sequence[str] = ()) -> StreamDecoder:
    """Return what decodes one streamed answer; `provider` is who can take its continuation back."""
    frames = _Frames()
    return StreamDecoder(frames, _Reader(provider, secrets, frames))


def decode_answer(body: bytes, *, provider: str, secrets: Sequence[str] = ()) -> Sequence[Piece]:
    """Return the pieces of a whole answer; a list is one that was streamed without events.

    Raises:
        UpstreamProtocol: it is no answer.
        ModelyardError: it is an error that came with a status of success.
    """

    def read(body: bytes) -> Pieces:
        pieces = Pieces()
        answer = _Answer(pieces, provider, secrets)
        is_list = body.lstrip()[:1] == b"["
        for response in msgspec.json.decode(body, type=list[_Response]) if is_list else [_decode_response(body)]:
            answer.add(response)
        if pieces.finish is None:
            raise UpstreamProtocol(EMPTY)
        return pieces

    return read_whole(body, read)


def _bare_error(tail: bytes, secrets: Sequence[str]) -> ModelyardError | None:
    """Return the error that stands in a stream as JSON without `data:`, if there is one."""
    found = _BARE_ERROR.search(tail)
    if found is None:
        return None
    try:
        return failure_in_stream(msgspec.json.decode(found[1].rstrip(b"] \r\n\t")), secrets=secrets)
    except (msgspec.DecodeError, RecursionError):
        return None


def _counted(sent: _Usage) -> Usage:
    """Return the counts in our terms: here the output comes without the thoughts, the input without tools' results."""
    thoughts = sent.thoughts_token_count or 0
    return Usage(
        input_tokens=(sent.prompt_token_count or 0) + (sent.tool_use_prompt_token_count or 0),
        output_tokens=(sent.candidates_token_count or 0) + thoughts,
        cached_input_tokens=sent.cached_content_token_count or 0,
        reasoning_tokens=thoughts,
    )

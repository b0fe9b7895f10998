"""Answers of Ollama, line by line or whole, to the pieces that every dialect yields."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from core.continuation import Layout
from core.errors import UpstreamProtocol
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
from core.wire.decoding import EMPTY, Pieces, Reader, StreamDecoder, made_up_id, read_whole
from core.wire.failures import failure_in_stream
from core.wire.ndjson import LineDecoder

_REASONS: Mapping[str | None, FinishReason] = {
    None: FinishReason.STOP,  # servers before 2024-11 say only that they are done
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
}


# ---- the wire's types: only what is read; all else is skipped undecoded


class _Function(msgspec.Struct, gc=False):
    name: str = ""
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


class _ToolCall(msgspec.Struct):
    function: _Function
    id: str | None = None


class _Message(msgspec.Struct):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Line(msgspec.Struct):
    message: _Message | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    error: Any = None


_decode_line = msgspec.json.Decoder(_Line).decode


class _Reader(Reader):
    """Reads one answer; one that came whole is one line that is done."""

    def __init__(self, provider: str, secrets: Sequence[str]) -> None:
        super().__init__()
        self._provider = provider
        self._secrets = secrets
        self._calls = 0
        self._thoughts: list[str] = []

    def read(self, event: bytes) -> None:
        """Read one line."""
        line = _decode_line(event)
        if line.error:
            raise failure_in_stream({"error": line.error}, secrets=self._secrets)
        if line.message is not None:
            self._add(line.message)
        if line.done:
            self._end(line)

    def _add(self, message: _Message) -> None:
        if message.thinking:
            self._thoughts.append(message.thinking)
            self.pieces.say(ReasoningPiece, message.thinking)
        if message.content:
            self.pieces.say(TextPiece, message.content)
        for call in message.tool_calls or ():
            arguments = bytes(call.function.arguments).decode()
            arguments = "{}" if arguments == "null" else arguments
            self.pieces.add(ToolCallPiece(self._calls, call.id or made_up_id(), call.function.name, arguments))
            self._calls += 1

    def _end(self, line: _Line) -> None:
        if line.prompt_eval_count is not None or line.eval_count is not None:
            usage = Usage(input_tokens=line.prompt_eval_count or 0, output_tokens=line.eval_count or 0)
            self.pieces.add(UsagePiece(usage))
        if self._thoughts:
            layout = Layout()
            layout.block({"thinking": "".join(self._thoughts)})
            if (continuation := layout.sealed(self._provider)) is not None:
                self.pieces.add(ContinuationPiece(continuation))
        reason = _REASONS.get(line.done_reason, FinishReason.OTHER)
        is_call = reason is FinishReason.STOP and self._calls
        self.pieces.end(FinishReason.TOOL_CALLS if is_call else reason)
        self.complete = True


def stream_decoder(provider: str, *, secrets: Sequence[str] = ()) -> StreamDecoder:
    """Return what decodes one streamed answer; `provider` is who can take its continuation back."""
    return StreamDecoder(LineDecoder(), _Reader(provider, secrets))


def decode_answer(body: bytes, *, provider: str, secrets: Sequence[str] = ()) -> Sequence[Piece]:
    """Return the pieces of a whole answer.

    Raises:
        UpstreamProtocol: it is no answer.
        ModelyardError: it is an error that came with a status of success.
    """

    def read(body: bytes) -> Pieces:
        reader = _Reader(provider, secrets)
        reader.read(body)
        if not reader.complete:
            raise UpstreamProtocol(EMPTY)
        return reader.pieces

    return read_whole(body, read)

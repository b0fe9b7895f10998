"""Messages of Anthropic, streamed or whole, to the pieces that every dialect yields."""

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
from core.wire.decoding import EMPTY, Pieces, Reader, StreamDecoder, decode_known, made_up_id, read_whole
from core.wire.failures import failure_in_stream
from core.wire.sse import EventDecoder

_REASONS: Mapping[str, FinishReason] = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "refusal": FinishReason.CONTENT_FILTER,
}
_TYPES = frozenset(
    {"message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta"}
)


# ---- the wire's types: only what is read; all else is skipped undecoded


class _OutputDetails(msgspec.Struct, gc=False):
    thinking_tokens: int | None = None


class _Written(msgspec.Struct, gc=False):
    ephemeral_1h_input_tokens: int | None = None


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation: _Written | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None
    output_tokens_details: _OutputDetails | None = None


class _Message(msgspec.Struct):
    """A message as a stream starts it, or an answer that came whole."""

    type: str = ""
    content: list[dict[str, Any]] | None = None
    stop_reason: str | None = None
    usage: _Usage | None = None
    error: Any = None


class _Delta(msgspec.Struct):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    content: str | None = None
    stop_reason: str | None = None


class _Event(msgspec.Struct):
    type: str = ""
    index: int = 0
    message: _Message | None = None
    content_block: dict[str, Any] | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None
    error: Any = None


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_message = msgspec.json.Decoder(_Message).decode


class _Block:
    """A content block that is open; `own` are the fields that only the provider understands."""

    __slots__ = ("call", "kind", "own", "wrote")

    def __init__(self, kind: str, own: dict[str, Any] | None, call: int | None) -> None:
        self.kind = kind
        self.own = own
        self.call = call
        self.wrote: list[str] = []  # the JSON of a tool's input


class _Content:
    """The blocks of one answer: told as pieces, and remembered in their order."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._calls = 0
        self.layout = Layout()

    def start(self, block: dict[str, Any]) -> _Block:
        """Begin a block with what is known of it."""
        kind = str(block.get("type", ""))
        if kind == "text":
            opened = _Block(kind, None, None)
            self.text(str(block.get("text") or ""))
        elif kind == "tool_use":
            opened = _Block(kind, None, self._calls)
            self._start_call(block)
        else:
            opened = _Block(kind, block, None)
            self.layout.block(block)
            if kind == "thinking":
                self._pieces.say(ReasoningPiece, str(block.get("thinking") or ""))
        return opened

    def text(self, text: str) -> None:
        """Add text."""
        if text:
            self._pieces.say(TextPiece, text)
            self.layout.text(len(text))

    def grow(self, block: _Block, delta: _Delta) -> None:
        """Add what came to a block since it began."""
        if delta.text and block.kind == "text":
            self.text(delta.text)
        elif block.own is not None:
            self._grow_own(block, block.own, delta)
        elif delta.partial_json and block.call is not None:
            block.wrote.append(delta.partial_json)
            self._pieces.add(ToolCallPiece(block.call, None, None, delta.partial_json))

    def stop(self, block: _Block) -> None:
        """End a block."""
        if block.own is not None and block.wrote:
            block.own["input"] = msgspec.json.decode("".join(block.wrote))
        elif block.call is not None and not block.wrote:
            self._pieces.add(ToolCallPiece(block.call, None, None, "{}"))

    def _start_call(self, block: dict[str, Any]) -> None:
        call_id, name = str(block.get("id") or made_up_id()), str(block.get("name", ""))
        self._pieces.add(ToolCallPiece(self._calls, call_id, name, ""))
        self.layout.call()
        self._calls += 1

    def _grow_own(self, block: _Block, own: dict[str, Any], delta: _Delta) -> None:
        if delta.thinking:
            self._pieces.say(ReasoningPiece, delta.thinking)
        if delta.partial_json:
            block.wrote.append(delta.partial_json)
        for field in ("thinking", "signature", "content"):
            if more := getattr(delta, field):
                own[field] = (own.get(field) or "") + more


class _Reader(Reader):
    """Reads one streamed message."""

    def __init__(self, provider: str, secrets: Sequence[str]) -> None:
        super().__init__()
        self._provider = provider
        self._secrets = secrets
        self._content = _Content(self.pieces)
        self._blocks: dict[int, _Block] = {}
        self._usage = _Usage()

    def read(self, event: bytes) -> None:
        """Read one event; types that are not known are left out."""
        said = decode_known(event, _decode_event, _TYPES)
        if said is None:
            return
        match said.type:
            case "content_block_delta":
                if said.delta is not None and (block := self._blocks.get(said.index)) is not None:
                    self._content.grow(block, said.delta)
            case "content_block_start":
                self._blocks[said.index] = self._content.start(said.content_block or {})
            case "content_block_stop":
                if (block := self._blocks.pop(said.index, None)) is not None:
                    self._content.stop(block)
            case "message_start":
                if said.message is not None and said.message.usage is not None:
                    self._usage = said.message.usage
            case "message_delta":
                self._end(said)
            case "message_stop":
                self._stop()
            case "error":
                raise failure_in_stream({"error": said.error}, secrets=self._secrets)

    def _end(self, said: _Event) -> None:
        if said.usage is not None:
            for field in said.usage.__struct_fields__:
                if (count := getattr(said.usage, field)) is not None:
                    setattr(self._usage, field, count)
        reason = said.delta.stop_reason if said.delta is not None else None
        if reason is not None:
            _end(self.pieces, self._usage, self._content.layout, reason, self._provider)

    def _stop(self) -> None:
        if self.pieces.finish is None:
            raise UpstreamProtocol(EMPTY)
        self.complete = True


def stream_decoder(provider: str, *, secrets: Sequence[str] = ()) -> StreamDecoder:
    """Return what decodes one streamed answer; `provider` is who can take its continuation back."""
    return StreamDecoder(EventDecoder(), _Reader(provider, secrets))


def decode_answer(body: bytes, *, provider: str, secrets: Sequence[str] = ()) -> Sequence[Piece]:
    """Return the pieces of a whole answer.

    Raises:
        UpstreamProtocol: it is no message.
        ModelyardError: it is an error that came with a status of success.
    """

    def read(body: bytes) -> Pieces:
        message = _decode_message(body)
        if message.error:
            raise failure_in_stream({"error": message.error}, secrets=secrets)
        if message.content is None or message.stop_reason is None:
            raise UpstreamProtocol(EMPTY)
        pieces = Pieces()
        content = _Content(pieces)
        for block in message.content:
            opened = content.start(block)
            if opened.call is not None and block.get("input"):
                content.grow(opened, _Delta(partial_json=msgspec.json.encode(block["input"]).decode()))
            content.stop(opened)
        _end(pieces, message.usage or _Usage(), content.layout, message.stop_reason, provider)
        return pieces

    return read_whole(body, read)


def _end(pieces: Pieces, usage: _Usage, layout: Layout, reason: str, provider: str) -> None:
    if usage.input_tokens is not None or usage.output_tokens is not None:
        pieces.add(UsagePiece(_counted(usage)))
    if (continuation := layout.sealed(provider)) is not None:
        pieces.add(ContinuationPiece(continuation))
    pieces.end(_REASONS.get(reason, FinishReason.OTHER))


def _counted(sent: _Usage) -> Usage:
    """Return the counts in our terms: here the input comes without what was read from or written to the cache."""
    read, written = sent.cache_read_input_tokens or 0, sent.cache_creation_input_tokens or 0
    details, kept = sent.output_tokens_details, sent.cache_creation
    return Usage(
        input_tokens=(sent.input_tokens or 0) + read + written,
        output_tokens=sent.output_tokens or 0,
        cached_input_tokens=read,
        cache_write_tokens=written,
        hour_cache_write_tokens=min(written, (kept.ephemeral_1h_input_tokens or 0) if kept is not None else 0),
        reasoning_tokens=(details.thinking_tokens or 0) if details is not None else 0,
    )

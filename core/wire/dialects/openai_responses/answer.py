"""Responses of OpenAI, streamed or whole, to the pieces that every dialect yields."""

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
    "max_output_tokens": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
}
_ENDS = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")
_TYPES = frozenset(
    {
        "response.output_text.delta",
        "response.refusal.delta",
        "response.reasoning_summary_text.delta",
        "response.reasoning_text.delta",
        "response.reasoning_summary_part.added",
        "response.function_call_arguments.delta",
        "response.output_item.added",
        "response.output_item.done",
        *_ENDS,
    }
)
_FAILED = {"message": "The response failed.", "code": "server_error"}


# ---- the wire's types: only what is read; all else is skipped undecoded


class _InputDetails(msgspec.Struct, gc=False):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _OutputDetails(msgspec.Struct, gc=False):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    input_tokens_details: _InputDetails | None = None
    output_tokens: int | None = None
    output_tokens_details: _OutputDetails | None = None


class _Incomplete(msgspec.Struct):
    reason: str | None = None


class _Response(msgspec.Struct):
    status: str | None = None
    output: list[dict[str, Any]] | None = None
    usage: _Usage | None = None
    incomplete_details: _Incomplete | None = None
    error: Any = None


class _Event(msgspec.Struct):
    type: str = ""
    delta: str | None = None
    output_index: int = 0
    item: dict[str, Any] | None = None
    response: msgspec.Raw = msgspec.Raw()


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_response = msgspec.json.Decoder(_Response).decode


class _Output:
    """The items of one response: told as pieces, and remembered in their order."""

    def __init__(self, pieces: Pieces, provider: str, secrets: Sequence[str]) -> None:
        self._pieces = pieces
        self._provider = provider
        self._secrets = secrets
        self._layout = Layout()
        self._calls: dict[int, int] = {}  # the place of an item to the number of its call
        self._said = 0
        self._has_reasoned = False

    def say(self, text: str) -> None:
        """Add text of the item that is open."""
        self._pieces.say(TextPiece, text)
        self._said += len(text)

    def reason(self, text: str) -> None:
        """Add reasoning."""
        self._pieces.say(ReasoningPiece, text)
        self._has_reasoned = True

    def part_reasoning(self) -> None:
        """Keep one summary of reasoning apart from the one before it."""
        if self._has_reasoned:
            self._pieces.say(ReasoningPiece, "\n\n")

    def start(self, place: int, item: dict[str, Any]) -> None:
        """Begin an item with what is known of it."""
        if item.get("type") == "function_call":
            number = self._calls[place] = len(self._calls)
            call_id = str(item.get("call_id") or made_up_id())
            self._pieces.add(ToolCallPiece(number, call_id, str(item.get("name", "")), ""))

    def write(self, place: int, arguments: str) -> None:
        """Add to the arguments of a call."""
        number = self._calls.get(place)
        if number is not None and arguments:
            self._pieces.add(ToolCallPiece(number, None, None, arguments))

    def stop(self, item: dict[str, Any]) -> None:
        """End an item; what is no message and no call goes back as it is."""
        match item.get("type"):
            case "message":
                self._layout.text(self._said)
                self._said = 0
            case "function_call":
                self._layout.call()
            case "reasoning":
                if item.get("encrypted_content"):
                    self._layout.block({name: value for name, value in item.items() if name != "status"})
            case _:
                self._layout.block(item)

    def end(self, response: _Response) -> None:
        """Add usage, continuation and the reason to stop.

        Raises:
            ModelyardError: the response has failed.
        """
        if response.usage is not None:
            self._pieces.add(UsagePiece(_counted(response.usage)))
        if response.error or response.status in {"failed", "cancelled"}:
            raise failure_in_stream({"error": response.error or _FAILED}, secrets=self._secrets)
        if (continuation := self._layout.sealed(self._provider)) is not None:
            self._pieces.add(ContinuationPiece(continuation))
        if response.incomplete_details is not None:
            reason = _REASONS.get(response.incomplete_details.reason or "", FinishReason.OTHER)
        else:
            reason = FinishReason.TOOL_CALLS if self._calls else FinishReason.STOP
        self._pieces.end(reason)

    def add(self, place: int, item: dict[str, Any]) -> None:
        """Add an item that came whole."""
        self.start(place, item)
        self.write(place, str(item.get("arguments") or ""))
        is_reasoning = item.get("type") == "reasoning"
        for part in _dicts(item.get("summary")) if is_reasoning else ():
            self.part_reasoning()
            self.reason(str(part.get("text") or ""))
        for part in _dicts(item.get("content")) if item.get("type") in {"message", "reasoning"} else ():
            text = str(part.get("text") or part.get("refusal") or "")
            (self.reason if is_reasoning else self.say)(text)
        self.stop(item)


class _Reader(Reader):
    """Reads one streamed response."""

    def __init__(self, provider: str, secrets: Sequence[str]) -> None:
        super().__init__()
        self._secrets = secrets
        self._output = _Output(self.pieces, provider, secrets)

    def read(self, event: bytes) -> None:
        """Read one event; of about sixty types those that say something new."""
        if event == b"[DONE]":  # servers that also speak chat completions may send it
            return
        said = decode_known(event, _decode_event, _TYPES)
        if said is None:
            return
        match said.type:
            case "response.output_text.delta" | "response.refusal.delta":
                self._output.say(said.delta or "")
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                self._output.reason(said.delta or "")
            case "response.function_call_arguments.delta":
                self._output.write(said.output_index, said.delta or "")
            case "response.reasoning_summary_part.added":
                self._output.part_reasoning()
            case "response.output_item.added":
                self._output.start(said.output_index, said.item or {})
            case "response.output_item.done":
                self._output.stop(said.item or {})
            case "error":
                raise failure_in_stream(_error_of(event), secrets=self._secrets)
            case ending if ending in _ENDS:
                self._output.end(_decode_response(said.response))
                self.complete = True


def stream_decoder(provider: str, *, secrets: Sequence[str] = ()) -> StreamDecoder:
    """Return what decodes one streamed answer; `provider` is who can take its continuation back."""
    return StreamDecoder(EventDecoder(), _Reader(provider, secrets))


def decode_answer(body: bytes, *, provider: str, secrets: Sequence[str] = ()) -> Sequence[Piece]:
    """Return the pieces of a whole answer.

    Raises:
        UpstreamProtocol: it is no response.
        ModelyardError: it failed, or is an error that came with a status of success.
    """

    def read(body: bytes) -> Pieces:
        response = _decode_response(body)
        if response.output is None and not response.error:
            raise UpstreamProtocol(EMPTY)
        pieces = Pieces()
        output = _Output(pieces, provider, secrets)
        for place, item in enumerate(response.output or ()):
            output.add(place, item)
        output.end(response)
        return pieces

    return read_whole(body, read)


def _error_of(event: bytes) -> dict[str, Any]:
    """Return the error of an event, which holds it or is it."""
    value = msgspec.json.decode(event)
    if isinstance(value.get("error"), dict):
        return {"error": value["error"]}
    return {"error": {"message": value.get("message"), "code": value.get("code")}}


def _dicts(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _counted(sent: _Usage) -> Usage:
    """Return the counts in our terms, as sent: input includes cached, output includes reasoning."""
    inputs, outputs = sent.input_tokens_details, sent.output_tokens_details
    return Usage(
        input_tokens=sent.input_tokens or 0,
        output_tokens=sent.output_tokens or 0,
        cached_input_tokens=(inputs.cached_tokens or 0) if inputs is not None else 0,
        cache_write_tokens=(inputs.cache_write_tokens or 0) if inputs is not None else 0,
        reasoning_tokens=(outputs.reasoning_tokens or 0) if outputs is not None else 0,
    )

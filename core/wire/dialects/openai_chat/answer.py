"""Chat completion answers, streamed or whole, to the pieces that every dialect yields."""

from collections.abc import Callable, Mapping, Sequence
from uuid import uuid4

import msgspec

from core.errors import ModelyardError, UpstreamProtocol
from core.model_types.llm import (
    ContinuationPiece,
    FinishPiece,
    FinishReason,
    Piece,
    ReasoningPiece,
    TextPiece,
    ToolCallPiece,
    UsagePiece,
)
from core.wire.dialects.openai_chat.chunks import (
    Choice,
    Chunk,
    Delta,
    Function,
    Part,
    ToolCallFragment,
    arguments_of,
    decode_chunk,
    usage_of,
)
from core.wire.dialects.openai_chat.thoughts import Thoughts
from core.wire.failures import failure_in_stream
from core.wire.sse import EventDecoder

TRUNCATED = "The provider's answer ended before it was complete."
UNREADABLE = "The provider sent an event that cannot be read."
EMPTY = "The provider's answer holds no completion."

_REASONS: Mapping[str, FinishReason] = {
    "stop": FinishReason.STOP,
    "eos": FinishReason.STOP,
    "eos_token": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "end_turn": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "model_length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "tool_use": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
}


class Assembler:
    """Turns the choices of one answer into pieces; text and reasoning that follow one another become one piece."""

    __slots__ = ("_calls", "_new_id", "_parts", "_piece", "_pieces", "_thoughts", "finish", "saw_choice")

    def __init__(self, new_id: Callable[[], str], provider: str | None) -> None:
        self._new_id = new_id
        self._calls = _ToolCalls(new_id)
        self._thoughts = Thoughts(provider)
        self._pieces: list[Piece] = []
        self._piece: type[TextPiece | ReasoningPiece] = TextPiece
        self._parts: list[str] = []
        self.finish: FinishReason | None = None
        self.saw_choice = False

    def take(self) -> list[Piece]:
        """Return the pieces since the last call."""
        if self._parts:
            self._flush()
        pieces, self._pieces = self._pieces, []
        return pieces

    def add(self, chunk: Chunk) -> None:
        """Add what the first choice says, and the usage."""
        if chunk.choices:
            for choice in chunk.choices:
                if not choice.index:
                    self._add_choice(choice)
        usage = chunk.usage
        if usage is None and chunk.x_groq is not None:
            usage = chunk.x_groq.usage
        if usage is not None and (counted := usage_of(usage)) is not None:
            self._append(UsagePiece(counted))

    def end(self) -> None:
        """Add the reason that a provider left out."""
        if self.finish is None:
            self._finish(FinishReason.TOOL_CALLS if self._calls.count else FinishReason.OTHER)

    def _add_choice(self, choice: Choice) -> None:
        self.saw_choice = True
        delta = choice.delta or choice.message
        if delta is not None:
            content = delta.content
            thinks = not (delta.reasoning is delta.reasoning_content is delta.reasoning_details is None)
            if content.__class__ is str and content and not thinks:
                self._say(TextPiece, content)
            else:
                self._add_all(delta)
            if delta.refusal:
                self._say(TextPiece, delta.refusal)
            if delta.tool_calls:
                for call in delta.tool_calls:
                    self._add_call(call)
        if choice.finish_reason and self.finish is None:
            reason = _REASONS.get(choice.finish_reason.lower(), FinishReason.OTHER)
            is_call = reason is FinishReason.STOP and self._calls.count
            self._finish(FinishReason.TOOL_CALLS if is_call else reason)

    def _add_all(self, delta: Delta) -> None:
        self._thoughts.add(delta)
        reasoning = delta.reasoning_content or delta.reasoning
        if reasoning:
            self._say(ReasoningPiece, reasoning)
        if isinstance(delta.content, str):
            if delta.content:
                self._say(TextPiece, delta.content)
        elif delta.content:
            for part in delta.content:
                self._add_part(part)

    def _add_part(self, part: Part) -> None:
        thoughts = part.thinking
        if isinstance(thoughts, list):
            thoughts = "".join(thought.text or "" for thought in thoughts)
        if thoughts:
            self._say(ReasoningPiece, thoughts)
        if part.text:
            self._say(TextPiece, part.text)

    def _add_call(self, call: ToolCallFragment) -> None:
        piece = self._calls.piece(call)
        if piece is None:
            return
        self._flush()
        last = self._pieces[-1] if self._pieces else None
        if isinstance(last, ToolCallPiece) and last.index == piece.index and piece.id is None and piece.name is None:
            self._pieces[-1] = ToolCallPiece(last.index, last.id, last.name, last.arguments + piece.arguments)
        else:
            self._pieces.append(piece)

    def _say(self, piece: type[TextPiece | ReasoningPiece], text: str) -> None:
        if piece is not self._piece:
            self._flush()
            self._piece = piece
        self._parts.append(text)

    def _finish(self, reason: FinishReason) -> None:
        self.finish = reason
        if (continuation := self._thoughts.sealed()) is not None:
            self._append(ContinuationPiece(continuation))
        self._append(FinishPiece(reason))

    def _append(self, piece: Piece) -> None:
        self._flush()
        self._pieces.append(piece)

    def _flush(self) -> None:
        if self._parts:
            self._pieces.append(self._piece("".join(self._parts)))
            self._parts.clear()


class _Call:
    """A tool call as far as it has come. It is told of (gets its `index`) once its name is known."""

    __slots__ = ("held", "id", "index")

    def __init__(self, given: str) -> None:
        self.id = given
        self.index: int | None = None
        self.held = ""


class _ToolCalls:
    """Keeps fragments of tool calls apart, whatever a server leaves out: the index, the id or the cutting."""

    __slots__ = ("_by_wire", "_calls", "_current", "_new_id", "count")

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self._calls: list[_Call] = []
        self._by_wire: dict[int, _Call] = {}  # the server's index to its call
        self._current: _Call | None = None
        self.count = 0

    def piece(self, fragment: ToolCallFragment) -> ToolCallPiece | None:
        """Return what a fragment adds; None where that is nothing yet."""
        function = fragment.function or Function()
        given = "" if fragment.id is None else str(fragment.id)
        name = function.name or ""
        arguments = arguments_of(function.arguments)
        call = self._current = self._known(fragment.index, given, name) or self._begin(fragment.index, given)
        if call.index is not None:
            return ToolCallPiece(call.index, None, None, arguments) if arguments else None
        call.id = call.id or given
        call.held += arguments
        if not name:
            return None
        call.index = self.count
        self.count += 1
        return ToolCallPiece(call.index, call.id or self._new_id(), name, call.held)

    def _known(self, wire: int | None, given: str, name: str) -> _Call | None:
        """Return the call that a fragment goes on with."""
        if wire is None:
            same = next((call for call in self._calls if given and call.id == given), None)
            return same or (None if given or name else self._current)
        call = self._by_wire.get(wire)
        is_other = call is not None and name and given and call.id and call.id != given
        return None if is_other else call  # some servers number all their calls 0

    def _begin(self, wire: int | None, given: str) -> _Call:
        call = _Call(given)
        self._calls.append(call)
        if wire is not None:
            self._by_wire[wire] = call
        return call


class StreamDecoder:
    """Decodes the bytes of one streamed answer; `provider` is who can take its reasoning back, None: nobody.

    After each `feed` or `end`, `failure` tells what went wrong after the pieces that were returned, and `complete` that
    nothing more is to come.
    """

    __slots__ = ("_answer", "_done_required", "_events", "_secrets", "complete", "failure")

    def __init__(
        self,
        *,
        provider: str | None = None,
        done_required: bool = False,
        secrets: Sequence[str] = (),
        new_id: Callable[[], str] | None = None,
    ) -> None:
        self._events = EventDecoder()
        self._answer = Assembler(new_id or made_up_id, provider)
        self._done_required = done_required
        self._secrets = secrets
        self.complete = False
        self.failure: ModelyardError | None = None

    def feed(self, data: bytes) -> list[Piece]:
        """Return the pieces that one network read completes."""
        try:
            events = self._events.feed(data)
        except UpstreamProtocol as error:
            self.failure = error
            return []
        self._add(events, UNREADABLE)
        return self._answer.take()

    def end(self) -> list[Piece]:
        """Return the last pieces when the bytes are at their end."""
        self._add(self._events.end(), TRUNCATED)
        if self.failure is None and not self.complete:
            if self._answer.finish is None or self._done_required:
                self.failure = UpstreamProtocol(TRUNCATED)
            self.complete = True
        return self._answer.take()

    def _add(self, events: list[bytes], problem: str) -> None:
        add = self._answer.add
        for data in events:
            try:
                chunk = decode_chunk(data)
            except (msgspec.MsgspecError, RecursionError):
                if data.strip() == b"[DONE]":
                    self._done()
                elif data.strip():
                    self.failure = UpstreamProtocol(problem)
                else:
                    continue
                return
            add(chunk)
            if chunk.error or (chunk.choices is None and chunk.usage is None):
                self._add_error(chunk, data)
                if self.failure is not None:
                    return

    def _done(self) -> None:
        self.complete = True
        if self._answer.saw_choice:
            self._answer.end()
        else:
            self.failure = UpstreamProtocol(EMPTY)

    def _add_error(self, chunk: Chunk, data: bytes) -> None:
        body = {"error": chunk.error} if chunk.error else msgspec.json.decode(data)
        if chunk.error or is_error(body):
            self.failure = failure_in_stream(body, secrets=self._secrets)


def decode_answer(
    body: bytes,
    *,
    provider: str | None = None,
    secrets: Sequence[str] = (),
    new_id: Callable[[], str] | None = None,
) -> Sequence[Piece]:
    """Return the pieces of a whole answer; `provider` as for a stream.

    Raises:
        UpstreamProtocol: it is no chat completion.
        ModelyardError: it is an error that came with a status of success.
    """
    try:
        chunk = decode_chunk(body)
    except (msgspec.MsgspecError, RecursionError):
        raise UpstreamProtocol("The provider's answer is not the JSON of a chat completion.") from None
    if chunk.error or not chunk.choices:
        value = msgspec.json.decode(body)
        if chunk.error or is_error(value):
            raise failure_in_stream(value, secrets=secrets)
        raise UpstreamProtocol(EMPTY)
    answer = Assembler(new_id or made_up_id, provider)
    answer.add(chunk)
    answer.end()
    return answer.take()


def is_error(value: object) -> bool:
    """Tell whether an object that is no part of an answer is an error in one of the shapes that servers use."""
    if not isinstance(value, dict) or "choices" in value:
        return False
    return bool(value.get("error")) or value.get("object") == "error" or "detail" in value or "message" in value


def made_up_id() -> str:
    """Return an id for a tool call that came without one."""
    return f"call_{uuid4().hex}"

"""What all dialects share in decoding: pieces as they gather, and the loop from bytes through events to pieces."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Sequence
from typing import Any, Protocol, TypeVar
from uuid import uuid4

import msgspec

from core.errors import ModelyardError, UpstreamProtocol
from core.model_types.llm import FinishPiece, FinishReason, Piece, ReasoningPiece, TextPiece

TRUNCATED = "The provider's answer ended before it was complete."
UNREADABLE = "The provider sent an event that cannot be read."
EMPTY = "The provider's answer holds no completion."
NOT_JSON = "The provider's answer is not the JSON of a completion."

T = TypeVar("T")

_UNDECODABLE = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)


class Pieces:
    """Pieces as they are read; text and reasoning that follow one another become one piece."""

    __slots__ = ("_kind", "_parts", "_pieces", "finish")

    def __init__(self) -> None:
        self._pieces: list[Piece] = []
        self._kind: type[TextPiece | ReasoningPiece] = TextPiece
        self._parts: list[str] = []
        self.finish: FinishReason | None = None

    def say(self, kind: type[TextPiece | ReasoningPiece], text: str) -> None:
        """Add text or reasoning; nothing where it is empty."""
        if not text:
            return
        if kind is not self._kind:
            self._flush()
            self._kind = kind
        self._parts.append(text)

    def add(self, piece: Piece) -> None:
        """Add any other piece."""
        self._flush()
        self._pieces.append(piece)

    def end(self, reason: FinishReason) -> None:
        """Add why the model stopped; the first reason counts."""
        if self.finish is None:
            self.finish = reason
            self.add(FinishPiece(reason))

    def take(self) -> list[Piece]:
        """Return the pieces since the last call."""
        if self._parts:
            self._flush()
        pieces, self._pieces = self._pieces, []
        return pieces

    def _flush(self) -> None:
        if self._parts:
            self._pieces.append(self._kind("".join(self._parts)))
            self._parts.clear()


class Frames(Protocol):
    """Cuts the bytes of a stream into events."""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the events that `chunk` completes."""
        ...

    def end(self) -> list[bytes]:
        """Return what the end of the stream left."""
        ...


class Reader(ABC):
    """Reads the events of one answer. `complete` tells that nothing more is to come."""

    def __init__(self) -> None:
        self.pieces = Pieces()
        self.complete = False

    @abstractmethod
    def read(self, event: bytes) -> None:
        """Read one event.

        Raises:
            ModelyardError: it is an error, or the answer ends badly.
            msgspec.MsgspecError: it cannot be read.
        """

    def end(self) -> None:
        """Take the end of the bytes.

        Raises:
            ModelyardError: the answer was not complete.
        """
        raise UpstreamProtocol(TRUNCATED)


class StreamDecoder:
    """Decodes the bytes of one streamed answer.

    After each `feed` or `end`, `failure` tells what went wrong after the pieces that were returned, and `complete` that
    nothing more is to come.
    """

    __slots__ = ("_frames", "_reader", "failure")

    def __init__(self, frames: Frames, reader: Reader) -> None:
        self._frames = frames
        self._reader = reader
        self.failure: ModelyardError | None = None

    @property
    def complete(self) -> bool:
        """Tell whether nothing more is to come."""
        return self._reader.complete

    def feed(self, data: bytes) -> list[Piece]:
        """Return the pieces that one network read completes."""
        return self._read(lambda: self._frames.feed(data), UNREADABLE)

    def end(self) -> list[Piece]:
        """Return the last pieces when the bytes are at their end."""
        pieces = self._read(self._frames.end, TRUNCATED)
        if self.failure is None and not self._reader.complete:
            try:
                self._reader.end()
            except ModelyardError as error:
                self.failure = error
        return [*pieces, *self._reader.pieces.take()]

    def _read(self, cut: Callable[[], list[bytes]], problem: str) -> list[Piece]:
        reader = self._reader
        try:
            for event in cut():
                if reader.complete:
                    break
                reader.read(event)
        except ModelyardError as error:
            self.failure = error
        except _UNDECODABLE:
            self.failure = UpstreamProtocol(problem)
        return reader.pieces.take()


def read_whole(body: bytes, read: Callable[[bytes], Pieces]) -> Sequence[Piece]:
    """Return the pieces of an answer that came whole.

    Raises:
        UpstreamProtocol: it is no completion.
        ModelyardError: as `read` does.
    """
    try:
        return read(body).take()
    except _UNDECODABLE:
        raise UpstreamProtocol(NOT_JSON) from None


class _Typed(msgspec.Struct):
    type: Any = None


_decode_typed = msgspec.json.Decoder(_Typed).decode


def decode_known(event: bytes, decode: Callable[[bytes], T], types: Container[object]) -> T | None:
    """Return an event; None for one of a type that is not among `types` and whose fields are of other kinds.

    Raises:
        msgspec.MsgspecError: it cannot be read.
    """
    try:
        return decode(event)
    except msgspec.ValidationError:
        if _decode_typed(event).type in types:
            raise
        return None


def made_up_id() -> str:
    """Return an id for a tool call that came without one."""
    return f"call_{uuid4().hex}"

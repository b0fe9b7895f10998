"""Tokens counted here: a bound that is never too low, and an estimate where the provider reports nothing."""

import base64
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from core.model_types import Usage
from core.model_types.llm import (
    ChatRequest,
    Media,
    MediaKind,
    Message,
    Piece,
    ReasoningPiece,
    Text,
    TextPiece,
    ToolCallPiece,
)
from core.model_types.speech2text import longest
from core.vocabularies import LARGEST, Vocabulary, vocabulary

_PER_REQUEST = 128  # templates put a prompt of their own before a chat: that of gpt-oss has about 70 tokens
_PER_MESSAGE = 8
_PER_PART = 2
_PER_TOOL = 16
_PER_ANSWER = 16  # what ends an answer, and names the channels that it is in
_WITH_TOOLS = 1024  # before tools, providers put a prompt of their own: Anthropic's has up to 530 tokens
_PER_MEDIA = {MediaKind.IMAGE: 4096, MediaKind.AUDIO: 8192, MediaKind.VIDEO: 65_536, MediaKind.DOCUMENT: 65_536}
_PER_SECOND = 32  # of sound: what Gemini counts (ai.google.dev/gemini-api/docs/tokens, 2026-11-21); OpenAI counts 10
_PER_SOUND = 256
BYTES_PER_TOKEN = 4
_MOST = frozenset(
    {"max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens", "max_new_tokens", "num_predict"}
)
_TIMES = frozenset({"n", "best_of", "candidateCount", "candidate_count"})
_SLICE = 65_536
_TAIL = 4096
_SPARE = 16  # one more in so many: a model may cut a text otherwise than its vocabulary does


def input_upper_bound(request: ChatRequest, words: str | None = None, image: int | None = None) -> int:
    """Return a number of tokens that the input cannot exceed, and what templates add; `words` is a vocabulary's name.

    What a user or the model said counts by the model's vocabulary where that is known and the input is not large, else
    as one token for each byte of UTF-8, which byte-level vocabularies never exceed. All else counts by its bytes, as it
    is not known what the provider makes of it. An image counts as `image`, the most that the model makes of one, where
    that is known; sound that is given here as the time that it can last. All other media count as a fixed large number
    by their kind: that is an allowance, not a bound; see `is_bounded`.
    """
    parts = sum(len(message.content) + len(message.tool_calls) for message in request.messages)
    tools = len(request.tools) + sum(len(message.tool_calls) for message in request.messages)
    overhead = _PER_REQUEST + (_WITH_TOOLS if request.tools else 0)
    overhead += len(request.messages) * _PER_MESSAGE + parts * _PER_PART + tools * _PER_TOOL
    tokens, uncounted = _counted(request, words)
    return tokens + uncounted + overhead + sum(_most_of(part, image) for part in _media(request))


def estimated_input(request: ChatRequest, words: str | None = None, image: int | None = None) -> int:
    """Return about how many tokens the input has, never more than the bound; `words` and `image` as there.

    Counted by the vocabulary of that name where the bound is, elsewhere four bytes as one token.
    """
    overhead = len(request.messages) * _PER_MESSAGE // 2
    overhead += sum(min(_PER_MEDIA[part.kind] // 4, _most_of(part, image)) for part in _media(request))
    tokens, uncounted = _counted(request, words)
    return tokens - (-uncounted // BYTES_PER_TOKEN) + overhead


class Wish(NamedTuple):
    """How many tokens a call wishes for at most (None: no limit), how often, and whether its parameters decide that."""

    most: int | None
    times: int
    by_parameters: bool


def wished_output(request: ChatRequest) -> Wish:
    """Return how much output is asked for: by `max_tokens`, or by options of the provider's own that go before it."""
    asked = request.parameters.get("max_tokens")
    found = [*_named(request.provider_options, _MOST)]
    wishes = [*found, *([asked] if asked is not None else [])]
    known = [one for one in wishes if isinstance(one, int) and one > 0]
    times = [one for one in _named(request.provider_options, _TIMES) if isinstance(one, int) and one > 1]
    return Wish(
        most=max(known) if known and len(known) == len(wishes) else None,
        times=max(times, default=1),
        by_parameters=not found,
    )


def _named(options: object, names: frozenset[str]) -> Iterator[object]:
    """Yield what options say under any of these names, however deep."""
    waiting = [options]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield from (value for name, value in one.items() if name in names)
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one


def is_bounded(request: ChatRequest, image: int | None) -> bool:
    """Tell whether no part of the input can have more tokens than the bound says; `image` as there."""
    return all(_is_text(part) or (part.kind is MediaKind.IMAGE and image is not None) for part in _media(request))


def estimate_usage(request: ChatRequest, produced: str, words: str | None = None) -> Usage:
    """Return the usage of a call whose provider reported none, marked `estimated`; `words` as for its input."""
    size = _bytes(produced)
    known = _vocabulary(words, size)
    return Usage(
        input_tokens=estimated_input(request, words),
        output_tokens=-(-size // BYTES_PER_TOKEN) if known is None else _tokens(produced, known),
        estimated=True,
    )


class OutputCount:
    """The most tokens that an answer can have, as it comes.

    A text counts as one token for each byte of UTF-8, and by the vocabulary of the name `words`, where that is known,
    once `counted` or enough of it is there. It has no more than its `ceiling`, which the provider was told or has by
    itself; unless even four bytes a token are more: then the provider does not keep to that.
    """

    __slots__ = ("_ceiling", "_known", "_size", "_tail", "_tail_size", "_tokens")

    def __init__(self, words: str | None, ceiling: int | None) -> None:
        self._known = vocabulary(words) if words is not None else None
        self._ceiling = ceiling
        self._tokens = _PER_ANSWER
        self._size = 0
        self._tail: list[str] = []
        self._tail_size = 0

    def add(self, pieces: Sequence[Piece]) -> None:
        """Count more of the answer."""
        for piece in pieces:
            kind = type(piece)
            if kind is TextPiece or kind is ReasoningPiece:
                text = piece.text  # type: ignore[union-attr]
            elif isinstance(piece, ToolCallPiece):
                text = piece.arguments if piece.name is None else piece.name + piece.arguments
                self._tokens += _PER_TOOL if piece.name is not None else 0
            else:
                continue
            self._tail_size += len(text) if text.isascii() else _bytes(text)
            self._tail.append(text)
        if self._tail_size > _TAIL:
            self.counted()

    @property
    def most(self) -> int:
        """Return the bound of what is there."""
        most = self._tokens + self._tail_size
        if self._ceiling is None or most <= self._ceiling:
            return most
        return max(self._ceiling, -(-(self._size + self._tail_size) // BYTES_PER_TOKEN))

    def counted(self) -> int:
        """Count by the vocabulary what has come since the last time, and return the bound."""
        if (size := self._tail_size) > 0:
            known = self._known if size <= LARGEST else None
            tokens = _tokens("".join(self._tail), known) if known is not None else size
            self._tokens += min(size, tokens + tokens // _SPARE + 1)
            self._size += size
            self._tail.clear()
            self._tail_size = 0
        return self.most


def _counted(request: ChatRequest, words: str | None) -> tuple[int, int]:
    """Return the tokens of the texts that a vocabulary counts, and the bytes of everything else."""
    size = _text_bytes(request)
    known = _vocabulary(words, size)
    if known is None:
        return 0, size
    texts = [text for message in request.messages for text in _alone(message)]
    return sum(_tokens(text, known) for text in texts), size - sum(map(_bytes, texts))


def _vocabulary(words: str | None, size: int) -> Vocabulary | None:
    return vocabulary(words) if words is not None and size <= LARGEST else None


def _alone(message: Message) -> Iterator[str]:
    """Yield a message's only text: several may be joined, and a whole can have more tokens than its parts together."""
    texts = [part.text for part in message.content if isinstance(part, Text)]
    if len(texts) == 1:
        yield texts[0]


def _tokens(text: str, known: Vocabulary) -> int:
    try:
        return min(known.count(text), _bytes(text))
    except UnicodeEncodeError:
        return _bytes(text)


def _text_bytes(request: ChatRequest) -> int:
    texts = sum(_message_bytes(message) for message in request.messages)
    tools = len(msgspec.json.encode(request.tools)) if request.tools else 0
    schema = len(msgspec.json.encode(request.response_format)) if request.response_format else 0
    more = sum(_bytes(value) for value in request.parameters.values() if isinstance(value, str))
    options = len(msgspec.json.encode(request.provider_options)) if request.provider_options else 0
    return texts + tools + schema + more + options


def _message_bytes(message: Message) -> int:
    parts = sum(_bytes(part.text) for part in message.content if not isinstance(part, Media))
    calls = sum(_bytes(call.id) + _bytes(call.name) + _bytes(call.arguments) for call in message.tool_calls)
    return parts + calls + _bytes(message.continuation or "") + _bytes(message.tool_call_id or "")


def _bytes(text: str) -> int:
    """Return the length in UTF-8, counted in slices, between which other threads get their turn."""
    if text.isascii():
        return len(text)
    starts = range(0, len(text), _SLICE)
    return sum(len(text[start : start + _SLICE].encode("utf-8", "surrogatepass")) for start in starts)


def _media(request: ChatRequest) -> Iterator[Media]:
    return (part for message in request.messages for part in message.content if isinstance(part, Media))


def _most_of(part: Media, image: int | None) -> int:
    """Return the most tokens of a medium, as far as that is known."""
    if part.kind is MediaKind.IMAGE and image is not None:
        return image
    if part.base64 is None:
        return _PER_MEDIA[part.kind]
    size = len(part.base64) // 4 * 3
    if _is_text(part):
        return size
    if part.kind is MediaKind.AUDIO:
        return math.ceil(_PER_SECOND * longest(base64.b64decode(part.base64[:64]), size)) + _PER_SOUND
    return _PER_MEDIA[part.kind]


def _is_text(part: Media) -> bool:
    """Tell whether a document is given here as text, which has no more tokens than bytes."""
    is_text = part.mime_type is not None and part.mime_type.lower().startswith("text/")
    return part.kind is MediaKind.DOCUMENT and part.base64 is not None and is_text

"""What a provider needs back with an answer to go on from it: text that only this provider's adapter can read."""

import base64
import binascii
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from core.errors import InvalidInput
from core.model_types.llm import Media, Message, Text, ToolCall

MAX_LENGTH = 2 * 1024 * 1024
"""The longest continuation, in characters; an answer that would need more has none."""

_PREFIX = "c1."
_DIGEST_BYTES = 12
_PERSON = b"modelyard"


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    """A part of an answer in its place: so many characters of text, a tool call, or a block of the provider's own."""

    characters: int | None
    is_call: bool
    extra: dict[str, Any]


class _Sealed(msgspec.Struct, frozen=True, array_like=True):
    provider: str
    kept: list[_Kept]


_decode = msgspec.msgpack.Decoder(_Sealed).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of an assistant's message: content, a tool call, or neither; `extra` is what the provider adds to it."""

    content: Text | Media | None = None
    call: ToolCall | None = None
    extra: dict[str, Any] = field(default_factory=dict)


class Layout:
    """Remembers the order of an answer's parts, and what only the provider understands of them."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: list[list[Any]] = []  # as _Kept, still open

    def text(self, length: int, extra: dict[str, Any] | None = None) -> None:
        """Add so many characters of text; text that follows text without extras becomes one part."""
        last = self._kept[-1] if self._kept else None
        if last is not None and last[0] is not None and not last[2] and not extra:
            last[0] += length
        else:
            self._kept.append([length, False, extra or {}])

    def call(self, extra: dict[str, Any] | None = None) -> None:
        """Add the next tool call."""
        self._kept.append([None, True, extra or {}])

    def block(self, extra: dict[str, Any]) -> None:
        """Add a block that is the provider's own; it may still grow."""
        self._kept.append([None, False, extra])

    def sealed(self, provider: str) -> str | None:
        """Return the continuation; None where text and tool calls say everything, or where it would be too long."""
        if not any(kept[2] for kept in self._kept):
            return None
        kept = [_Kept(*one) for one in self._kept]
        packed = msgspec.msgpack.encode(_Sealed(provider=provider, kept=kept))
        text = _PREFIX + base64.urlsafe_b64encode(_digest(packed) + packed).decode().rstrip("=")
        return text if len(text) <= MAX_LENGTH else None


def check_continuation(text: str, path: Sequence[str]) -> None:
    """Let a continuation pass that an answer came with.

    Raises:
        InvalidInput: it is none.
    """
    _open(text, tuple(path))


def arranged(message: Message, provider: str, path: Sequence[str] = ()) -> list[Part]:
    """Return the parts of an assistant's message in the order in which this provider gave them.

    A continuation of another provider is left out, so that a conversation can go on elsewhere. Where text or tool calls
    were changed since, the provider's own blocks come first.

    Raises:
        InvalidInput: the continuation is none.
    """
    plain = [*(Part(content=part) for part in message.content), *(Part(call=call) for call in message.tool_calls)]
    if message.continuation is None:
        return plain
    sealed = _open(message.continuation, (*path, "continuation"))
    if sealed.provider != provider:
        return plain
    kept = sealed.kept
    texts = [part.text for part in message.content if isinstance(part, Text)]
    text = "".join(texts)
    is_whole = (
        len(texts) == len(message.content)
        and sum(one.characters or 0 for one in kept) == len(text)
        and sum(one.is_call for one in kept) == len(message.tool_calls)
    )
    if is_whole:
        return list(_placed(kept, text, message.tool_calls))
    return [*(Part(extra=one.extra) for one in kept if one.characters is None and not one.is_call), *plain]


def _placed(kept: list[_Kept], text: str, calls: Sequence[ToolCall]) -> Iterator[Part]:
    at, number = 0, 0
    for one in kept:
        if one.characters is not None:
            yield Part(content=Text(text[at : at + one.characters]), extra=one.extra)
            at += one.characters
        elif one.is_call:
            yield Part(call=calls[number], extra=one.extra)
            number += 1
        else:
            yield Part(extra=one.extra)


def _open(text: str, path: tuple[str, ...]) -> _Sealed:
    try:
        if not text.startswith(_PREFIX) or len(text) > MAX_LENGTH:
            raise ValueError
        body = text[len(_PREFIX) :]
        data = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        digest, packed = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        if digest != _digest(packed):
            raise ValueError
        return _decode(packed)
    except (ValueError, binascii.Error, msgspec.MsgspecError, RecursionError):
        raise InvalidInput(
            "This is no continuation of an answer: give back `message.continuation` as it came, or leave it out.",
            path=path,
        ) from None


def _digest(packed: bytes) -> bytes:
    return hashlib.blake2b(packed, digest_size=_DIGEST_BYTES, person=_PERSON).digest()

"""Tokens counted here: a bound that is never too low, and an estimate where the provider reports nothing."""

import msgspec

from core.model_types import Usage
from core.model_types.llm import ChatRequest, Media, MediaKind, Message

_PER_REQUEST = 32
_PER_MESSAGE = 8
_PER_PART = 2
_PER_TOOL = 16
_WITH_TOOLS = 1024  # before tools, providers put a prompt of their own: Anthropic's has up to 530 tokens
_PER_MEDIA = {MediaKind.IMAGE: 4096, MediaKind.AUDIO: 8192, MediaKind.VIDEO: 65_536, MediaKind.DOCUMENT: 65_536}
BYTES_PER_TOKEN = 4
_SLICE = 65_536


def input_upper_bound(request: ChatRequest) -> int:
    """Return a number of tokens that the input cannot exceed: one for each byte, and what templates add.

    Byte-level vocabularies have at most one token for each byte of UTF-8. Media, whose tokens each provider counts in a
    way of its own, counts as a fixed large number by its kind: for media it is an allowance, not a bound.
    """
    parts = sum(len(message.content) + len(message.tool_calls) for message in request.messages)
    tools = len(request.tools) + sum(len(message.tool_calls) for message in request.messages)
    overhead = _PER_REQUEST + (_WITH_TOOLS if request.tools else 0)
    overhead += len(request.messages) * _PER_MESSAGE + parts * _PER_PART + tools * _PER_TOOL
    return _text_bytes(request) + overhead + _media(request)


def estimated_input(request: ChatRequest) -> int:
    """Return about how many tokens the input has, never more than the bound: four bytes count as one."""
    overhead = len(request.messages) * _PER_MESSAGE // 2 + _media(request) // 4
    return -(-_text_bytes(request) // BYTES_PER_TOKEN) + overhead


def has_media(request: ChatRequest) -> bool:
    """Tell whether the input holds something other than text."""
    return _media(request) > 0


def estimate_usage(request: ChatRequest, produced: str) -> Usage:
    """Return the usage of a call whose provider reported none, marked `estimated`: four bytes count as a token."""
    return Usage(
        input_tokens=estimated_input(request),
        output_tokens=-(-len(produced.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN),
        estimated=True,
    )


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


def _media(request: ChatRequest) -> int:
    parts = (part for message in request.messages for part in message.content)
    return sum(_PER_MEDIA[part.kind] for part in parts if isinstance(part, Media))

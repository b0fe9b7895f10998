"""Tokens counted here: a bound that is never too low, and an estimate where the provider reports nothing."""

import msgspec

from core.model_types import Usage
from core.model_types.llm import ChatRequest, Media, Message

_PER_MESSAGE = 8
_PER_MEDIA = 4096
_BYTES_PER_TOKEN = 4


def input_upper_bound(request: ChatRequest) -> int:
    """Return a number of tokens that the input cannot exceed: one for each byte, and what templates add.

    Byte-level vocabularies have at most one token for each byte of UTF-8. Media counts as a fixed large number.
    """
    return _text_bytes(request) + _media(request) * _PER_MEDIA + len(request.messages) * _PER_MESSAGE


def estimate_usage(request: ChatRequest, produced: str) -> Usage:
    """Return the usage of a call whose provider reported none, marked `estimated`: four bytes count as a token."""
    overhead = len(request.messages) * _PER_MESSAGE // 2 + _media(request) * _PER_MEDIA // 4
    return Usage(
        input_tokens=-(-_text_bytes(request) // _BYTES_PER_TOKEN) + overhead,
        output_tokens=-(-len(produced.encode("utf-8", "surrogatepass")) // _BYTES_PER_TOKEN),
        estimated=True,
    )


def _text_bytes(request: ChatRequest) -> int:
    texts = sum(_message_bytes(message) for message in request.messages)
    tools = len(msgspec.json.encode(request.tools)) if request.tools else 0
    schema = len(msgspec.json.encode(request.response_format)) if request.response_format else 0
    return texts + tools + schema


def _message_bytes(message: Message) -> int:
    parts = sum(_bytes(part.text) for part in message.content if not isinstance(part, Media))
    calls = sum(_bytes(call.name) + _bytes(call.arguments) for call in message.tool_calls)
    return parts + calls + _bytes(message.continuation or "")


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _media(request: ChatRequest) -> int:
    return sum(isinstance(part, Media) for message in request.messages for part in message.content)

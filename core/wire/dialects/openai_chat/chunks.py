"""Chat completion chunks as they stand on the wire: only what is read; all else is skipped undecoded."""

from typing import Any

import msgspec

from core.model_types import Usage

_Count = int | float | None


class _InputDetails(msgspec.Struct, gc=False):
    cached_tokens: _Count = None
    cache_write_tokens: _Count = None


class _OutputDetails(msgspec.Struct, gc=False):
    reasoning_tokens: _Count = None


class SentUsage(msgspec.Struct):
    """The counts, by the names that servers have for them."""

    prompt_tokens: _Count = None
    completion_tokens: _Count = None
    total_tokens: _Count = None
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None
    prompt_cache_hit_tokens: _Count = None  # DeepSeek
    num_cached_tokens: _Count = None  # Mistral


class Function(msgspec.Struct):
    """What a call asks for, or a piece of it."""

    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class ToolCallFragment(msgspec.Struct):
    """A call, or a piece of one; `index` tells which."""

    index: int | None = None
    id: str | int | None = None
    function: Function | None = None


class Part(msgspec.Struct):
    """A part of a content list, as Mistral's reasoning models send it."""

    type: str = ""
    text: str | None = None
    thinking: "str | list[Part] | None" = None


class Delta(msgspec.Struct):
    """A message, or more of it."""

    content: str | list[Part] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: Any = None  # OpenRouter
    refusal: str | None = None
    tool_calls: list[ToolCallFragment] | None = None


class Choice(msgspec.Struct):
    """One of the answers; only the first counts."""

    index: int | None = None
    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: str | None = None


class _Groq(msgspec.Struct):
    usage: SentUsage | None = None


class Chunk(msgspec.Struct):
    """An event of a stream, or a whole answer: they differ in `delta` and `message` alone."""

    choices: list[Choice] | None = None
    usage: SentUsage | None = None
    error: Any = None
    x_groq: _Groq | None = None


decode_chunk = msgspec.json.Decoder(Chunk).decode


def arguments_of(value: str | dict[str, Any] | None) -> str:
    """Return the arguments of a call as text, also where a server sends them as an object."""
    if isinstance(value, dict):
        return msgspec.json.encode(value).decode()
    return value or ""


def usage_of(sent: SentUsage) -> Usage | None:
    """Return the counts in our terms, as sent: input includes cached, output includes reasoning."""
    if sent.prompt_tokens is None and sent.completion_tokens is None and sent.total_tokens is None:
        return None
    inputs, outputs = sent.prompt_tokens_details, sent.completion_tokens_details
    total_input = _count(sent.prompt_tokens)
    output = sent.completion_tokens
    if output is None:
        output = _count(sent.total_tokens) - total_input
    cached = (inputs and inputs.cached_tokens) or sent.prompt_cache_hit_tokens or sent.num_cached_tokens
    return Usage(
        input_tokens=total_input,
        output_tokens=_count(output),
        cached_input_tokens=_count(cached),
        cache_write_tokens=_count(inputs.cache_write_tokens) if inputs else 0,
        reasoning_tokens=_count(outputs.reasoning_tokens) if outputs else 0,
    )


def _count(number: _Count) -> int:
    return max(int(number), 0) if number is not None else 0

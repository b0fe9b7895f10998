"""Speech: text in, audio out as it is made."""

from collections.abc import Mapping
from typing import Any

import msgspec

from core.errors import Problem
from core.model_types import ModelKey, Usage
from core.model_types.llm import Cost

MIME_TYPES: Mapping[str, str] = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
    "ulaw": "audio/basic",
    "alaw": "audio/x-alaw-basic",
}
"""What the usual formats of speech are sent as; a longer name (`mp3_44100_128`) counts as its first part."""


class SpeechRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A text to speak; `voice` and `format` are the provider's own names, None what the model has as its usual ones."""

    text: str
    voice: str | None = None
    format: str | None = None
    end_user: str | None = None
    provider_options: dict[str, Any] = {}


class Voice(msgspec.Struct, frozen=True, kw_only=True):
    """One who speaks. `languages` are codes such as en or pt-BR; empty: whatever the model speaks."""

    id: str
    name: str
    languages: tuple[str, ...] = ()


class Sound(msgspec.Struct, frozen=True, kw_only=True):
    """The whole sound of a speech."""

    audio: bytes
    mime_type: str


# ---- events: what the reader of speech gets, numbered from 0


class SpeechStarted(msgspec.Struct, frozen=True, kw_only=True):
    """Admitted; sent before the first byte goes to the provider."""

    invocation_id: str
    sequence: int
    model: ModelKey


class SpeechChunk(msgspec.Struct, frozen=True, kw_only=True):
    """More of the sound."""

    invocation_id: str
    sequence: int
    audio: bytes
    mime_type: str


class SpeechFinished(msgspec.Struct, frozen=True, kw_only=True):
    """The end, well."""

    invocation_id: str
    sequence: int
    usage: Usage
    cost: Cost | None = None


class SpeechFailed(msgspec.Struct, frozen=True, kw_only=True):
    """The end, not well; without an invocation where it was refused before admission."""

    invocation_id: str | None
    sequence: int
    error: Problem


SpeechEvent = SpeechStarted | SpeechChunk | SpeechFinished | SpeechFailed


def mime_type_of(format: str) -> str:  # noqa: A002 - the word of the API
    """Return what audio of a format is sent as."""
    return MIME_TYPES.get(format.partition("_")[0].lower(), "application/octet-stream")


def bound_usage(request: SpeechRequest) -> Usage:
    """Return what a call uses at most; where sound is counted in tokens, an allowance for slow speech, no bound.

    OpenAI makes about 21 tokens of sound a second, and a second has seldom fewer than 5 characters.
    """
    size = len(request.text.encode("utf-8", "surrogatepass"))
    return Usage(input_tokens=size + 16, output_tokens=256 + 5 * size, characters=len(request.text))


def usage_of(request: SpeechRequest) -> Usage:
    """Return the usage of speech: the characters that were spoken, which is what it is charged by."""
    return Usage(characters=len(request.text))

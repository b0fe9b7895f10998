"""Transcription: a recording in, its words out."""

import math
from typing import Any

import msgspec

from core.model_types import Usage

_FORMATS: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"ID3", "audio/mpeg", "mp3"),
    (0, b"OggS", "audio/ogg", "ogg"),
    (0, b"fLaC", "audio/flac", "flac"),
    (4, b"ftyp", "audio/mp4", "m4a"),
    (0, b"\x1aE\xdf\xa3", "audio/webm", "webm"),
    (0, b"#!AMR", "audio/amr", "amr"),
    (0, b"caff", "audio/x-caf", "caf"),
)
"""Where a format has its mark, what the mark is, and what the format is called."""

_USUAL_BYTES_PER_SECOND = 16_000
"""Of compressed speech at 128 kbit/s."""

_LOWEST_BYTES_PER_SECOND = 1_000
"""Of compressed speech at 8 kbit/s."""

_TOKENS_PER_SECOND = 20


class Audio(msgspec.Struct, frozen=True, kw_only=True):
    """A recording whose format is known by its first bytes."""

    content: bytes
    mime_type: str
    filename: str


class TranscriptionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A recording to write down. `language` is an ISO 639-1 code; None lets the model find out."""

    audio: Audio
    language: str | None = None
    end_user: str | None = None
    provider_options: dict[str, Any] = {}


class Transcript(msgspec.Struct, frozen=True, kw_only=True):
    """The words. `usage` None: the provider reported nothing."""

    text: str
    usage: Usage | None = None


def audio_of(content: bytes, filename: str | None) -> Audio | None:
    """Return a recording, named so that its ending tells its format; None for bytes that are no audio we know."""
    found = _format(content)
    if found is None:
        return None
    mime_type, ending = found
    stem = (filename or "audio").rpartition("/")[2].rpartition("\\")[2]
    name = stem if stem.lower().endswith(f".{ending}") else f"{stem.partition('.')[0] or 'audio'}.{ending}"
    return Audio(content=content, mime_type=mime_type, filename=name)


def estimate_usage(request: TranscriptionRequest, text: str) -> Usage:
    """Return the usage of a call whose provider reported none: a WAV tells its length, others by a usual bit rate."""
    return Usage(
        seconds=seconds_of(request.audio), output_tokens=-(-len(text.encode("utf-8", "surrogatepass")) // 4),
        estimated=True,
    )  # fmt: skip


def bound_usage(request: TranscriptionRequest) -> Usage:
    """Return what a call uses at most, of compressed sound as if at the lowest rate that is usual for speech.

    Where sound is counted in tokens: at least as many as OpenAI's models read (10 a second) and people speak.
    """
    audio = request.audio
    seconds = longest(audio.content, len(audio.content))
    return Usage(
        input_tokens=math.ceil(_TOKENS_PER_SECOND * seconds) + 256,
        output_tokens=math.ceil(_TOKENS_PER_SECOND * seconds) + 256,
        seconds=seconds,
    )


def longest(head: bytes, size: int) -> float:
    """Return how many seconds a recording of so many bytes lasts at most, as its first bytes tell."""
    rate = _wav_bytes_per_second(head) if _is_wav(head) else None
    return round(max(0, size - 44) / rate if rate else size / _LOWEST_BYTES_PER_SECOND, 3)


def seconds_of(audio: Audio) -> float:
    """Return how long a recording lasts: exactly for WAV, else as its size tells at a usual bit rate."""
    rate = _wav_rate(audio)
    return round(max(0, len(audio.content) - 44) / rate if rate else len(audio.content) / _USUAL_BYTES_PER_SECOND, 3)


def _format(content: bytes) -> tuple[str, str] | None:
    if _is_wav(content):
        return "audio/wav", "wav"
    if content[:4] == b"FORM" and content[8:12] in {b"AIFF", b"AIFC"}:
        return "audio/aiff", "aiff"
    for place, mark, mime_type, ending in _FORMATS:
        if content[place : place + len(mark)] == mark:
            return mime_type, ending
    if len(content) > 2 and content[0] == 0xFF and content[1] & 0xE0 == 0xE0:
        return ("audio/aac", "aac") if content[1] & 0x06 == 0 else ("audio/mpeg", "mp3")
    return None


def _is_wav(content: bytes) -> bool:
    return content[:4] in {b"RIFF", b"RF64"} and content[8:12] == b"WAVE"


def _wav_rate(audio: Audio) -> int | None:
    return _wav_bytes_per_second(audio.content) if audio.mime_type == "audio/wav" else None


def _wav_bytes_per_second(content: bytes) -> int | None:
    """Return the data rate of a WAV whose format stands where it nearly always does."""
    if content[12:16] != b"fmt " or len(content) < 32:
        return None
    return int.from_bytes(content[28:32], "little") or None

"""Which of our providers speaks the dialect of a folder of recordings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from core.wire.conversing import Decoding
from core.wire.dialects import anthropic, cohere, gemini, ollama, openai_responses
from core.wire.dialects.openai_chat.answer import StreamDecoder
from tests.wire.recordings import Recording, load


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """A provider, what its base URL ends in, more values of its credential, and what decodes its streams."""

    provider: str
    decoder: Callable[[], Decoding]
    ending: str = ""
    values: Mapping[str, str] = field(default_factory=dict)


_RESPONSES = Spoken(
    provider="openai",
    ending="/v1",
    values={"api": "responses"},
    decoder=lambda: openai_responses.answer.stream_decoder("openai"),
)
_CHAT = Spoken(provider="openai_compatible", ending="/v1", decoder=StreamDecoder)

SPOKEN: Mapping[str, Spoken] = {
    "openai-chat": _CHAT,
    "openai-compatible": _CHAT,
    "azure-openai": _CHAT,
    "anthropic-messages": Spoken(provider="anthropic", decoder=lambda: anthropic.answer.stream_decoder("anthropic")),
    "openai-responses": _RESPONSES,
    "cohere": Spoken(provider="cohere", decoder=lambda: cohere.answer.stream_decoder("cohere")),
    "ollama": Spoken(provider="ollama", decoder=lambda: ollama.answer.stream_decoder("ollama")),
    "gemini": Spoken(provider="gemini", decoder=lambda: gemini.answer.stream_decoder("gemini")),
}


def spoken(recording: Recording) -> Spoken:
    """Return what speaks a recording's dialect."""
    return _RESPONSES if recording.kind == "responses" else SPOKEN[recording.name.partition("/")[0]]


def recordings(folder: str) -> list[Recording]:
    """Return the recorded answers of all dialects that are spoken; none where no folder is named."""
    return load(Path(folder), SPOKEN) if folder else []

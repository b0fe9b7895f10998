"""What a request needs of a model of any type, checked before anybody is called."""

from collections.abc import Iterator

import msgspec

from core.errors import CapabilityUnsupported, InvalidInput
from core.model_types import ModelFeature
from core.model_types.llm import ChatRequest, Media, MediaKind
from core.model_types.moderation import ModerationRequest
from core.model_types.rerank import RerankRequest
from core.model_types.speech2text import TranscriptionRequest
from core.model_types.text_embedding import EmbeddingRequest
from core.model_types.tts import SpeechRequest, Voice
from core.provider import ModelCard

_MEDIA = {
    MediaKind.IMAGE: ModelFeature.VISION,
    MediaKind.AUDIO: ModelFeature.AUDIO,
    MediaKind.VIDEO: ModelFeature.VIDEO,
    MediaKind.DOCUMENT: ModelFeature.DOCUMENT,
}


def check_capabilities(request: ChatRequest, card: ModelCard) -> None:
    """Let a request pass that the model can take.

    Raises:
        CapabilityUnsupported: names what the model lacks, with the path of the input that asks for it.
    """
    for feature, path in _needs(request):
        if feature not in card.features:
            raise CapabilityUnsupported(
                f"The model {card.name!r} has no {feature}; choose one whose `features` include it.", path=path
            )


def _needs(request: ChatRequest) -> Iterator[tuple[ModelFeature, tuple[str, ...]]]:
    if request.tools:
        yield ModelFeature.TOOL_CALL, ("tools",)
    if request.response_format is not None and request.response_format.json_schema is not None:
        yield ModelFeature.STRUCTURED_OUTPUT, ("responseFormat",)
    for number, message in enumerate(request.messages):
        for part in message.content:
            if isinstance(part, Media):
                yield _MEDIA[part.kind], ("messages", str(number), "content")


def check_embedding(request: EmbeddingRequest, card: ModelCard) -> None:
    """Let a request pass whose dimensions the model can give.

    The property `dimensions` is the size of the model's vectors; with `adjustable_dimensions` it also gives fewer.

    Raises:
        CapabilityUnsupported: it cannot.
    """
    size = card.properties.get("dimensions")
    if request.dimensions is None or not isinstance(size, int) or request.dimensions == size:
        return
    if not card.properties.get("adjustable_dimensions"):
        raise CapabilityUnsupported(
            f"The vectors of {card.name!r} have {size} dimensions and no others; leave `dimensions` out.",
            path=("dimensions",),
        )
    if request.dimensions > size:
        raise CapabilityUnsupported(
            f"The vectors of {card.name!r} have at most {size} dimensions.", path=("dimensions",)
        )


def check_rerank(request: RerankRequest, card: ModelCard) -> None:
    """Let a request pass with no more documents than the model's property `max_documents`.

    Raises:
        InvalidInput: there are more.
    """
    most = _limit(card, "max_documents")
    if most is not None and len(request.documents) > most:
        raise InvalidInput(f"The model {card.name!r} takes at most {most} documents.", path=("documents",))


def check_transcription(request: TranscriptionRequest, card: ModelCard) -> None:
    """Let a recording pass of no more bytes than the model's property `max_bytes`.

    Raises:
        InvalidInput: it has more.
    """
    most = _limit(card, "max_bytes")
    if most is not None and len(request.audio.content) > most:
        raise InvalidInput(f"The model {card.name!r} takes audio of at most {most} bytes.", path=("audio",))


def check_moderation(request: ModerationRequest, card: ModelCard) -> None:
    """Let a text pass of no more characters than the model's property `max_characters`.

    Raises:
        InvalidInput: it has more.
    """
    _check_characters(request.text, card)


def check_speech(request: SpeechRequest, card: ModelCard) -> SpeechRequest:
    """Return a request with the model's usual voice and format where it names none.

    The properties `voices`, `default_voice`, `formats`, `default_format` and `max_characters` say what the model knows.

    Raises:
        InvalidInput: the text is too long, or the model has no such voice or format.
    """
    _check_characters(request.text, card)
    voices, formats = [voice.id for voice in voices_of(card)], _texts(card.properties.get("formats"))
    voice = request.voice or card.properties.get("default_voice") or (voices[0] if voices else None)
    sound = request.format or card.properties.get("default_format") or (formats[0] if formats else None)
    if voices and voice not in voices:
        raise InvalidInput(f"The model {card.name!r} has these voices: {', '.join(voices)}.", path=("voice",))
    if formats and sound not in formats:
        raise InvalidInput(f"The model {card.name!r} has these formats: {', '.join(formats)}.", path=("format",))
    return msgspec.structs.replace(request, voice=voice, format=sound)


def voices_of(card: ModelCard) -> list[Voice]:
    """Return the voices that the property `voices` of a model lists: ids, or tables of id, name and languages."""
    listed = card.properties.get("voices")
    return [_voice(one) for one in listed] if isinstance(listed, list) else []


def _voice(listed: object) -> Voice:
    return Voice(id=listed, name=listed.title()) if isinstance(listed, str) else msgspec.convert(listed, Voice)


def _check_characters(text: str, card: ModelCard) -> None:
    most = _limit(card, "max_characters")
    if most is not None and len(text) > most:
        raise InvalidInput(
            f"The model {card.name!r} takes texts of at most {most} characters, and this has {len(text)}.",
            path=("text",),
        )


def _limit(card: ModelCard, name: str) -> int | None:
    value = card.properties.get(name)
    return value if isinstance(value, int) else None


def _texts(value: object) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []

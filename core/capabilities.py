"""What a request needs of a model, checked before anybody is called."""

from collections.abc import Iterator

from core.errors import CapabilityUnsupported
from core.model_types import ModelFeature
from core.model_types.llm import ChatRequest, Media, MediaKind
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

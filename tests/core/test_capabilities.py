"""What a request needs of a model, checked before anybody is called."""

import pytest

from core.capabilities import check_capabilities
from core.errors import CapabilityUnsupported
from core.model_types import ModelFeature, ModelType
from core.model_types.llm import ChatRequest, Media, MediaKind, Message, ResponseFormat, Role, Text, Tool
from core.provider import ModelCard
from tests import make

NEEDS = [
    (make.chat(tools=(Tool(name="t", description=None, parameters={}),)), ModelFeature.TOOL_CALL, ("tools",)),
    (
        make.chat(response_format=ResponseFormat(json_schema={"type": "object"})),
        ModelFeature.STRUCTURED_OUTPUT,
        ("responseFormat",),
    ),
    *(
        (
            ChatRequest(
                messages=(
                    Message(role=Role.SYSTEM, content=(Text(text="Look."),)),
                    Message(role=Role.USER, content=(Media(kind=kind, url="https://host/file"),)),
                )
            ),
            feature,
            ("messages", "1", "content"),
        )
        for kind, feature in [
            (MediaKind.IMAGE, ModelFeature.VISION),
            (MediaKind.AUDIO, ModelFeature.AUDIO),
            (MediaKind.VIDEO, ModelFeature.VIDEO),
            (MediaKind.DOCUMENT, ModelFeature.DOCUMENT),
        ]
    ),
]


def card(*features: ModelFeature) -> ModelCard:
    return ModelCard(name="small", label="Small", type=ModelType.LLM, features=frozenset(features))


@pytest.mark.parametrize(("request_", "feature", "path"), NEEDS, ids=[need[1] for need in NEEDS])
def test_what_a_model_lacks_is_named_with_the_input_that_needs_it(
    request_: ChatRequest, feature: ModelFeature, path: tuple[str, ...]
) -> None:
    others = set(ModelFeature) - {feature}

    with pytest.raises(CapabilityUnsupported, match=f"'small' has no {feature}") as raised:
        check_capabilities(request_, card(*others))

    assert raised.value.path == path
    check_capabilities(request_, card(feature))


def test_text_needs_nothing() -> None:
    check_capabilities(make.chat(), card())

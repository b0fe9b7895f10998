"""Tokens counted here."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.counting import (
    OutputCount,
    estimate_usage,
    estimated_input,
    input_upper_bound,
    is_bounded,
    wished_output,
)
from core.metering import OUTPUT_UNKNOWN, known_ceiling, output_ceiling
from core.model_types import ModelType
from core.model_types.llm import (
    ChatRequest,
    Media,
    MediaKind,
    Message,
    Piece,
    ReasoningPiece,
    ResponseFormat,
    Role,
    Text,
    TextPiece,
    Tool,
    ToolCall,
    ToolCallPiece,
)
from core.provider import ModelCard
from tests import make


@given(st.lists(st.text(max_size=200), max_size=5))
def test_the_bound_is_at_least_one_token_for_each_byte(texts: list[str]) -> None:
    request = make.chat("".join(texts))

    assert input_upper_bound(request) >= len("".join(texts).encode())


@given(st.text(max_size=200), st.text(min_size=1, max_size=200))
def test_more_text_never_lowers_a_count(first: str, more: str) -> None:
    assert input_upper_bound(make.chat(first + more)) > input_upper_bound(make.chat(first))
    assert estimate_usage(make.chat(first), more).output_tokens >= 1


def test_long_texts_count_to_the_byte() -> None:
    text = "é漢🙂\ud800a" * 100_000

    assert input_upper_bound(make.chat(text)) - input_upper_bound(make.chat("")) == 13 * 100_000


def test_everything_that_is_sent_counts() -> None:
    schema = {"type": "object", "description": "d" * 500}
    plain = input_upper_bound(make.chat())

    grown = [
        make.chat(tools=(Tool(name="t", description=None, parameters=schema),)),
        make.chat(response_format=ResponseFormat(json_schema=schema)),
        make.chat(parameters={"json_schema": "s" * 500}),
        make.chat(provider_options={"more": "o" * 500}),
        _with(Message(role=Role.USER, content=(Text(text="t" * 500),))),
        _with(Message(role=Role.ASSISTANT, tool_calls=(ToolCall(id="1", name="t", arguments="a" * 500),))),
        _with(Message(role=Role.ASSISTANT, continuation="c" * 500)),
        _with(Message(role=Role.USER, content=(Media(kind=MediaKind.IMAGE, url="https://host/a.png"),))),
    ]

    assert all(input_upper_bound(request) >= plain + 500 for request in grown)


def test_an_estimate_says_that_it_is_one() -> None:
    usage = estimate_usage(make.chat("x" * 400), "é" * 100)

    assert usage.estimated
    assert usage.output_tokens == 50
    assert 100 <= usage.input_tokens < 110
    assert usage.input_tokens <= input_upper_bound(make.chat("x" * 400))


def test_nothing_produced_is_no_output() -> None:
    assert estimate_usage(make.chat(), "").output_tokens == 0


def _with(message: Message) -> ChatRequest:
    return ChatRequest(messages=(*make.chat().messages, message))


@pytest.mark.parametrize(
    ("parameters", "options", "wish"),
    [
        ({}, {}, (None, 1, True)),
        ({"max_tokens": 9}, {"user": "x"}, (9, 1, True)),
        ({"max_tokens": 9}, {"max_completion_tokens": 5000}, (5000, 1, False)),
        ({"max_tokens": 9}, {"generationConfig": {"maxOutputTokens": 70, "candidateCount": 3}}, (70, 3, False)),
        ({"max_tokens": 9}, {"options": {"num_predict": -1}}, (None, 1, False)),
        ({}, {"n": 4, "tools": [{"n": 2}]}, (None, 4, True)),
    ],
)
def test_options_of_the_provider_count_as_wishes_for_output(
    parameters: dict[str, Any], options: dict[str, Any], wish: tuple[int | None, int, bool]
) -> None:
    assert wished_output(make.chat(parameters=parameters, provider_options=options)) == wish


@given(st.lists(st.text(max_size=50), max_size=20))
def test_output_counts_as_at_least_one_token_for_each_byte_as_it_comes(texts: list[str]) -> None:
    output, size, before = OutputCount(None, None), 0, 0

    for number, text in enumerate(texts):
        piece: Piece = TextPiece(text) if number % 2 else ReasoningPiece(text)
        output.add([piece])
        size += len(text.encode())

        assert output.most >= max(size, before)
        before = output.most
    assert output.counted() == output.most <= size + 16


def test_what_a_model_says_to_tools_counts() -> None:
    output = OutputCount(None, None)
    before = output.most

    output.add([ToolCallPiece(0, "call", "weather", ""), ToolCallPiece(0, None, None, '{"city": "Zürich"}')])

    assert output.most >= before + len("weather") + 19


def test_output_counts_as_no_more_than_its_ceiling_unless_that_is_not_kept_to() -> None:
    output = OutputCount(None, 40)

    counts = []
    for _ in range(5):
        output.add([TextPiece("x" * 40)])
        counts.append(output.most)

    assert counts == [40, 40, 40, 40, 50]


@pytest.mark.parametrize(
    ("limits", "asked", "known", "held"),
    [
        ({}, None, None, OUTPUT_UNKNOWN),
        ({}, 20_000, 20_000, 20_000),
        ({"max_output_tokens": 8000}, None, 8000, 8000),
        ({"max_output_tokens": 8000}, 20_000, 8000, 8000),
        ({"max_output_tokens": 8000, "context_window": 9000}, 10, 10, 10),
        ({"context_window": 9000}, None, 9000, 9000),
    ],
)
def test_a_ceiling_is_what_was_asked_for_or_what_the_model_has(
    limits: dict[str, Any], asked: int | None, known: int | None, held: int
) -> None:
    card = ModelCard(name="m", label="M", type=ModelType.LLM, **limits)

    assert known_ceiling(card, asked) == known
    assert output_ceiling(card, asked) == held


WAV = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0" + (8000).to_bytes(4, "little") + (16000).to_bytes(4, "little")


def _media(kind: MediaKind, content: bytes | None, mime_type: str | None = None) -> ChatRequest:
    if content is None:
        return _with(Message(role=Role.USER, content=(Media(kind=kind, url="https://host/it"),)))
    encoded = base64.b64encode(content).decode()
    return _with(Message(role=Role.USER, content=(Media(kind=kind, base64=encoded, mime_type=mime_type),)))


@pytest.mark.parametrize(
    ("request_", "most", "bounded"),
    [
        (_media(MediaKind.IMAGE, None), 1445, True),
        (_media(MediaKind.IMAGE, b"x" * 90_000, "image/png"), 1445, True),
        (_media(MediaKind.AUDIO, WAV + bytes(44 - 32 + 160_000), "audio/wav"), 32 * 10 + 256, False),
        (_media(MediaKind.AUDIO, b"ID3" + bytes(59_997), "audio/mpeg"), 32 * 60 + 256, False),
        (_media(MediaKind.AUDIO, None), 8192, False),
        (_media(MediaKind.DOCUMENT, b"word " * 300, "text/plain"), 1500, True),
        (_media(MediaKind.DOCUMENT, b"%PDF" * 300, "application/pdf"), 65_536, False),
        (_media(MediaKind.VIDEO, b"mp4" * 300, "video/mp4"), 65_536, False),
    ],
)
def test_media_hold_what_is_known_of_them(request_: ChatRequest, most: int, bounded: bool) -> None:
    nothing = input_upper_bound(_with(Message(role=Role.USER, content=(Text(text=""),))))

    held = input_upper_bound(request_, None, 1445) - nothing

    assert most <= held <= most + 2
    assert estimated_input(request_, None, 1445) <= input_upper_bound(request_, None, 1445)
    assert is_bounded(request_, 1445) is bounded


def test_an_image_holds_an_allowance_where_nothing_is_known() -> None:
    image = _media(MediaKind.IMAGE, None)

    assert input_upper_bound(image) - input_upper_bound(image, None, 1) == 4095
    assert not is_bounded(image, None)

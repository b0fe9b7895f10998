"""The built-in provider that says back what it was told."""

import asyncio
import json
from contextlib import aclosing
from typing import Any

import pytest

from core.model_types import Usage
from core.model_types.llm import (
    ChatRequest,
    FinishPiece,
    FinishReason,
    Message,
    Piece,
    ReasoningPiece,
    ResponseFormat,
    Role,
    Text,
    TextPiece,
    Tool,
    ToolCallPiece,
    ToolChoice,
    ToolChoiceMode,
    UsagePiece,
)
from core.parameters import check_parameters
from core.provider import Call, LanguageModels, Manifest, Provider
from tests import make
from tests.catalogs import CATALOG

TOOLS = tuple(Tool(name=name, description=None, parameters={"type": "object"}) for name in ("first", "second"))


def echo() -> tuple[Provider, Manifest, LanguageModels]:
    provider = CATALOG.provider("echo")
    assert provider is not None
    assert provider.llm is not None
    return provider, provider.manifest, provider.llm


def call(model: str = "echo", **values: str) -> Call:
    _, manifest, _ = echo()
    card = next(card for card in manifest.models if card.name == model)
    return Call(model=model, card=card, values=values)


async def stream(request: ChatRequest, of: Call | None = None) -> list[Piece]:
    _, _, llm = echo()
    async with aclosing(llm.stream(of or call(), request)) as batches:
        return [piece async for batch in batches for piece in batch]


def spoken(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces if isinstance(piece, TextPiece))


async def test_the_last_words_of_the_person_come_back_word_by_word() -> None:
    request = ChatRequest(
        messages=(
            Message(role=Role.SYSTEM, content=(Text(text="Be brief."),)),
            Message(role=Role.USER, content=(Text(text="first"),)),
            Message(role=Role.ASSISTANT, content=(Text(text="first"),)),
            Message(role=Role.USER, content=(Text(text="one  two\nthree"),)),
        )
    )

    assert await stream(request) == [
        TextPiece("one"),
        TextPiece("  two"),
        TextPiece("\nthree"),
        FinishPiece(FinishReason.STOP),
        UsagePiece(Usage(input_tokens=7, output_tokens=3)),
    ]


@pytest.mark.parametrize(
    "request_",
    [
        make.chat("a b c"),
        make.chat(""),
        make.chat("a b c", parameters={"max_tokens": 2}),
        make.chat("a b c", response_format=ResponseFormat()),
        make.chat("a b c", tools=TOOLS, tool_choice=ToolChoice(mode=ToolChoiceMode.REQUIRED)),
    ],
)
@pytest.mark.parametrize("model", ["echo", "echo-reasoning"])
async def test_both_ways_give_the_same_and_end(model: str, request_: ChatRequest) -> None:
    _, _, llm = echo()

    streamed = await stream(request_, call(model))
    whole = list(await llm.complete(call(model), request_))

    assert streamed == whole == await stream(request_, call(model))
    assert [type(piece) for piece in streamed[-2:]] == [FinishPiece, UsagePiece]
    assert isinstance(streamed[0], ReasoningPiece) is (model == "echo-reasoning" and not request_.tools)


async def test_max_tokens_cuts_it_short() -> None:
    pieces = await stream(make.chat("a b c", parameters={"max_tokens": 2}))

    assert spoken(pieces) == "a b"
    assert FinishPiece(FinishReason.LENGTH) in pieces
    assert pieces[-1] == UsagePiece(Usage(input_tokens=3, output_tokens=2))


@pytest.mark.parametrize(
    ("choice", "name"),
    [(ToolChoice(mode=ToolChoiceMode.REQUIRED), "first"), (ToolChoice(tool="second"), "second")],
)
async def test_a_tool_is_called_where_one_must_be(choice: ToolChoice, name: str) -> None:
    pieces = await stream(make.chat("go", tools=TOOLS, tool_choice=choice))

    calls = [piece for piece in pieces if isinstance(piece, ToolCallPiece)]
    assert [piece.name for piece in calls] == [name, None]
    assert json.loads("".join(piece.arguments for piece in calls)) == {}
    assert FinishPiece(FinishReason.TOOL_CALLS) in pieces


@pytest.mark.parametrize("choice", [None, ToolChoice(mode=ToolChoiceMode.AUTO), ToolChoice(mode=ToolChoiceMode.NONE)])
async def test_no_tool_is_called_where_none_must_be(choice: ToolChoice | None) -> None:
    assert spoken(await stream(make.chat("go", tools=TOOLS, tool_choice=choice))) == "go"


@pytest.mark.parametrize("schema", [None, {"type": "object"}])
async def test_a_structured_answer_is_json(schema: dict[str, Any] | None) -> None:
    pieces = await stream(make.chat("a b", response_format=ResponseFormat(json_schema=schema)))

    assert isinstance(json.loads(spoken(pieces)), dict)


async def test_a_credential_says_what_comes_before() -> None:
    provider, _, _ = echo()

    assert spoken(await stream(make.chat("hello"), call(prefix="You said:"))) == "You said: hello"
    await provider.validate({"prefix": "You said:"}, None, None)


async def test_the_delay_lies_between_two_words(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)

    await stream(make.chat("a b c", parameters={"delay_ms": 40}), call("echo-reasoning"))

    assert [seconds for seconds in slept if seconds] == [0.04, 0.04]


async def test_its_parameters_are_in_its_rules() -> None:
    assert check_parameters(call().card.parameter_rules, {"max_tokens": 1, "delay_ms": 0}) == {
        "max_tokens": 1,
        "delay_ms": 0,
    }

"""What an official client has read of an answer, in words that hold for all of them."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest

from tests.fake_dialects.base import cut
from tests.fake_provider import SCENARIOS

_Model = TypeVar("_Model")

HEALTHY = ("text", "reasoning", "tool", "tools", "structured", "length", "filtered_late")
every_scenario = pytest.mark.parametrize("scenario", HEALTHY)
KEY = "sk-test-0123456789abcdefghij"
ASKED = "What is the weather in Paris?"


@dataclass(slots=True)
class Answer:
    """`calls` are names with their arguments; `input` counts all tokens, `cached` those of them read from a cache."""

    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)
    finish: str | None = None
    input: int | None = None
    cached: int | None = None
    output: int | None = None


def said(scenario: str, finish: str, *, has_cached: bool = True) -> Answer:
    """Return what a client should read of a scenario; `finish` is the dialect's word for its end."""
    expected = SCENARIOS[scenario]
    pieces = sum(1 for text in (expected.reasoning, expected.text) for _ in cut(text, expected.pieces))
    return Answer(
        text=expected.text,
        reasoning=expected.reasoning,
        calls=[(name, json.loads(arguments)) for name, arguments in expected.tool_calls],
        finish=finish,
        input=11,
        cached=4 if has_cached else None,
        output=pieces + len(expected.tool_calls),
    )


def is_true(model: Any) -> None:
    """Fail where a body, as a client has read it, lacks or mistypes a field of the client's own model of it."""
    type(model).model_validate_json(model.model_dump_json(by_alias=True, exclude_unset=True))


def true_ones(models: Iterable[_Model]) -> Iterator[_Model]:
    """Yield what each event of a stream was read as, once it is known to be a true one."""
    for model in models:
        is_true(model)
        yield model

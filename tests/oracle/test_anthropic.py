"""Anthropic's own client reads our Anthropic."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.fake_dialects.anthropic import SIGNATURE
from tests.fake_provider import FakeProvider
from tests.oracle.reading import ASKED, KEY, Answer, every_scenario, is_true, said, true_ones

if TYPE_CHECKING:
    from anthropic import Anthropic
    from anthropic.types import Message

STOPS = {"tool": "tool_use", "tools": "tool_use", "length": "max_tokens", "filtered_late": "refusal"}
ASKING: Any = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": ASKED}]}


@pytest.fixture(scope="module")
def client(running_provider: FakeProvider) -> "Iterator[Anthropic]":
    from anthropic import Anthropic

    with Anthropic(base_url=running_provider.root, api_key=KEY, max_retries=0) as client:
        yield client


@every_scenario
def test_a_message_is_read_whole(scenario: str, client: "Anthropic", provider: FakeProvider) -> None:
    provider.answers(scenario)

    message = client.messages.create(**ASKING)

    is_true(message)
    assert of(message) == said(scenario, STOPS.get(scenario, "end_turn"))


@every_scenario
def test_a_message_is_read_streamed(scenario: str, client: "Anthropic", provider: FakeProvider) -> None:
    provider.answers(scenario)

    with client.messages.stream(**ASKING) as stream:
        message = stream.get_final_message()

    assert of(message) == said(scenario, STOPS.get(scenario, "end_turn"))


@every_scenario
def test_every_event_of_a_message_is_true(scenario: str, client: "Anthropic", provider: FakeProvider) -> None:
    provider.answers(scenario)

    events = list(true_ones(client.messages.create(stream=True, **ASKING)))

    assert (events[0].type, events[-1].type) == ("message_start", "message_stop")


def test_models_are_read(client: "Anthropic", provider: FakeProvider) -> None:
    models = list(true_ones(client.models.list()))

    assert [(model.id, model.max_input_tokens) for model in models] == [
        ("claude-text", 200_000),
        ("claude-tool", 200_000),
    ]


def of(message: "Message") -> Answer:
    thoughts = [block for block in message.content if block.type == "thinking"]
    calls = [block for block in message.content if block.type == "tool_use"]
    usage = message.usage
    assert all(block.signature == SIGNATURE for block in thoughts)
    return Answer(
        text="".join(block.text for block in message.content if block.type == "text"),
        reasoning="".join(block.thinking for block in thoughts),
        calls=[(block.name, block.input) for block in calls],
        finish=message.stop_reason,
        input=usage.input_tokens + (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0),
        cached=usage.cache_read_input_tokens,
        output=usage.output_tokens,
    )

"""Cohere's own client reads our Cohere: its language, embedding and ranking models."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.fake_provider import FakeProvider
from tests.fake_tasks import score, vector
from tests.oracle.reading import ASKED, KEY, Answer, every_scenario, is_true, said, true_ones

if TYPE_CHECKING:
    from cohere import ClientV2

pytestmark = pytest.mark.filterwarnings(
    # cohere reads its models by an attribute that pydantic has renamed
    "ignore:The `__fields__` attribute is deprecated:DeprecationWarning:cohere.*"
)

REASONS = {"tool": "TOOL_CALL", "tools": "TOOL_CALL", "length": "MAX_TOKENS", "filtered_late": "ERROR_TOXIC"}
MESSAGES: Any = [{"role": "user", "content": ASKED}]


@pytest.fixture(scope="module")
def client(running_provider: FakeProvider) -> "Iterator[ClientV2]":
    from cohere import ClientV2

    with ClientV2(api_key=KEY, base_url=f"{running_provider.root}/cohere") as client:
        yield client


@every_scenario
def test_a_chat_is_read_whole(scenario: str, client: "ClientV2", provider: FakeProvider) -> None:
    provider.answers(scenario)

    response = client.chat(model="m", messages=MESSAGES)

    is_true(response)
    answer = Answer(finish=response.finish_reason)
    for part in response.message.content or ():
        if part.type == "thinking":
            answer.reasoning += part.thinking
        else:
            answer.text += part.text
    for call in response.message.tool_calls or ():
        assert call.function is not None
        answer.calls.append((call.function.name or "", json.loads(call.function.arguments or "")))
    count(answer, response.usage)
    assert answer == said(scenario, REASONS.get(scenario, "COMPLETE"))


@every_scenario
def test_a_chat_is_read_streamed(scenario: str, client: "ClientV2", provider: FakeProvider) -> None:
    provider.answers(scenario)
    answer, calls = Answer(), list[list[str]]()

    for event in true_ones(client.chat_stream(model="m", messages=MESSAGES)):
        delta: Any = getattr(event, "delta", None)
        match event.type:
            case "content-delta":
                answer.text += delta.message.content.text or ""
                answer.reasoning += delta.message.content.thinking or ""
            case "tool-call-start":
                calls.append([delta.message.tool_calls.function.name, ""])
            case "tool-call-delta":
                calls[-1][1] += delta.message.tool_calls.function.arguments
            case "message-end":
                answer.finish = delta.finish_reason
                count(answer, delta.usage)

    answer.calls = [(name, json.loads(arguments)) for name, arguments in calls]
    assert answer == said(scenario, REASONS.get(scenario, "COMPLETE"))


def test_embeddings_are_read(client: "ClientV2", provider: FakeProvider) -> None:
    found = client.embed(model="m", texts=["ab", "c"], input_type="search_query", embedding_types=["float"])

    is_true(found)
    assert found.embeddings.float_ == [vector("ab"), vector("c")]
    assert found.meta is not None
    assert found.meta.billed_units is not None
    assert found.meta.billed_units.input_tokens == 3


def test_a_ranking_is_read(client: "ClientV2", provider: FakeProvider) -> None:
    found = client.rerank(model="m", query="ab", documents=["abcd", "ab", "c"], top_n=2)

    is_true(found)
    assert [(hit.index, hit.relevance_score) for hit in found.results] == [(1, 1.0), (2, score("ab", "c"))]
    assert found.meta is not None
    assert found.meta.billed_units is not None
    assert found.meta.billed_units.search_units == 1


def test_models_are_read(client: "ClientV2", provider: FakeProvider) -> None:
    listed = client.models.list()

    is_true(listed)
    assert [(model.name, model.context_length) for model in listed.models] == [
        ("command-text", 1000),
        ("command-tool", 1000),
    ]


def count(answer: Answer, usage: Any) -> None:
    answer.input, answer.output = int(usage.tokens.input_tokens), int(usage.tokens.output_tokens)
    answer.cached = int(usage.cached_tokens)

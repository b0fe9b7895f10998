"""Ollama's own client reads our Ollama: its language and embedding models."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.fake_provider import FakeProvider
from tests.fake_tasks import vector
from tests.oracle.reading import ASKED, Answer, every_scenario, said

if TYPE_CHECKING:
    from ollama import ChatResponse, Client

REASONS = {"length": "length", "filtered_late": "content_filter"}
MESSAGES: Any = [{"role": "user", "content": ASKED}]


@pytest.fixture(scope="module")
def client(running_provider: FakeProvider) -> "Iterator[Client]":
    from ollama import Client

    with Client(host=running_provider.root) as client:
        yield client


@every_scenario
def test_a_chat_is_read_whole(scenario: str, client: "Client", provider: FakeProvider) -> None:
    provider.answers(scenario)

    response = client.chat(model="m", messages=MESSAGES)

    assert of([response]) == said(scenario, REASONS.get(scenario, "stop"), has_cached=False)


@every_scenario
def test_a_chat_is_read_streamed(scenario: str, client: "Client", provider: FakeProvider) -> None:
    provider.answers(scenario)

    responses = client.chat(model="m", messages=MESSAGES, stream=True)

    assert of(responses) == said(scenario, REASONS.get(scenario, "stop"), has_cached=False)


def test_embeddings_are_read(client: "Client", provider: FakeProvider) -> None:
    found = client.embed(model="m", input=["ab", "c"])

    assert list(found.embeddings) == [vector("ab"), vector("c")]
    assert (found.model, found.prompt_eval_count) == ("m", 3)


def test_models_are_read(client: "Client", provider: FakeProvider) -> None:
    listed = client.list()
    shown = client.show("llama3.2:latest")

    assert [model.model for model in listed.models] == ["llama3.2:latest", "nomic-embed-text:latest"]
    assert shown.capabilities == ["completion", "tools"]
    assert shown.modelinfo is not None
    assert shown.modelinfo["llama.context_length"] == 131072


def of(responses: "Iterable[ChatResponse]") -> Answer:
    answer = Answer()
    for response in responses:
        assert answer.finish is None, "nothing follows the end"
        message = response.message
        answer.text += message.content or ""
        answer.reasoning += message.thinking or ""
        answer.calls += [(call.function.name, dict(call.function.arguments)) for call in message.tool_calls or ()]
        if response.done:
            answer.finish = response.done_reason
            answer.input, answer.output = response.prompt_eval_count, response.eval_count
    return answer

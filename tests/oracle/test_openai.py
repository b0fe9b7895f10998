"""OpenAI's own client reads our OpenAI: chat completions, responses, and its models of four other types."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.fake_provider import FakeProvider
from tests.fake_tasks import SIZE, vector
from tests.oracle.reading import ASKED, KEY, Answer, every_scenario, is_true, said, true_ones

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types.chat import ChatCompletion
    from openai.types.responses import Response

FINISH = {"tool": "tool_calls", "length": "length", "filtered_late": "content_filter"}
STATUS = {"length": "incomplete", "filtered_late": "incomplete"}
MESSAGES: Any = [{"role": "user", "content": ASKED}]


@pytest.fixture(scope="module")
def client(running_provider: FakeProvider) -> "Iterator[OpenAI]":
    from openai import OpenAI

    with OpenAI(base_url=running_provider.url, api_key=KEY, max_retries=0) as client:
        yield client


@every_scenario
def test_a_chat_completion_is_read_whole(scenario: str, client: "OpenAI", provider: FakeProvider) -> None:
    provider.answers(scenario)

    completion = client.chat.completions.create(model="m", messages=MESSAGES)

    is_true(completion)
    assert of_chat(completion) == said(scenario, FINISH.get(scenario, "stop"))


@every_scenario
def test_a_chat_completion_is_read_streamed(scenario: str, client: "OpenAI", provider: FakeProvider) -> None:
    from openai.lib.streaming.chat import ChatCompletionStreamState

    provider.answers(scenario)
    state = ChatCompletionStreamState()
    finish = None

    stream = client.chat.completions.create(
        model="m", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    for chunk in true_ones(stream):
        finish = next((choice.finish_reason for choice in chunk.choices if choice.finish_reason), finish)
        state.handle_chunk(chunk)

    answer = of_chat(state.current_completion_snapshot)
    assert answer == said(scenario, FINISH.get(scenario, "stop"))


@every_scenario
def test_a_response_is_read_whole(scenario: str, client: "OpenAI", provider: FakeProvider) -> None:
    provider.answers(scenario)

    response = client.responses.create(model="m", input=ASKED)

    is_true(response)
    assert of_response(response) == said(scenario, STATUS.get(scenario, "completed"))


@every_scenario
def test_a_response_is_read_streamed(scenario: str, client: "OpenAI", provider: FakeProvider) -> None:
    provider.answers(scenario)

    with client.responses.stream(model="m", input=ASKED) as stream:
        events = list(stream)
        response = next(event.response for event in events if event.type in ENDS)

    numbers = [event.sequence_number for event in events]
    assert numbers == list(range(len(events)))
    assert of_response(response) == said(scenario, STATUS.get(scenario, "completed"))


@every_scenario
def test_every_event_of_a_response_is_true(scenario: str, client: "OpenAI", provider: FakeProvider) -> None:
    provider.answers(scenario)

    events = list(true_ones(client.responses.create(model="m", input=ASKED, stream=True)))

    assert events[-1].type in ENDS


def test_embeddings_are_read(client: "OpenAI", provider: FakeProvider) -> None:
    for more in ({}, {"encoding_format": "float"}, {"dimensions": 2}):
        found = client.embeddings.create(model="m", input=["ab", "c"], **more)

        is_true(found)
        size = more.get("dimensions", SIZE)
        vectors = {one.index: one.embedding for one in found.data}
        assert vectors == {0: vector("ab", int(size)), 1: vector("c", int(size))}
        assert found.usage.prompt_tokens == 3


def test_a_transcript_is_read(client: "OpenAI", provider: FakeProvider) -> None:
    found = client.audio.transcriptions.create(model="m", file=("a.wav", b"RIFF0000WAVE", "audio/wav"))

    is_true(found)
    assert found.text == "a.wav: 12 bytes"
    assert found.usage is not None
    assert found.usage.to_dict() == {"type": "duration", "seconds": 3}


def test_speech_is_read_as_it_comes(client: "OpenAI", provider: FakeProvider) -> None:
    with client.audio.speech.with_streaming_response.create(model="m", voice="alloy", input="hello") as speech:
        sound = b"".join(speech.iter_bytes())

    assert sound == b"<alloy>hello"
    assert speech.headers["content-type"] == "audio/mpeg"


def test_a_verdict_is_read(client: "OpenAI", provider: FakeProvider) -> None:
    for text, flagged in (("hate", True), ("love", False)):
        found = client.moderations.create(model="m", input=text)

        is_true(found)
        assert (found.results[0].flagged, found.results[0].categories.hate) == (flagged, flagged)
        assert found.results[0].category_scores.violence == 0.001


def test_models_are_read(client: "OpenAI", provider: FakeProvider) -> None:
    names = [model.id for model in true_ones(client.models.list())]

    assert "text" in names


ENDS = ("response.completed", "response.incomplete")


def of_chat(completion: "ChatCompletion") -> Answer:
    (choice,), usage = completion.choices, completion.usage
    calls: Any = choice.message.tool_calls or ()
    cached = usage.prompt_tokens_details if usage else None
    if usage is not None:
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    return Answer(
        text=choice.message.content or "",
        reasoning=getattr(choice.message, "reasoning_content", None) or "",
        calls=[(call.function.name, json.loads(call.function.arguments)) for call in calls],
        finish=choice.finish_reason,
        input=usage.prompt_tokens if usage else None,
        cached=cached.cached_tokens if cached else None,
        output=usage.completion_tokens if usage else None,
    )


def of_response(response: "Response") -> Answer:
    usage = response.usage
    thoughts = [item for item in response.output if item.type == "reasoning"]
    calls = [item for item in response.output if item.type == "function_call"]
    if usage is not None:
        assert usage.total_tokens == usage.input_tokens + usage.output_tokens
    assert all(item.encrypted_content for item in thoughts)
    return Answer(
        text=response.output_text,
        reasoning="".join(part.text for item in thoughts for part in item.summary),
        calls=[(item.name, json.loads(item.arguments)) for item in calls],
        finish=response.status,
        input=usage.input_tokens if usage else None,
        cached=usage.input_tokens_details.cached_tokens if usage else None,
        output=usage.output_tokens if usage else None,
    )

"""Google's own client reads our Gemini: its language, embedding and speaking models."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.fake_provider import FakeProvider
from tests.fake_tasks import vector
from tests.oracle.reading import ASKED, KEY, Answer, every_scenario, said

if TYPE_CHECKING:
    from google.genai import Client
    from google.genai.types import GenerateContentResponse

REASONS = {"length": "MAX_TOKENS", "filtered_late": "SAFETY"}


@pytest.fixture(scope="module")
def client(running_provider: FakeProvider) -> "Iterator[Client]":
    from google.genai import Client
    from google.genai.types import HttpOptions

    client = Client(api_key=KEY, http_options=HttpOptions(base_url=running_provider.root, api_version="v1beta"))
    yield client
    client.close()


@every_scenario
def test_content_is_read_whole(scenario: str, client: "Client", provider: FakeProvider) -> None:
    provider.answers(scenario)

    response = client.models.generate_content(model="m", contents=ASKED)

    assert of([response]) == said(scenario, REASONS.get(scenario, "STOP"))


@every_scenario
def test_content_is_read_streamed(scenario: str, client: "Client", provider: FakeProvider) -> None:
    provider.answers(scenario)

    responses = client.models.generate_content_stream(model="m", contents=ASKED)

    assert of(responses) == said(scenario, REASONS.get(scenario, "STOP"))


def test_a_scenario_is_told_by_the_end_of_a_model_name(client: "Client", provider: FakeProvider) -> None:
    """This client leaves a colon in a path as it is; ours writes %3A."""
    response = client.models.generate_content(model="any:length", contents=ASKED)

    assert response.model_version == "any:length"
    assert of([response]).finish == "MAX_TOKENS"


def test_embeddings_are_read(client: "Client", provider: FakeProvider) -> None:
    found = client.models.embed_content(model="m", contents=["ab", "c"])

    assert [one.values for one in found.embeddings or ()] == [vector("ab"), vector("c")]


def test_speech_is_read_as_it_comes(client: "Client", provider: FakeProvider) -> None:
    from google.genai import types

    voice = types.VoiceConfig(prebuilt_voice_config=types.PrebuiltVoiceConfig(voice_name="Kore"))
    config = types.GenerateContentConfig(
        response_modalities=["AUDIO"], speech_config=types.SpeechConfig(voice_config=voice)
    )

    sounds = [
        part.inline_data
        for response in client.models.generate_content_stream(model="m", contents="hello there", config=config)
        for part in response.parts or ()
    ]

    assert [sound.data for sound in sounds if sound] == [b"<Kore>", b"hello", b"there"]
    assert {sound.mime_type for sound in sounds if sound} == {"audio/L16;codec=pcm;rate=16000"}


def test_models_are_read(client: "Client", provider: FakeProvider) -> None:
    models = list(client.models.list())

    assert [(model.name, model.input_token_limit) for model in models] == [
        ("models/gemini-text", 1000),
        ("models/gemini-tool", 1000),
    ]


def of(responses: "Iterable[GenerateContentResponse]") -> Answer:
    answer = Answer()
    for response in responses:
        (candidate,) = response.candidates
        for part in candidate.content.parts or ():
            if part.function_call:
                answer.calls.append((part.function_call.name or "", part.function_call.args))
                assert part.thought_signature or len(answer.calls) > 1
            elif part.thought:
                answer.reasoning += part.text or ""
            else:
                answer.text += part.text or ""
        if candidate.finish_reason is not None:
            answer.finish = candidate.finish_reason.value
        usage = response.usage_metadata
        assert usage is not None
        counts = (usage.candidates_token_count or 0, usage.thoughts_token_count or 0)
        assert usage.total_token_count == (usage.prompt_token_count or 0) + sum(counts)
        answer.input, answer.cached = usage.prompt_token_count, usage.cached_content_token_count
        answer.output = sum(counts)
    return answer

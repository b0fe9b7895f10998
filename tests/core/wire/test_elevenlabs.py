"""ElevenLabs: speech, transcription, voices and keys, with what its refusals mean."""

import json
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

import pytest

from core.errors import (
    InvalidInput,
    ModelyardError,
    UpstreamAuthentication,
    UpstreamBadRequest,
    UpstreamModelNotFound,
    UpstreamOverloaded,
    UpstreamPermission,
    UpstreamProtocol,
    UpstreamQuotaExhausted,
    UpstreamRateLimited,
)
from core.model_types import ModelType, Usage
from core.model_types.speech2text import Audio, TranscriptionRequest
from core.model_types.tts import SpeechRequest, Voice
from core.provider import Call, Manifest, ModelCard, Provider, RemoteModel, Value
from core.providers import elevenlabs
from core.secret import Secret
from core.wire.http import Http
from tests import fake_tasks
from tests.fake_provider import FakeProvider, Scenario

KEY = "sk_0123456789abcdef0123456789abcdef"
AUDIO = Audio(content=b"RIFF....WAVE", mime_type="audio/wav", filename="a.wav")
SPEAK = SpeechRequest(text="Hello", voice="v/1", format="pcm_24000")


@pytest.fixture
def eleven(http: Http, provider: FakeProvider) -> Provider:
    made = Manifest(
        name="p", label="", description="", model_types=(), methods=frozenset(), dialect="elevenlabs",
        options={"base_url": f"http://{provider.address}"},
    )  # fmt: skip
    return elevenlabs.build(made, http)


def values(key: str = KEY) -> Mapping[str, Value]:
    return {"api_key": Secret(key), "region": "global"}


def call(key: str = KEY) -> Call:
    card = ModelCard(name="eleven_v4", label="", type=ModelType.TTS)
    return Call(model="eleven_v4", card=card, values=values(key))


async def speak(eleven: Provider, request: SpeechRequest = SPEAK) -> bytes:
    assert eleven.tts is not None
    async with aclosing(eleven.tts.speak(call(), request)) as sound:
        return b"".join([data async for data in sound if isinstance(data, bytes)])


def refusal(status: int, code: str, message: str) -> Scenario:
    return Scenario(status=status, body=json.dumps({"detail": {"status": code, "message": message}}).encode())


async def test_a_voice_speaks_in_the_format_asked_for(eleven: Provider, provider: FakeProvider) -> None:
    options = {"voice_settings": {"speed": 1.1}, "enable_logging": False, "language_code": "en"}

    heard = await speak(eleven, SpeechRequest(text="Hello", voice="v/1", format="pcm_24000", provider_options=options))

    assert heard == b"<v%2F1>Hello"
    (sent,) = provider.requests
    assert sent.path == "/v1/text-to-speech/v%2F1/stream?output_format=pcm_24000&enable_logging=false"
    assert sent.headers["xi-api-key"] == KEY
    assert sent.json == {
        "text": "Hello",
        "model_id": "eleven_v4",
        "voice_settings": {"speed": 1.1},
        "language_code": "en",
    }


async def test_speech_needs_a_voice(eleven: Provider, provider: FakeProvider) -> None:
    with pytest.raises(InvalidInput, match="voice"):
        await speak(eleven, SpeechRequest(text="Hello"))

    assert provider.requests == []


async def test_a_recording_is_written_down_with_its_length(eleven: Provider, provider: FakeProvider) -> None:
    assert eleven.speech2text is not None
    request = TranscriptionRequest(audio=AUDIO, language="en", provider_options={"diarize": True})

    found = await eleven.speech2text.transcribe(call(), request)

    assert (found.text, found.usage) == ("a.wav: 12 bytes", Usage(seconds=2.5))
    assert fake_tasks.form(provider.requests[0]) == {
        "model_id": "eleven_v4",
        "language_code": "en",
        "diarize": "true",
        "file": ("a.wav", "audio/wav", AUDIO.content),
    }


async def test_voices_come_page_by_page_and_are_kept(eleven: Provider, provider: FakeProvider) -> None:
    assert eleven.tts is not None

    first = await eleven.tts.voices(call())
    again = await eleven.tts.voices(call())
    other = await eleven.tts.voices(call("sk_another_0123456789abcdef"))

    assert first == again == other
    assert first == [
        Voice(id="v1", name="Ann", languages=("en-GB", "fr", "en")),
        Voice(id="v2", name="Bo", languages=()),
    ]
    assert len(provider.requests) == 4


@pytest.mark.parametrize(
    ("scenario", "error"),
    [
        (refusal(401, "invalid_api_key", "Invalid API key"), UpstreamAuthentication),
        (refusal(401, "quota_exceeded", "This request exceeds your quota."), UpstreamQuotaExhausted),
        (refusal(401, "missing_permissions", "The API key is missing the permission."), UpstreamPermission),
        (refusal(404, "voice_not_found", "A voice with that id was not found."), UpstreamBadRequest),
        (refusal(400, "voice_not_found", "A voice with that id was not found."), UpstreamBadRequest),
        (refusal(404, "model_not_found", "There is no such model."), UpstreamModelNotFound),
        (refusal(400, "max_character_limit_exceeded", "Too long."), UpstreamBadRequest),
        (refusal(429, "too_many_concurrent_requests", "Too many concurrent requests."), UpstreamRateLimited),
        (refusal(429, "system_busy", "We are busy."), UpstreamOverloaded),
        (Scenario(status=422, body=b'{"detail": [{"loc": ["body"], "msg": "field required"}]}'), UpstreamBadRequest),
    ],
)
async def test_every_refusal_is_what_it_means(
    scenario: Scenario, error: type[ModelyardError], eleven: Provider, provider: FakeProvider
) -> None:
    provider.answers(scenario)

    with pytest.raises(ModelyardError) as raised:
        await speak(eleven)

    assert type(raised.value) is error
    if b"voice_not_found" in (scenario.body or b""):
        assert raised.value.path == ("voice",)
    if b"concurrent" in (scenario.body or b""):
        assert raised.value.retry_after == 1.0


async def test_a_key_is_tried_at_the_list_of_models(eleven: Provider, provider: FakeProvider) -> None:
    await eleven.validate(values(), None, None)

    assert [(request.method, request.path) for request in provider.requests] == [("GET", "/v1/models")]


async def test_an_answer_that_is_none_of_its_api_is_named(eleven: Provider, provider: FakeProvider) -> None:
    assert eleven.tts is not None
    provider.answers_at("/v1/models", Scenario(body=b'{"hello": "world"}'))
    provider.answers_at("/v2/voices", Scenario(body=b'{"voices": [{"id": 5}]}'))

    with pytest.raises(UpstreamProtocol):
        await eleven.validate(values(), None, None)
    with pytest.raises(UpstreamProtocol):
        await eleven.tts.voices(call())


async def test_models_that_speak_are_listed(eleven: Provider, provider: FakeProvider) -> None:
    assert eleven.listing is not None

    found = await eleven.listing.list_models(values())

    assert found == [RemoteModel(name="eleven_new", type=ModelType.TTS, label="Eleven New")]


async def test_a_scoped_key_passes_and_a_wrong_one_names_the_region(eleven: Provider, provider: FakeProvider) -> None:
    provider.answers(refusal(401, "missing_permissions", "The API key is missing the permission models_read."))
    await eleven.validate(values(), None, None)
    provider.answers(refusal(401, "invalid_api_key", "Invalid API key"))

    with pytest.raises(UpstreamAuthentication, match="region"):
        await eleven.validate(values(), None, None)


@pytest.mark.parametrize(("region", "host"), [("eu", "api.eu.residency.elevenlabs.io"), ("", "api.elevenlabs.io")])
async def test_a_key_goes_to_the_region_that_it_is_of(region: str, host: str) -> None:
    asked: list[str] = []

    class Listening:
        async def request(self, method: str, url: str, **more: Any) -> Any:
            asked.append(url)
            raise UpstreamOverloaded("heard")

    made = Manifest(name="p", label="", description="", model_types=(), methods=frozenset(), dialect="elevenlabs")
    listening: Any = Listening()

    with pytest.raises(UpstreamOverloaded):
        await elevenlabs.build(made, listening).validate({"api_key": Secret(KEY), "region": region}, None, None)

    assert asked == [f"https://{host}/v1/models"]

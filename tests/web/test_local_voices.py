"""The local server of voices: what it makes of recordings and forms, whether or not the voices are installed."""

import array
import io
import itertools
import math
import wave
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from core.wire.multipart import encode_form
from web import local_voices
from web.local_voices import RefusedError, application, file_of, heard_of, resampled, wav_head


class Voices:
    """Says each text as samples of its letters."""

    def has(self, voice: str) -> bool:
        return voice == "en-us"

    def speak(self, text: str, voice: str) -> Iterator[bytes]:
        yield wav_head(16_000)
        yield array.array("h", map(ord, text)).tobytes()


class Ears:
    """Hears letters in samples."""

    def hear(self, samples: bytes) -> str:
        return "".join(map(chr, array.array("h", samples)))


@pytest.fixture
async def client() -> Any:
    fakes: Any = (Voices(), Ears())
    transport = httpx.ASGITransport(app=application(*fakes))
    async with httpx.AsyncClient(transport=transport, base_url="http://voices") as client:
        yield client


async def test_what_is_spoken_is_heard(client: httpx.AsyncClient) -> None:
    spoken = await client.post("/v1/audio/speech", json={"input": "Hello.", "voice": "en-us"})
    heard = await client.post("/v1/audio/transcriptions", files={"file": ("a.wav", spoken.content)})

    assert spoken.headers["content-type"] == "audio/wav"
    assert heard.json() == {"text": "Hello.", "usage": {"type": "duration", "seconds": 0.0}}


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"input": "Hello.", "voice": "nobody"}, "no voice 'nobody'"),
        ({"input": " "}, "`input` is a text"),
        ({"input": "a" * 4097}, "`input` is a text"),
        ({"input": "Hello.", "response_format": "mp3"}, "`response_format` is wav"),
    ],
)
async def test_what_cannot_be_spoken_is_refused(asked: dict[str, str], problem: str, client: httpx.AsyncClient) -> None:
    refused = await client.post("/v1/audio/speech", json=asked)

    assert refused.status_code == 400
    assert problem in refused.json()["error"]["message"]


@pytest.mark.parametrize("content", [b"", b"no sound", b"RIFF", b"RIFF0000WAVE", wav_head(8000)[:30]])
async def test_what_cannot_be_heard_is_refused(content: bytes, client: httpx.AsyncClient) -> None:
    refused = await client.post("/v1/audio/transcriptions", files={"file": ("a.wav", content)})

    assert refused.status_code == 400
    assert refused.json()["error"]["type"] == "invalid_request_error"


def test_a_form_as_our_adapter_sends_it_has_its_file() -> None:
    content = bytes(range(256)) + b"\r\n--boundary\r\n"

    content_type, body = encode_form(
        {"model": "m"}, name="file", filename="a.wav", mime_type="audio/wav", content=content
    )

    assert file_of(content_type, body) == content


def test_a_form_without_a_file_is_refused() -> None:
    with pytest.raises(RefusedError):
        file_of("application/json", b"{}")


def test_two_channels_are_heard_as_one() -> None:
    made = io.BytesIO()
    with wave.open(made, "wb") as sound:
        sound.setnchannels(2)
        sound.setsampwidth(2)
        sound.setframerate(16_000)
        sound.writeframes(array.array("h", [1, -1, 2, -2, 3, -3]).tobytes())

    samples, seconds = heard_of(made.getvalue())

    assert array.array("h", samples).tolist() == [1, 2, 3]
    assert seconds == 0.0


def test_a_tone_keeps_its_pitch_at_another_rate() -> None:
    tone = array.array("h", (round(10_000 * math.sin(2 * math.pi * 400 * number / 22_050)) for number in range(22_050)))

    made = resampled(tone, 22_050, 16_000)

    assert len(made) == 16_000
    rises = sum(1 for one, two in itertools.pairwise(made) if one < 0 <= two)
    assert rises in {399, 400}


def test_the_server_says_what_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(local_voices, "_MODULES", ("espeakng_loader_that_nobody_has",))

    assert local_voices.main() == 1

    assert "Not installed: espeakng-loader and pocketsphinx." in capsys.readouterr().err

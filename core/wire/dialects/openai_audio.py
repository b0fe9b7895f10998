"""OpenAI's audio, as many other servers have it: POST /audio/transcriptions and POST /audio/speech."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any

import msgspec

from core.errors import InvalidInput, UpstreamProtocol
from core.model_types import Usage
from core.model_types.speech2text import Transcript, TranscriptionRequest
from core.model_types.tts import SpeechRequest, Voice
from core.provider import Call, Values
from core.wire.asking import ask, passed_on, read
from core.wire.dialects.openai_chat import Endpoint
from core.wire.http import Http, Reply
from core.wire.multipart import encode_form
from core.wire.sound import sound

EndpointOf = Callable[[Values], Awaitable[Endpoint]]


class _Usage(msgspec.Struct):
    seconds: float | None = None
    prompt_audio_seconds: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


class _Answer(msgspec.Struct):
    text: str
    usage: _Usage | None = None
    duration: float | None = None


class OpenAITranscriptions:
    """The transcription models of a provider that speaks this dialect."""

    def __init__(self, http: Http, endpoint_of: EndpointOf) -> None:
        self._http = http
        self._endpoint_of = endpoint_of

    async def transcribe(self, call: Call, request: TranscriptionRequest) -> Transcript:
        """Return the words. See `Transcribers`."""
        endpoint = await self._endpoint_of(call.values)
        fields: dict[str, Any] = {"model": endpoint.model or call.model, "response_format": "json"}
        if request.language is not None:
            fields["language"] = request.language
        fields |= passed_on(request.provider_options, "model", "file", "stream")
        audio = request.audio
        content_type, body = encode_form(
            fields, name="file", filename=audio.filename, mime_type=audio.mime_type, content=audio.content
        )
        reply = await ask(
            self._http,
            endpoint.url("audio/transcriptions"),
            headers={**endpoint.headers, "content-type": content_type},
            body=body,
            secrets=endpoint.secrets,
        )
        return _transcript(reply, endpoint.secrets)


class OpenAISpeech:
    """The speaking models of a provider that speaks this dialect."""

    def __init__(self, http: Http, endpoint_of: EndpointOf) -> None:
        self._http = http
        self._endpoint_of = endpoint_of

    async def speak(self, call: Call, request: SpeechRequest) -> AsyncGenerator[bytes, None]:
        """Yield the sound as it comes. See `Speakers`."""
        endpoint = await self._endpoint_of(call.values)
        if not request.voice:
            raise InvalidInput("This model needs a `voice`, by the name that its server gives it.", path=("voice",))
        body = {"model": endpoint.model or call.model, "input": request.text, "voice": request.voice}
        if request.format is not None:
            body["response_format"] = request.format
        body |= passed_on(request.provider_options, "model", "input", "stream_format")
        async for data in sound(
            self._http, endpoint.url("audio/speech"), headers=endpoint.headers, body=body, secrets=endpoint.secrets
        ):
            yield data

    async def voices(self, call: Call) -> Sequence[Voice] | None:
        """Return None: this API has no list of voices."""
        return None


def _transcript(reply: Reply, secrets: tuple[str, ...]) -> Transcript:
    """Return the words; whoever asked for plain text, SRT or VTT by provider options gets that as it is."""
    kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in {"text/plain", "text/vtt", "text/srt", "application/x-subrip"} and not reply.body.startswith(b"{"):
        try:
            return Transcript(text=reply.body.decode())
        except UnicodeDecodeError:
            raise UpstreamProtocol("The provider's answer is no text.") from None
    answer = read(reply, _Answer, secrets)
    return Transcript(text=answer.text, usage=_usage(answer))


def _usage(answer: _Answer) -> Usage | None:
    usage = answer.usage or _Usage()
    if usage.input_tokens is not None or usage.output_tokens is not None:
        return Usage(
            input_tokens=usage.input_tokens or 0, output_tokens=usage.output_tokens or 0, seconds=answer.duration or 0.0
        )
    told = (usage.seconds, usage.prompt_audio_seconds, answer.duration)
    return next((Usage(seconds=seconds) for seconds in told if seconds is not None), None)

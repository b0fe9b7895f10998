"""ElevenLabs: speech and transcription, in the region that a key is of."""

import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from core.errors import (
    InvalidInput,
    ModelyardError,
    UpstreamAuthentication,
    UpstreamBadRequest,
    UpstreamModelNotFound,
    UpstreamPermission,
    UpstreamRateLimited,
)
from core.model_types import ModelKey, ModelType, Usage
from core.model_types.speech2text import Transcript, TranscriptionRequest
from core.model_types.tts import SpeechRequest, Voice
from core.provider import Call, Manifest, ModelCard, Provider, RemoteModel, Values
from core.wire.asking import ask, passed_on, read
from core.wire.credential import base_url, required_key, text_of
from core.wire.failures import secrets_of
from core.wire.http import Http
from core.wire.multipart import encode_form
from core.wire.sound import sound

T = TypeVar("T")

_HOSTS: Mapping[str, str] = {
    "global": "https://api.elevenlabs.io",
    "us": "https://api.us.elevenlabs.io",
    "eu": "https://api.eu.residency.elevenlabs.io",
    "in": "https://api.in.residency.elevenlabs.io",
    "sg": "https://api.sg.residency.elevenlabs.io",
}
_PASTED = re.compile(r"/v1(?:/text-to-speech(?:/.*)?|/speech-to-text|/models)?$")
_IN_QUERY = ("enable_logging", "optimize_streaming_latency")
_VOICES_KEPT_S = 300.0
_ACCOUNTS_KEPT = 256
_VOICE_PAGES = 10


class _Word(msgspec.Struct):
    end: float | None = None


class _Transcription(msgspec.Struct):
    text: str
    audio_duration_secs: float | None = None
    words: list[_Word] = []


class _Model(msgspec.Struct):
    model_id: str
    name: str | None = None
    can_do_text_to_speech: bool | None = None


class _Language(msgspec.Struct):
    language: str | None = None
    locale: str | None = None


class _Voice(msgspec.Struct):
    voice_id: str
    name: str
    verified_languages: list[_Language] | None = None
    labels: dict[str, str] | None = None


class _Voices(msgspec.Struct):
    voices: list[_Voice]
    has_more: bool = False
    next_page_token: str | None = None


class ElevenLabs(Provider):
    """Both the provider and its models."""

    def __init__(self, manifest: Manifest, http: Http) -> None:
        self.manifest = manifest
        models = ElevenLabsModels(http, manifest.options.get("base_url"))
        self._models = models
        self.speech2text = models
        self.tts = models
        self.listing = models

    async def check(self, values: Values) -> None:
        """Refuse an address or a key that no request can carry."""
        self._models.check(values)

    async def validate(self, values: Values, model: ModelKey | None, card: ModelCard | None) -> None:
        """Ask for the list of models, which is free; a key that may not see it may still speak."""
        try:
            await self._models.get(values, "/v1/models", list[Any])
        except UpstreamPermission:
            return
        except UpstreamAuthentication as refusal:
            raise UpstreamAuthentication(
                f"{refusal.message} A key belongs to one region: choose the one that it was made in."
            ) from refusal


class ElevenLabsModels:
    """Its models that speak and that write down."""

    def __init__(self, http: Http, base_url: str | None) -> None:
        self._http = http
        self._base_url = base_url
        self._voices: OrderedDict[bytes, tuple[float, list[Voice]]] = OrderedDict()

    def check(self, values: Values) -> None:
        """Refuse an address or a key that no request can carry."""
        self._host(values)
        _headers(values)

    async def speak(self, call: Call, request: SpeechRequest) -> AsyncGenerator[bytes, None]:
        """Yield the sound as it comes. See `Speakers`."""
        if not request.voice:
            raise InvalidInput("This model needs a `voice`: an id of `Model.voices`.", path=("voice",))
        options = passed_on(request.provider_options, "text", "model_id")
        query = {"output_format": request.format or "mp3_44100_128"}
        query |= {name: msgspec.json.encode(options[name]).decode() for name in _IN_QUERY if name in options}
        body: dict[str, Any] = {"text": request.text, "model_id": call.model}
        body |= {name: value for name, value in options.items() if name not in _IN_QUERY}
        url = f"{self._host(call.values)}/v1/text-to-speech/{quote(request.voice, safe='')}/stream?{urlencode(query)}"
        try:
            async for data in sound(
                self._http, url, headers=_headers(call.values), body=body, secrets=secrets_of(call.values)
            ):
                yield data
        except ModelyardError as refusal:
            raise _meant(refusal) from refusal

    async def transcribe(self, call: Call, request: TranscriptionRequest) -> Transcript:
        """Return the words. See `Transcribers`."""
        fields: dict[str, Any] = {"model_id": call.model}
        if request.language is not None:
            fields["language_code"] = request.language
        fields |= passed_on(request.provider_options, "model_id", "file", "cloud_storage_url", "webhook")
        audio = request.audio
        content_type, body = encode_form(
            fields, name="file", filename=audio.filename, mime_type=audio.mime_type, content=audio.content
        )
        try:
            reply = await ask(
                self._http,
                f"{self._host(call.values)}/v1/speech-to-text",
                headers={**_headers(call.values), "content-type": content_type},
                body=body,
                secrets=secrets_of(call.values),
            )
        except ModelyardError as refusal:
            raise _meant(refusal) from refusal
        found = read(reply, _Transcription, secrets_of(call.values))
        heard = [word.end for word in found.words if word.end is not None]
        seconds = found.audio_duration_secs if found.audio_duration_secs is not None else max(heard, default=None)
        return Transcript(text=found.text, usage=Usage(seconds=seconds) if seconds is not None else None)

    async def voices(self, call: Call) -> Sequence[Voice] | None:
        """Return the account's voices, asked for at most every five minutes."""
        account = hashlib.sha256(f"{self._host(call.values)}\0{text_of(call.values, 'api_key')}".encode()).digest()
        kept = self._voices.get(account)
        if kept is None or kept[0] < time.monotonic():
            kept = (time.monotonic() + _VOICES_KEPT_S, await self._ask_voices(call.values))
            self._voices[account] = kept
            while len(self._voices) > _ACCOUNTS_KEPT:
                self._voices.popitem(last=False)
        return kept[1]

    async def list_models(self, values: Values) -> Sequence[RemoteModel]:
        """Return those that speak; what writes down is in no list. See `ModelLists`."""
        found = await self.get(values, "/v1/models", list[_Model])
        return [
            RemoteModel(name=model.model_id, type=ModelType.TTS, label=model.name)
            for model in found
            if model.can_do_text_to_speech
        ]

    async def get(self, values: Values, path: str, kind: type[T]) -> T:
        """Return what a GET answers, as a type."""
        try:
            reply = await ask(
                self._http,
                f"{self._host(values)}{path}",
                headers=_headers(values),
                secrets=secrets_of(values),
                method="GET",
            )
        except ModelyardError as refusal:
            raise _meant(refusal) from refusal
        return read(reply, kind, secrets_of(values))

    async def _ask_voices(self, values: Values) -> list[Voice]:
        found: list[_Voice] = []
        query = {"page_size": "100"}
        for _ in range(_VOICE_PAGES):
            page = await self.get(values, f"/v2/voices?{urlencode(query)}", _Voices)
            found += page.voices
            if not page.has_more or not page.next_page_token:
                break
            query["next_page_token"] = page.next_page_token
        return [Voice(id=one.voice_id, name=one.name, languages=_languages(one)) for one in found]

    def _host(self, values: Values) -> str:
        default = self._base_url or _HOSTS.get(text_of(values, "region"), _HOSTS["global"])
        return base_url(values, default, _PASTED)


def _headers(values: Values) -> dict[str, str]:
    return {"xi-api-key": required_key(values)}


def _languages(voice: _Voice) -> tuple[str, ...]:
    verified = [one.locale or one.language for one in voice.verified_languages or ()]
    labelled = [(voice.labels or {}).get("language")]
    return tuple(dict.fromkeys(one for one in (*verified, *labelled) if one))


def _meant(refusal: ModelyardError) -> ModelyardError:
    """Return what a refusal means here: a voice that is not there, or too many calls at once, which end soon."""
    if isinstance(refusal, UpstreamRateLimited) and "concurrent" in refusal.message.lower():
        return UpstreamRateLimited(refusal.message, retry_after=refusal.retry_after or 1.0)
    if isinstance(refusal, UpstreamBadRequest | UpstreamModelNotFound) and "voice" in refusal.message.lower():
        return UpstreamBadRequest(refusal.message, path=("voice",))
    return refusal


def build(manifest: Manifest, http: Http) -> Provider:
    """Return the provider that `manifest` describes."""
    return ElevenLabs(manifest, http)

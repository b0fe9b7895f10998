"""Gemini's embeddings and speech: batchEmbedContents, and generateContent that answers with sound."""

import base64
import binascii
import re
import struct
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

import msgspec

from core.errors import ContentFiltered, InvalidInput, UpstreamProtocol
from core.model_types import Usage
from core.model_types.text_embedding import EmbeddingPurpose, EmbeddingRequest, Embeddings
from core.model_types.tts import SpeechRequest, Voice
from core.provider import Call, Values
from core.wire.asking import ask, passed_on, read
from core.wire.conversing import Server
from core.wire.failures import failure, failure_in_stream
from core.wire.http import ANSWER_LIMIT, Answer, Http
from core.wire.sse import EventDecoder
from core.wire.vectors import vectors_of

ServerOf = Callable[[Values], Server]

_TASKS = {EmbeddingPurpose.DOCUMENT: "RETRIEVAL_DOCUMENT", EmbeddingPurpose.QUERY: "RETRIEVAL_QUERY"}
_FILTERED = frozenset({"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"})
_RATE = re.compile(r"rate=(\d{4,6})")
_USUAL_RATE = 24_000
_ENDLESS = 0xFFFF_FFFF


class _Values(msgspec.Struct):
    values: list[float]


class _Counted(msgspec.Struct, rename="camel"):
    prompt_token_count: int | None = None
    candidates_token_count: int | None = None


class _Embedded(msgspec.Struct, rename="camel"):
    embeddings: list[_Values]
    usage_metadata: _Counted | None = None


class _Inline(msgspec.Struct, rename="camel"):
    data: str
    mime_type: str = ""


class _Part(msgspec.Struct, rename="camel"):
    inline_data: _Inline | None = None


class _Content(msgspec.Struct):
    parts: list[_Part] = []


class _Candidate(msgspec.Struct, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None


class _Feedback(msgspec.Struct, rename="camel"):
    block_reason: str | None = None


class _Chunk(msgspec.Struct, rename="camel"):
    candidates: list[_Candidate] = []
    prompt_feedback: _Feedback | None = None
    usage_metadata: _Counted | None = None
    error: Any = None


class GeminiEmbeddings:
    """Its embedding models."""

    max_texts = 100

    def __init__(self, http: Http, server_of: ServerOf) -> None:
        self._http = http
        self._server_of = server_of

    async def embed(self, call: Call, request: EmbeddingRequest) -> Embeddings:
        """Return a vector for each text. See `EmbeddingModels`."""
        server, name = self._server_of(call.values), f"models/{_plain(call.model)}"
        more: dict[str, Any] = {}
        if request.purpose is not None:
            more["taskType"] = _TASKS[request.purpose]
        if request.dimensions is not None:
            more["outputDimensionality"] = request.dimensions
        more |= passed_on(request.provider_options, "model", "content")
        asked = [{"model": name, "content": {"parts": [{"text": text}]}, **more} for text in request.texts]
        reply = await ask(
            self._http,
            f"{server.base_url}/{name}:batchEmbedContents",
            headers=server.headers,
            body={"requests": asked},
            secrets=server.secrets,
        )
        found = read(reply, _Embedded, server.secrets)
        tokens = found.usage_metadata.prompt_token_count if found.usage_metadata is not None else None
        return Embeddings(
            vectors=vectors_of([one.values for one in found.embeddings], request),
            usage=Usage(input_tokens=tokens) if tokens is not None else None,
        )


class GeminiSpeech:
    """Its speaking models: what they send is plain PCM, to which a head can be given."""

    def __init__(self, http: Http, server_of: ServerOf) -> None:
        self._http = http
        self._server_of = server_of

    async def speak(self, call: Call, request: SpeechRequest) -> AsyncGenerator[bytes | Usage, None]:
        """Yield the sound as it comes, then what it used. See `Speakers`."""
        if not request.voice:
            raise InvalidInput("This model needs a `voice`, such as Kore.", path=("voice",))
        server = self._server_of(call.values)
        url = f"{server.base_url}/models/{_plain(call.model)}:streamGenerateContent?alt=sse"
        headers = {"content-type": "application/json", **server.headers}
        async with self._http.stream("POST", url, headers=headers, body=_body(request)) as answer:
            if not 200 <= answer.status < 300:
                raise failure(answer.status, answer.headers, await answer.read_error(), secrets=server.secrets)
            async for piece in _heard(answer, server.secrets, with_head=request.format == "wav"):
                yield piece

    async def voices(self, call: Call) -> Sequence[Voice] | None:
        """Return None: the manifest lists them."""
        return None


def _body(request: SpeechRequest) -> bytes:
    voice = {"prebuiltVoiceConfig": {"voiceName": request.voice}}
    config = {"responseModalities": ["AUDIO"], "speechConfig": {"voiceConfig": voice}}
    body = {"contents": [{"role": "user", "parts": [{"text": request.text}]}], "generationConfig": config}
    return msgspec.json.encode(body | passed_on(request.provider_options, "contents", "generationConfig"))


async def _heard(answer: Answer, secrets: tuple[str, ...], *, with_head: bool) -> AsyncGenerator[bytes | Usage, None]:
    """Yield the sound of a stream of events, which is whole once a candidate has finished."""
    decoder = EventDecoder(limit=ANSWER_LIMIT)  # some models send all of the sound in one event
    counted, reason, is_begun = None, None, False
    while reason is None:
        data = await answer.read()
        for event in decoder.feed(data) if data else decoder.end():
            chunk = _chunk(event, secrets)
            counted = chunk.usage_metadata or counted
            for candidate in chunk.candidates:
                reason = reason or candidate.finish_reason
                for part in candidate.content.parts if candidate.content is not None else ():
                    if part.inline_data is not None:
                        if with_head and not is_begun:
                            yield _wav_head(part.inline_data.mime_type)
                        is_begun = True
                        yield _sound(part.inline_data.data)
        if not data:
            break
    if reason in _FILTERED and not is_begun:
        raise ContentFiltered(f"The provider's content filter refused the text ({reason}).")
    if reason is None or not is_begun:
        raise UpstreamProtocol("The provider's answer ended before its sound was whole.")
    if counted is not None and counted.prompt_token_count is not None:
        yield Usage(input_tokens=counted.prompt_token_count, output_tokens=counted.candidates_token_count or 0)


def _chunk(event: bytes, secrets: tuple[str, ...]) -> _Chunk:
    try:
        chunk = msgspec.json.decode(event, type=_Chunk)
    except (msgspec.MsgspecError, RecursionError):
        raise UpstreamProtocol("The provider's stream holds what is no JSON of its API.") from None
    if chunk.error:
        raise failure_in_stream({"error": chunk.error}, secrets=secrets)
    if chunk.prompt_feedback is not None and chunk.prompt_feedback.block_reason is not None:
        raise ContentFiltered(f"The provider's content filter refused the text ({chunk.prompt_feedback.block_reason}).")
    return chunk


def _sound(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise UpstreamProtocol("The provider's sound is no base64.") from None


def _wav_head(mime_type: str) -> bytes:
    """Return the head of a WAV whose length is not known yet."""
    found = _RATE.search(mime_type)
    rate = int(found[1]) if found is not None else _USUAL_RATE
    about = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, rate * 2, 2, 16)
    return b"RIFF" + struct.pack("<I", _ENDLESS) + b"WAVE" + about + b"data" + struct.pack("<I", _ENDLESS)


def _plain(model: str) -> str:
    return model.removeprefix("models/")

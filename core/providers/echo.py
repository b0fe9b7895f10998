"""The provider `echo`: built in, deterministic, free. It says back the last thing that a person said."""

import asyncio
import hashlib
import math
import re
import struct
from collections.abc import AsyncGenerator, Sequence

from core.model_types import ModelFeature, ModelKey, Usage
from core.model_types.llm import (
    ChatRequest,
    FinishPiece,
    FinishReason,
    Piece,
    ReasoningPiece,
    Role,
    Text,
    TextPiece,
    ToolCallPiece,
    ToolChoiceMode,
    UsagePiece,
)
from core.model_types.moderation import Category, ModerationRequest, Verdict
from core.model_types.rerank import Hit, Ranking, RerankRequest
from core.model_types.speech2text import Transcript, TranscriptionRequest, seconds_of
from core.model_types.text_embedding import EmbeddingRequest, Embeddings
from core.model_types.tts import SpeechRequest, Voice
from core.provider import Call, Manifest, ModelCard, Provider, Values
from core.wire.http import Http

_RATE = 8000
_TONE_FRAMES = _RATE // 10
_WORD = re.compile(r"\s*\S+\s*$|\s*\S+")


class Echo(Provider):
    """The provider; all its models are `EchoModels`."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        models = EchoModels()
        self.llm = models
        self.text_embedding = models
        self.rerank = models
        self.speech2text = models
        self.tts = models
        self.moderation = models

    async def validate(self, values: Values, model: ModelKey | None, card: ModelCard | None) -> None:
        """Accept everything."""


class EchoModels:
    """Models of every type; they ask nobody."""

    max_texts = 64

    async def stream(self, call: Call, request: ChatRequest) -> AsyncGenerator[Sequence[Piece], None]:
        """Yield a word at a time, `delay_ms` apart."""
        delay = request.parameters.get("delay_ms", 0) / 1000
        before: Piece | None = None
        for piece in _answer(call, request):
            await asyncio.sleep(delay if isinstance(before, TextPiece) and isinstance(piece, TextPiece) else 0)
            yield (piece,)
            before = piece

    async def complete(self, call: Call, request: ChatRequest) -> Sequence[Piece]:
        """Return the whole echo."""
        return _answer(call, request)

    async def embed(self, call: Call, request: EmbeddingRequest) -> Embeddings:
        """Return vectors of length 1 in which each word has its place: texts that share words are near each other."""
        size = request.dimensions or call.card.properties.get("dimensions", 64)
        vectors = tuple(_vector(text, size) for text in request.texts)
        return Embeddings(vectors=vectors, usage=Usage(input_tokens=sum(len(text.split()) for text in request.texts)))

    async def rerank(self, call: Call, request: RerankRequest) -> Ranking:
        """Score each document by the part of the query's words that it has."""
        wanted = set(request.query.lower().split())
        hits = tuple(
            Hit(number, len(wanted & set(document.lower().split())) / len(wanted))
            for number, document in enumerate(request.documents)
        )
        return Ranking(hits=hits, usage=Usage(input_tokens=len(request.query.split())))

    async def transcribe(self, call: Call, request: TranscriptionRequest) -> Transcript:
        """Say how much was heard; a word of `echo-speech` is a tenth of a second."""
        seconds = seconds_of(request.audio)
        return Transcript(
            text=f"I heard {seconds:g} seconds of {request.audio.mime_type}.", usage=Usage(seconds=seconds)
        )

    async def speak(self, call: Call, request: SpeechRequest) -> AsyncGenerator[bytes, None]:
        """Yield a WAV with a tone of a tenth of a second for each word, higher for longer words."""
        words = request.text.split()
        yield _wav_head(len(words) * _TONE_FRAMES)
        for word in words:
            await asyncio.sleep(0)
            yield _tone(200 + 40 * min(len(word), 20))

    async def voices(self, call: Call) -> Sequence[Voice] | None:
        """Return None: the manifest lists them."""
        return None

    async def moderate(self, call: Call, request: ModerationRequest) -> Verdict:
        """Flag what says so itself: a text with the word `harmful`."""
        flagged = "harmful" in request.text.lower()
        return Verdict(
            flagged=flagged,
            categories={"said_so": Category(flagged=flagged, score=float(flagged))},
            usage=Usage(input_tokens=len(request.text.split())),
        )


def build(manifest: Manifest, http: Http) -> Provider:
    """Return the provider; it needs no connection."""
    return Echo(manifest)


def _vector(text: str, size: int) -> list[float]:
    vector = [0.0] * size
    for word in text.lower().split():
        digest = hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()
        vector[int.from_bytes(digest[:4], "little") % size] += 1.0
    length = math.sqrt(sum(value * value for value in vector))
    return [value / length for value in vector] if length else [1.0] + [0.0] * (size - 1)


def _wav_head(frames: int) -> bytes:
    length = frames * 2
    about = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, _RATE, _RATE * 2, 2, 16)
    return b"RIFF" + struct.pack("<I", 36 + length) + b"WAVE" + about + b"data" + struct.pack("<I", length)


def _tone(hertz: int) -> bytes:
    frames = (int(8000 * math.sin(2 * math.pi * hertz * frame / _RATE)) for frame in range(_TONE_FRAMES))
    return struct.pack(f"<{_TONE_FRAMES}h", *frames)


def _answer(call: Call, request: ChatRequest) -> list[Piece]:
    said = _last_words(request)
    if request.tools and _wants_tool(request):
        name = request.tool_choice.tool if request.tool_choice and request.tool_choice.tool else request.tools[0].name
        pieces: list[Piece] = [ToolCallPiece(0, "call_echo_0", name, ""), ToolCallPiece(0, None, None, "{}")]
        return [*pieces, FinishPiece(FinishReason.TOOL_CALLS), _usage(request, 1)]
    words: Sequence[str] = _WORD.findall(f"{call.values.get('prefix', '')} {said}".strip())
    if request.response_format is not None:
        words = ["{", "}"] if request.response_format.json_schema else ['{"echo":', "true}"]
    limit = request.parameters.get("max_tokens") or len(words)
    finish = FinishReason.LENGTH if limit < len(words) else FinishReason.STOP
    spoken: list[Piece] = [TextPiece(word) for word in words[:limit]]
    if ModelFeature.REASONING in call.card.features:
        spoken.insert(0, ReasoningPiece(f"I was told {len(words)} words and will say them back."))
    return [*spoken, FinishPiece(finish), _usage(request, len(words[:limit]))]


def _wants_tool(request: ChatRequest) -> bool:
    choice = request.tool_choice
    return choice is not None and (choice.mode is ToolChoiceMode.REQUIRED or choice.tool is not None)


def _last_words(request: ChatRequest) -> str:
    spoken = [message for message in request.messages if message.role in {Role.USER, Role.TOOL}]
    last = (spoken or list(request.messages))[-1]
    return " ".join(part.text for part in last.content if isinstance(part, Text))


def _usage(request: ChatRequest, written: int) -> UsagePiece:
    read = sum(
        len(part.text.split()) for message in request.messages for part in message.content if isinstance(part, Text)
    )
    return UsagePiece(Usage(input_tokens=read, output_tokens=written))

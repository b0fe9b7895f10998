"""What the fake provider answers besides completions: vectors, rankings, words, sound and verdicts, in each dialect.

All answers follow from the request, so that a test knows them: a text's vector is its length and its first letters, a
document's score is 1 / (1 + the difference of its length to the query's), sound is the text's own bytes.
"""

import base64
import json
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol


class Asked(Protocol):
    """What is looked at of a request."""

    @property
    def path(self) -> str: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def body(self) -> bytes: ...
    @property
    def json(self) -> Any: ...


SIZE = 4


def vector(text: str, size: int = SIZE) -> list[float]:
    """Return the vector of a text, of numbers that 32 bits hold exactly."""
    numbers = [float(len(text)), *(ord(letter) / 8 for letter in text)]
    return (numbers + [0.0] * size)[:size]


def score(query: str, document: str) -> float:
    """Return how well a document answers."""
    return 1 / (1 + abs(len(query) - len(document)))


def answer(request: Asked, *, usage: bool) -> tuple[bytes, str] | None:
    """Return body and content type for a path that is no completion and no list; None for others."""
    path = request.path.partition("?")[0]
    if path == "/v1/models" and "xi-api-key" in request.headers:
        return json.dumps(_ELEVEN_MODELS).encode(), "application/json"
    for ending, answering in _ANSWERS.items():
        if path.endswith(ending):
            return json.dumps(answering(request, usage)).encode(), "application/json"
    return None


def sound(request: Asked) -> tuple[bytes, str] | None:
    """Return the sound for a path that streams it, and its type; None for others."""
    path = request.path.partition("?")[0]
    if path.endswith("/audio/speech"):
        return f"<{request.json['voice']}>{request.json['input']}".encode(), "audio/mpeg"
    if path.endswith(":streamGenerateContent") and "speechConfig" in request.json.get("generationConfig", {}):
        return _gemini_speech(request.json), "text/event-stream"
    if path.startswith("/v1/text-to-speech/"):
        return f"<{path.split('/')[3]}>{request.json['text']}".encode(), "audio/mpeg"
    return None


def form(request: Asked) -> dict[str, Any]:
    """Return the fields of a multipart body; a file is (filename, content type, content)."""
    _, _, boundary = request.headers["content-type"].partition("boundary=")
    fields: dict[str, Any] = {}
    for part in request.body.split(f"--{boundary}".encode())[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").removesuffix(b"\r\n").partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        said = dict(piece.strip().split("=", 1) for piece in lines[0].split(";")[1:])
        name = said["name"].strip('"')
        if "filename" in said:
            fields[name] = (said["filename"].strip('"'), lines[1].partition(": ")[2], content)
        else:
            fields[name] = content.decode()
    return fields


def _embeddings(request: Asked, usage: bool) -> dict[str, Any]:
    asked = request.json
    size = asked.get("dimensions") or asked.get("output_dimension") or SIZE
    vectors: Sequence[Any] = [vector(text, size) for text in asked["input"]]
    if asked.get("encoding_format") == "base64":
        vectors = [base64.b64encode(array("f", one).tobytes()).decode() for one in vectors]
    data = [{"object": "embedding", "index": number, "embedding": one} for number, one in enumerate(vectors)]
    found: dict[str, Any] = {"object": "list", "model": asked["model"], "data": data[::-1]}
    if usage:
        tokens = sum(len(text) for text in asked["input"])
        found["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
    return found


def _rerank(request: Asked, usage: bool) -> Any:
    asked = request.json
    if "texts" in asked:
        return [{"index": number, "score": score(asked["query"], text)} for number, text in enumerate(asked["texts"])]
    scores = [score(asked["query"], text) for text in asked["documents"]]
    ranked = sorted(range(len(scores)), key=lambda number: -scores[number])[: asked.get("top_n")]
    found: dict[str, Any] = {"results": [{"index": one, "relevance_score": scores[one]} for one in ranked]}
    if usage:
        found["usage"] = {"total_tokens": 21}
    return found


def _transcription(request: Asked, usage: bool) -> dict[str, Any]:
    fields = form(request)
    filename, _, content = fields["file"]
    found: dict[str, Any] = {"text": f"{filename}: {len(content)} bytes"}
    if usage:
        found["usage"] = {"type": "duration", "seconds": 3}
    return found


def _cohere_rerank(request: Asked, usage: bool) -> dict[str, Any]:
    """Charge one search for each hundred documents, as Cohere does, and count no tokens."""
    searches = {"search_units": -(-len(request.json["documents"]) // 100)}
    meta = {"api_version": {"version": "2"}} | ({"billed_units": searches} if usage else {})
    return {"id": "fake", "results": _rerank(request, usage=False)["results"], "meta": meta}


def _cohere_embed(request: Asked, usage: bool) -> dict[str, Any]:
    asked = request.json
    vectors = [vector(text, asked.get("output_dimension") or SIZE) for text in asked["texts"]]
    meta = {"billed_units": {"input_tokens": sum(map(len, asked["texts"]))}} if usage else {}
    return {"id": "fake", "embeddings": {"float": vectors}, "meta": meta}


def _ollama_embed(request: Asked, usage: bool) -> dict[str, Any]:
    asked = request.json
    found: dict[str, Any] = {"model": asked["model"]}
    found["embeddings"] = [vector(text, asked.get("dimensions") or SIZE) for text in asked["input"]]
    return found | ({"prompt_eval_count": sum(map(len, asked["input"]))} if usage else {})


def _gemini_embed(request: Asked, usage: bool) -> dict[str, Any]:
    asked = request.json["requests"]
    texts = [one["content"]["parts"][0]["text"] for one in asked]
    size = asked[0].get("outputDimensionality") or SIZE
    return {"embeddings": [{"values": vector(text, size)} for text in texts]}


_VOICE = (
    ("voiceConfig", "voice_config"),
    ("prebuiltVoiceConfig", "prebuilt_voice_config"),
    ("voiceName", "voice_name"),
)


def _gemini_speech(asked: Any) -> bytes:
    """Return events of which each has a word of the text as its sound, the last one with the finish.

    Names may have either of the two forms that the JSON of protocol buffers takes; Google's client mixes them.
    """
    voice = asked["generationConfig"]["speechConfig"]
    for camel, snake in _VOICE:
        voice = voice.get(camel) or voice[snake]
    words = [f"<{voice}>", *asked["contents"][0]["parts"][0]["text"].split()]
    events = []
    for number, word in enumerate(words):
        data = {"mimeType": "audio/L16;codec=pcm;rate=16000", "data": base64.b64encode(word.encode()).decode()}
        candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"inlineData": data}]}}
        event: dict[str, Any] = {"candidates": [candidate]}
        if number == len(words) - 1:
            candidate["finishReason"] = "STOP"
            event["usageMetadata"] = {"promptTokenCount": 5, "candidatesTokenCount": 40}
        events.append(f"data: {json.dumps(event)}\r\n\r\n")
    return "".join(events).encode()


def _scribe(request: Asked, usage: bool) -> dict[str, Any]:
    filename, _, content = form(request)["file"]
    words = [{"text": "word", "end": 1.5}, {"text": " "}, {"text": "word", "end": 2.5}]
    return {"text": f"{filename}: {len(content)} bytes", "words": words if usage else []}


def _voices(request: Asked, usage: bool) -> dict[str, Any]:
    if "next_page_token=two" in request.path:
        return {"voices": [{"voice_id": "v2", "name": "Bo"}], "has_more": False}
    spoken = [{"language": "en", "locale": "en-GB"}, {"language": "fr", "locale": None}]
    ann = {"voice_id": "v1", "name": "Ann", "labels": {"language": "en"}, "verified_languages": spoken}
    return {"voices": [ann], "has_more": True, "next_page_token": "two"}


_HARMS = (
    *("harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent"),
    *("self-harm", "self-harm/intent", "self-harm/instructions", "sexual", "sexual/minors"),
    *("violence", "violence/graphic"),
)


def _moderation(request: Asked, usage: bool) -> dict[str, Any]:
    flagged = "hate" in request.json["input"]
    result = {
        "flagged": flagged,
        "categories": dict.fromkeys(_HARMS, False) | {"hate": flagged},
        "category_scores": dict.fromkeys(_HARMS, 0.001) | {"hate": 0.9 if flagged else 0.01},
        "category_applied_input_types": {name: ["text"] for name in _HARMS},
    }
    return {"id": "modr-fake", "model": request.json["model"], "results": [result]}


_ELEVEN_MODELS = [
    {"model_id": "eleven_new", "name": "Eleven New", "can_do_text_to_speech": True},
    {"model_id": "eleven_changer", "name": "Changer", "can_do_text_to_speech": False},
]

_ANSWERS: Mapping[str, Callable[[Asked, bool], Any]] = {
    "/embeddings": _embeddings,
    "/v2/rerank": _cohere_rerank,
    "/rerank": _rerank,
    "/audio/transcriptions": _transcription,
    "/moderations": _moderation,
    "/v1/speech-to-text": _scribe,
    "/v2/embed": _cohere_embed,
    "/api/embed": _ollama_embed,
    ":batchEmbedContents": _gemini_embed,
    "/v2/voices": _voices,
}

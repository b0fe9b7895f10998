"""The list of models of servers that speak as OpenAI does: GET /models, with what each server tells beyond a name."""

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from core.model_types import ModelFeature, ModelType
from core.provider import RemoteModel, Values
from core.wire.asking import ask, read
from core.wire.dialects.openai_chat import Endpoint
from core.wire.http import Http

_TOOLS = frozenset({ModelFeature.TOOL_CALL, ModelFeature.MULTI_TOOL_CALL, ModelFeature.STREAM_TOOL_CALL})

# Together tells the type by a word.
_TYPES: Mapping[str, ModelType | None] = {
    "chat": ModelType.LLM,
    "language": ModelType.LLM,
    "code": ModelType.LLM,
    "embedding": ModelType.TEXT_EMBEDDING,
    "rerank": ModelType.RERANK,
    "transcribe": ModelType.SPEECH2TEXT,
    "audio": ModelType.TTS,
    "moderation": ModelType.MODERATION,
    "image": None,
    "video": None,
}

# Most servers tell nothing but a name; the first that fits. None: of a type that there is not, or not by this API.
_NAMES: Sequence[tuple[re.Pattern[str], ModelType | None]] = (
    (re.compile(r"embed"), ModelType.TEXT_EMBEDDING),
    (re.compile(r"rerank"), ModelType.RERANK),
    (re.compile(r"whisper|transcri"), ModelType.SPEECH2TEXT),
    (re.compile(r"(?:^|[-/_])tts(?:$|[-/_])|orpheus|kokoro"), ModelType.TTS),
    (re.compile(r"moderation"), ModelType.MODERATION),
    (re.compile(r"dall-e|image|imagine|sora|video|veo|flux|diffusion|realtime|audio|live|ocr|-translate"), None),
    (re.compile(r"^(?:davinci|babbage|curie|ada)-|^gpt-3\.5-turbo-instruct"), None),
)

# What a model of OpenRouter takes beside text, and which parameters say what it can do.
_INPUTS = {
    "image": ModelFeature.VISION,
    "file": ModelFeature.DOCUMENT,
    "audio": ModelFeature.AUDIO,
    "video": ModelFeature.VIDEO,
}
_PARAMETERS = {
    "tools": _TOOLS,
    "structured_outputs": frozenset({ModelFeature.STRUCTURED_OUTPUT}),
    "reasoning": frozenset({ModelFeature.REASONING}),
}

# What Mistral (in `capabilities`) and Fireworks tell of a model that chats; both give all of those JSON of a schema.
_SWITCHES = {
    "function_calling": _TOOLS,
    "supports_tools": _TOOLS,
    "vision": frozenset({ModelFeature.VISION}),
    "supports_image_input": frozenset({ModelFeature.VISION}),
    "reasoning": frozenset({ModelFeature.REASONING}),
}
_CHATS = ("completion_chat", "supports_chat")

_CONTEXTS = ("context_length", "context_window", "max_context_length", "max_model_len")
_OUTPUTS = ("max_completion_tokens", "max_output_tokens")


class _Page(msgspec.Struct):
    data: list[dict[str, Any]]


class OpenAIModelList:
    """The models that a credential may call at a server that speaks this dialect."""

    def __init__(self, http: Http, endpoint_of: Callable[[Values], Awaitable[Endpoint]]) -> None:
        self._http = http
        self._endpoint_of = endpoint_of

    async def list_models(self, values: Values) -> Sequence[RemoteModel]:
        """Return them. See `ModelLists`."""
        where = await self._endpoint_of(values)
        reply = await ask(self._http, where.url("models"), headers=where.headers, secrets=where.secrets, method="GET")
        page = read(reply, _Page | list[dict[str, Any]], where.secrets)  # type: ignore[arg-type]
        listed = page.data if isinstance(page, _Page) else page
        return [model for told in listed if (model := _remote(told)) is not None]


def _remote(told: Mapping[str, Any]) -> RemoteModel | None:
    """Return what is told of a model; None where it cannot be called, or by none of our types."""
    name = told.get("id")
    if not isinstance(name, str) or not name or told.get("active") is False or told.get("archived") is True:
        return None
    can = {**told, **_object(told, "capabilities")}
    kind = _kind(name, told, can)
    if kind is None:
        return None
    provider = _object(told, "top_provider")
    return RemoteModel(
        name=name,
        type=kind,
        label=next((text for text in (told.get("display_name"), told.get("name")) if _is_label(text)), None),
        features=_features(told, can) if kind is ModelType.LLM else None,
        context_window=_count(told, _CONTEXTS),
        max_output_tokens=_count(provider, _OUTPUTS) or _count(told, _OUTPUTS),
    )


def _kind(name: str, told: Mapping[str, Any], can: Mapping[str, Any]) -> ModelType | None:
    """Return a model's type: as it is told, else as its name says; what else there is writes."""
    word = told.get("type")
    if isinstance(word, str) and word in _TYPES:
        return _TYPES[word]
    if any(can.get(one) is True for one in _CHATS):
        return ModelType.LLM
    makes = _object(told, "architecture").get("output_modalities")
    if isinstance(makes, list) and makes:
        return ModelType.LLM if "text" in makes else ModelType.TEXT_EMBEDDING if "embeddings" in makes else None
    plain = name.rpartition("/")[2].lower()
    named = next((kind for words, kind in _NAMES if words.search(plain)), ModelType.LLM)
    is_no_chat = any(can.get(one) is False for one in _CHATS)
    return None if named is ModelType.LLM and is_no_chat else named


def _features(told: Mapping[str, Any], can: Mapping[str, Any]) -> frozenset[ModelFeature] | None:
    """Return what a model can do; None where nothing is told of that."""
    takes, parameters = _object(told, "architecture").get("input_modalities"), told.get("supported_parameters")
    if isinstance(takes, list) and isinstance(parameters, list):
        return frozenset(_of_router(takes, parameters))
    if any(can.get(one) is True for one in _CHATS):
        known = (features for name, features in _SWITCHES.items() if can.get(name) is True)
        return frozenset({ModelFeature.STRUCTURED_OUTPUT}).union(*known)
    return None


def _of_router(takes: list[Any], parameters: list[Any]) -> Iterator[ModelFeature]:
    yield from (feature for name, feature in _INPUTS.items() if name in takes)
    for name, features in _PARAMETERS.items():
        if name in parameters:
            yield from features


def _object(told: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = told.get(name)
    return value if isinstance(value, dict) else {}


def _count(told: Mapping[str, Any], names: Sequence[str]) -> int | None:
    found = (told.get(name) for name in names)
    return next((one for one in found if isinstance(one, int) and not isinstance(one, bool) and one > 0), None)


def _is_label(text: object) -> bool:
    return isinstance(text, str) and 0 < len(text.strip()) <= 200

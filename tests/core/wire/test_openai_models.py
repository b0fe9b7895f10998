"""Lists of models in the forms of those who speak as OpenAI does: what each tells of a model, and what is left out."""

import json
from typing import Any

import pytest

from core.errors import UpstreamError
from core.model_types import ModelFeature, ModelType
from core.provider import RemoteModel
from core.secret import Secret
from core.wire.dialects.openai_chat import Endpoint
from core.wire.dialects.openai_models import OpenAIModelList
from core.wire.http import Http
from tests.fake_provider import FakeProvider, Scenario

TOOLS = {ModelFeature.TOOL_CALL, ModelFeature.MULTI_TOOL_CALL, ModelFeature.STREAM_TOOL_CALL}
STRUCTURED, VISION = ModelFeature.STRUCTURED_OUTPUT, ModelFeature.VISION
KEY = "sk-0123456789abcdef"


async def listed(provider: FakeProvider, http: Http, body: Any) -> list[RemoteModel]:
    async def endpoint(values: Any) -> Endpoint:
        return Endpoint(base_url=provider.url, headers={"authorization": f"Bearer {KEY}"}, secrets=(KEY,))

    provider.answers_at("/v1/models", Scenario(body=json.dumps(body).encode()))
    return list(await OpenAIModelList(http, endpoint).list_models({"api_key": Secret(KEY)}))


def model(name: str, kind: ModelType = ModelType.LLM, features: Any = None, **more: Any) -> RemoteModel:
    return RemoteModel(name=name, type=kind, features=frozenset(features) if features is not None else None, **more)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        # OpenAI, DeepSeek, xAI: a name and nothing else
        ({"id": "gpt-9", "object": "model", "owned_by": "openai"}, model("gpt-9")),
        ({"id": "text-embedding-9"}, model("text-embedding-9", ModelType.TEXT_EMBEDDING)),
        ({"id": "whisper-9"}, model("whisper-9", ModelType.SPEECH2TEXT)),
        ({"id": "gpt-9-transcribe"}, model("gpt-9-transcribe", ModelType.SPEECH2TEXT)),
        ({"id": "tts-9-hd"}, model("tts-9-hd", ModelType.TTS)),
        ({"id": "gpt-9-mini-tts"}, model("gpt-9-mini-tts", ModelType.TTS)),
        ({"id": "omni-moderation-latest"}, model("omni-moderation-latest", ModelType.MODERATION)),
        ({"id": "dall-e-3"}, None),
        ({"id": "sora-2"}, None),
        ({"id": "gpt-realtime"}, None),
        ({"id": "davinci-002"}, None),
        ({"id": "gpt-3.5-turbo-instruct"}, None),
        # Groq
        ({"id": "llama-9-instruct", "active": True, "context_window": 131072, "max_completion_tokens": 32768}, model("llama-9-instruct", context_window=131072, max_output_tokens=32768)),
        ({"id": "gone", "active": False}, None),
        # Mistral
        ({"id": "mistral-9", "name": "mistral-9", "max_context_length": 262144, "capabilities": {"completion_chat": True, "function_calling": True, "vision": True}}, model("mistral-9", features=TOOLS | {STRUCTURED, VISION}, label="mistral-9", context_window=262144)),
        ({"id": "mistral-embed-9", "capabilities": {"completion_chat": False}}, model("mistral-embed-9", ModelType.TEXT_EMBEDDING)),
        ({"id": "mistral-fim-9", "capabilities": {"completion_chat": False}}, None),
        # OpenRouter
        (
            {
                "id": "a/b:free", "name": "B (free)", "context_length": 32000, "top_provider": {"max_completion_tokens": 8000, "context_length": 32000},
                "architecture": {"input_modalities": ["text", "image", "file"], "output_modalities": ["text"]},
                "supported_parameters": ["tools", "structured_outputs", "reasoning", "temperature"],
            },
            model("a/b:free", features=TOOLS | {STRUCTURED, VISION, ModelFeature.DOCUMENT, ModelFeature.REASONING}, label="B (free)", context_window=32000, max_output_tokens=8000),
        ),
        ({"id": "a/paints", "architecture": {"input_modalities": ["text"], "output_modalities": ["image"]}}, None),
        # Together, Fireworks, vLLM
        ({"id": "org/rank", "type": "rerank", "display_name": "Rank", "context_length": 0}, model("org/rank", ModelType.RERANK, label="Rank")),
        ({"id": "org/paint", "type": "image"}, None),
        ({"id": "accounts/f/models/x", "supports_chat": True, "supports_tools": True, "supports_image_input": False, "context_length": 4096}, model("accounts/f/models/x", features=TOOLS | {STRUCTURED}, context_window=4096)),
        ({"id": "served", "max_model_len": 4096}, model("served", context_window=4096)),
        # what nobody should send
        ({"id": 5}, None),
        ({"id": "odd", "capabilities": ["chat"], "architecture": "x", "top_provider": 3, "context_length": "many", "type": ["x"]}, model("odd")),
    ],
)  # fmt: skip
async def test_a_model_is_what_its_server_tells(
    told: dict[str, Any], expected: RemoteModel | None, provider: FakeProvider, http: Http
) -> None:
    found = await listed(provider, http, {"object": "list", "data": [told]})

    assert found == ([expected] if expected is not None else [])
    assert provider.requests[-1].key == KEY


async def test_a_bare_list_is_one_too(provider: FakeProvider, http: Http) -> None:
    assert await listed(provider, http, [{"id": "org/m", "type": "chat"}]) == [model("org/m")]


@pytest.mark.parametrize("body", [{}, {"data": None}, {"data": ["x"]}, "x", {"error": {"message": "no", "code": 429}}])
async def test_what_is_no_list_is_an_error(body: Any, provider: FakeProvider, http: Http) -> None:
    with pytest.raises(UpstreamError):
        await listed(provider, http, body)

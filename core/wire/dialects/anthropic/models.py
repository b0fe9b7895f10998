"""The list of models of Anthropic: GET /v1/models, page by page."""

from typing import Any
from urllib.parse import quote

import msgspec

from core.model_types import ModelFeature, ModelType
from core.provider import RemoteModel
from core.wire.asking import ask_pages
from core.wire.conversing import Server
from core.wire.http import Http

_ALWAYS = frozenset({ModelFeature.TOOL_CALL, ModelFeature.MULTI_TOOL_CALL, ModelFeature.STREAM_TOOL_CALL})
_FEATURES = {
    "image_input": ModelFeature.VISION,
    "pdf_input": ModelFeature.DOCUMENT,
    "structured_outputs": ModelFeature.STRUCTURED_OUTPUT,
    "thinking": ModelFeature.REASONING,
}


class _Model(msgspec.Struct):
    id: str
    display_name: str | None = None
    max_input_tokens: int | None = None
    max_tokens: int | None = None
    capabilities: dict[str, Any] | None = None


class _Page(msgspec.Struct):
    data: list[_Model]
    has_more: bool = False
    last_id: str | None = None


async def list_models(http: Http, server: Server) -> list[RemoteModel]:
    """Return the models that a key may call."""
    url = f"{server.base_url}/v1/models?limit=1000"
    pages = await ask_pages(http, url, _Page, _following, headers=server.headers, secrets=server.secrets)
    return [_remote(model) for page in pages for model in page.data]


def _following(page: _Page) -> str | None:
    return f"&after_id={quote(page.last_id, safe='')}" if page.has_more and page.last_id else None


def _remote(model: _Model) -> RemoteModel:
    return RemoteModel(
        name=model.id,
        type=ModelType.LLM,
        label=model.display_name,
        features=_features(model.capabilities) if model.capabilities else None,
        context_window=model.max_input_tokens,
        max_output_tokens=model.max_tokens,
    )


def _features(capabilities: dict[str, Any]) -> frozenset[ModelFeature]:
    """Return the features; each capability says `{"supported": ...}`."""
    supported = {
        feature
        for name, feature in _FEATURES.items()
        if isinstance(one := capabilities.get(name), dict) and one.get("supported")
    }
    return _ALWAYS | supported

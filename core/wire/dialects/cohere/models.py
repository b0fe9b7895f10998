"""The list of models of Cohere: GET /v1/models, page by page."""

from urllib.parse import quote

import msgspec

from core.model_types import ModelFeature, ModelType
from core.provider import RemoteModel
from core.wire.asking import ask_pages
from core.wire.conversing import Server
from core.wire.http import Http

_TYPES = {"chat": ModelType.LLM, "embed": ModelType.TEXT_EMBEDDING, "rerank": ModelType.RERANK}
_FEATURES = {
    "tools": (ModelFeature.TOOL_CALL, ModelFeature.MULTI_TOOL_CALL, ModelFeature.STREAM_TOOL_CALL),
    "json_schema": (ModelFeature.STRUCTURED_OUTPUT,),
    "vision": (ModelFeature.VISION,),
    "reasoning": (ModelFeature.REASONING,),
}


class _Model(msgspec.Struct):
    name: str
    endpoints: list[str] | None = None
    features: list[str] | None = None
    context_length: float | None = None
    is_deprecated: bool | None = None


class _Page(msgspec.Struct):
    models: list[_Model]
    next_page_token: str | None = None


async def list_models(http: Http, server: Server) -> list[RemoteModel]:
    """Return the models that a key may call, those left out that are on their way out."""
    url = f"{server.base_url}/v1/models?page_size=1000"
    pages = await ask_pages(http, url, _Page, _following, headers=server.headers, secrets=server.secrets)
    return [remote for page in pages for model in page.models if not model.is_deprecated for remote in _remotes(model)]


def _following(page: _Page) -> str | None:
    return f"&page_token={quote(page.next_page_token, safe='')}" if page.next_page_token else None


def _remotes(model: _Model) -> list[RemoteModel]:
    features = None
    if model.features is not None:
        features = frozenset(one for name in model.features for one in _FEATURES.get(name, ()))
    return [
        RemoteModel(
            name=model.name,
            type=kind,
            features=features if kind is ModelType.LLM else None,
            context_window=int(model.context_length) if model.context_length else None,
        )
        for endpoint, kind in _TYPES.items()
        if endpoint in (model.endpoints or ())
    ]

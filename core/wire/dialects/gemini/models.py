"""The list of models of Gemini: GET /models, page by page."""

from urllib.parse import quote

import msgspec

from core.model_types import ModelType
from core.provider import RemoteModel
from core.wire.asking import ask_pages
from core.wire.conversing import Server
from core.wire.http import Http

_TYPES = {"generateContent": ModelType.LLM, "embedContent": ModelType.TEXT_EMBEDDING}


class _Model(msgspec.Struct, rename="camel"):
    name: str
    display_name: str | None = None
    input_token_limit: int | None = None
    output_token_limit: int | None = None
    supported_generation_methods: list[str] = []


class _Page(msgspec.Struct, rename="camel"):
    models: list[_Model] = []
    next_page_token: str | None = None


async def list_models(http: Http, server: Server) -> list[RemoteModel]:
    """Return the models that a key may call; a server's base URL ends in the version of the API."""
    url = f"{server.base_url}/models?pageSize=1000"
    pages = await ask_pages(http, url, _Page, _following, headers=server.headers, secrets=server.secrets)
    return [remote for page in pages for model in page.models for remote in _remotes(model)]


def _following(page: _Page) -> str | None:
    return f"&pageToken={quote(page.next_page_token, safe='')}" if page.next_page_token else None


def _remotes(model: _Model) -> list[RemoteModel]:
    """Return a model by each of its types; those that speak are told by their names alone."""
    speaks = "-tts" in model.name
    return [
        RemoteModel(
            name=model.name.removeprefix("models/"),
            type=ModelType.TTS if speaks else kind,
            label=model.display_name,
            context_window=model.input_token_limit,
            max_output_tokens=model.output_token_limit,
        )
        for method, kind in _TYPES.items()
        if method in model.supported_generation_methods
    ]

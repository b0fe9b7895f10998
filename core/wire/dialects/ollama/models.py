"""The models that a server of Ollama has: GET /api/tags, and for each POST /api/show."""

import asyncio
from typing import Any

import msgspec

from core.errors import UpstreamModelNotFound
from core.model_types import ModelFeature, ModelType
from core.provider import RemoteModel
from core.wire.asking import ask, read
from core.wire.conversing import Server
from core.wire.http import Http

_AT_ONCE = 8
_TYPES = {"completion": ModelType.LLM, "embedding": ModelType.TEXT_EMBEDDING}
_FEATURES = {
    "tools": (ModelFeature.TOOL_CALL, ModelFeature.MULTI_TOOL_CALL),
    "vision": (ModelFeature.VISION,),
    "thinking": (ModelFeature.REASONING,),
}


class _Tag(msgspec.Struct):
    name: str


class _Tags(msgspec.Struct):
    models: list[_Tag]


class _Shown(msgspec.Struct):
    capabilities: list[str] = []
    model_info: dict[str, Any] = {}


async def list_models(http: Http, server: Server) -> list[RemoteModel]:
    """Return the models that are there, by their names with tags."""
    reply = await ask(http, f"{server.base_url}/api/tags", headers=server.headers, secrets=server.secrets, method="GET")
    names = [tag.name for tag in read(reply, _Tags, server.secrets).models]
    turn = asyncio.Semaphore(_AT_ONCE)

    async def show(name: str) -> list[RemoteModel]:
        async with turn:
            return await _show(http, server, name)

    found = await asyncio.gather(*(show(name) for name in names))
    return [model for models in found for model in models]


async def _show(http: Http, server: Server, name: str) -> list[RemoteModel]:
    """Return a model by each of its types; none where it was removed since."""
    try:
        reply = await ask(
            http, f"{server.base_url}/api/show", headers=server.headers, secrets=server.secrets, body={"model": name}
        )
    except UpstreamModelNotFound:
        return []
    shown = read(reply, _Shown, server.secrets)
    known = (one for capability in shown.capabilities for one in _FEATURES.get(capability, ()))
    features = frozenset({ModelFeature.STRUCTURED_OUTPUT, *known})
    lengths = [value for key, value in shown.model_info.items() if key.endswith(".context_length")]
    return [
        RemoteModel(
            name=name,
            type=kind,
            features=features if kind is ModelType.LLM else None,
            context_window=next((value for value in lengths if isinstance(value, int) and value > 0), None),
        )
        for capability, kind in _TYPES.items()
        if capability in shown.capabilities
    ]

"""Xinference: models launched on a server of one's own, by its OpenAI-compatible API; a model's name is its uid."""

import re
from urllib.parse import quote

import msgspec

from core.errors import InvalidInput, UpstreamModelNotFound
from core.model_types import ModelKey, ModelType
from core.provider import Manifest, ModelCard, Provider, Values
from core.wire.asking import ask, read
from core.wire.credential import base_url, bearer, text_of
from core.wire.dialects.openai_audio import OpenAISpeech, OpenAITranscriptions
from core.wire.dialects.openai_chat import Endpoint, OpenAIChat, Quirks
from core.wire.dialects.openai_embeddings import OpenAIEmbeddings
from core.wire.dialects.rerank import Reranking
from core.wire.failures import secrets_of
from core.wire.http import Http

_PASTED = re.compile(r"/v1$")
_KINDS = {
    ModelType.LLM: {"LLM"},
    ModelType.TEXT_EMBEDDING: {"embedding"},
    ModelType.RERANK: {"rerank"},
    ModelType.SPEECH2TEXT: {"audio"},
    ModelType.TTS: {"audio"},
}


class _Described(msgspec.Struct):
    model_type: str | None = None


class Xinference(Provider):
    """The provider. Its key may be missing: a server without logins needs none."""

    def __init__(self, manifest: Manifest, http: Http) -> None:
        self.manifest = manifest
        self._http = http
        quirks = msgspec.convert(dict(manifest.options), Quirks)
        self.llm = OpenAIChat(http, self._endpoint, quirks, manifest.name)
        self.text_embedding = OpenAIEmbeddings(http, self._endpoint, quirks)
        self.rerank = Reranking(http, self._endpoint)
        self.speech2text = OpenAITranscriptions(http, self._endpoint)
        self.tts = OpenAISpeech(http, self._endpoint)

    async def check(self, values: Values) -> None:
        """Refuse an address or a key that no request can carry."""
        await self._endpoint(values)

    async def validate(self, values: Values, model: ModelKey | None, card: ModelCard | None) -> None:
        """Ask what runs under the model's uid, which is free."""
        where = await self._endpoint(values)
        uid = where.model or (model.name if model is not None else "")
        try:
            reply = await ask(
                self._http,
                where.url(f"models/{quote(uid, safe='')}"),
                headers=where.headers,
                secrets=where.secrets,
                method="GET",
            )
        except UpstreamModelNotFound as refusal:
            raise UpstreamModelNotFound(
                f"{refusal.message} No model runs under the uid {uid!r}: launch it, or enter the uid that `xinference "
                "list` shows; it may differ from the model's name."
            ) from refusal
        kind = read(reply, _Described, where.secrets).model_type
        if model is not None and kind is not None and kind not in _KINDS.get(model.type, {kind}):
            raise InvalidInput(f"The model {uid!r} of this server is of its type {kind!r}.", path=("model", "type"))

    async def _endpoint(self, values: Values) -> Endpoint:
        server = base_url(values, None, _PASTED, "server_url")
        return Endpoint(
            base_url=f"{server}/v1",
            headers=bearer(text_of(values, "api_key")),
            secrets=secrets_of(values),
            model=text_of(values, "model_uid") or None,
        )


def build(manifest: Manifest, http: Http) -> Provider:
    """Return the provider that `manifest` describes."""
    return Xinference(manifest, http)

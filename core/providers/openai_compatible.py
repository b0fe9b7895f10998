"""Any server that speaks the API of OpenAI: the address and what it can do come from the form or the manifest."""

import msgspec

from core.errors import InvalidInput
from core.model_types import ModelKey
from core.provider import Manifest, ModelCard, Provider, Values
from core.wire.credential import bearer, extra_headers, text_of
from core.wire.dialects.openai_audio import OpenAISpeech, OpenAITranscriptions
from core.wire.dialects.openai_chat import (
    Endpoint,
    OpenAIChat,
    Quirks,
    check_models,
)
from core.wire.dialects.openai_embeddings import OpenAIEmbeddings
from core.wire.dialects.openai_models import OpenAIModelList
from core.wire.dialects.openai_moderations import OpenAIModerations
from core.wire.dialects.rerank import Reranking
from core.wire.failures import secrets_of
from core.wire.http import Http


class OpenAICompatible(Provider):
    """A provider of this kind. Its key may be missing: many servers need none."""

    def __init__(self, manifest: Manifest, http: Http) -> None:
        self.manifest = manifest
        self._http = http
        self._quirks = msgspec.convert(dict(manifest.options), Quirks)
        self.llm = OpenAIChat(http, self._endpoint, self._quirks, manifest.name)
        self.text_embedding = OpenAIEmbeddings(http, self._endpoint, self._quirks)
        self.rerank = Reranking(
            http,
            self._endpoint,
            path=self._quirks.rerank_path,
            top_n=self._quirks.top_n_parameter,
            style_of=lambda values: text_of(values, "rerank_style"),
        )
        self.speech2text = OpenAITranscriptions(http, self._endpoint)
        self.tts = OpenAISpeech(http, self._endpoint)
        self.moderation = OpenAIModerations(http, self._endpoint)
        self.listing = OpenAIModelList(http, self._endpoint)

    async def check(self, values: Values) -> None:
        """Refuse an address or a key that no request can carry."""
        await self._endpoint(values)

    async def validate(self, values: Values, model: ModelKey | None, card: ModelCard | None) -> None:
        """Ask for the list of models; a model that is not in it may still be served, so names are not compared."""
        await check_models(self._http, await self._endpoint(values), self._quirks.check_path)

    async def _endpoint(self, values: Values) -> Endpoint:
        base_url = text_of(values, "base_url") or self._quirks.base_url
        if not base_url:
            raise InvalidInput("The base URL is missing.", path=("base_url",))
        return Endpoint(
            base_url=base_url,
            headers={**bearer(text_of(values, "api_key")), **extra_headers(text_of(values, "extra_headers"))},
            secrets=secrets_of(values),
            model=text_of(values, "upstream_model") or None,
            stream_options=text_of(values, "supports_stream_options") != "false",
        )


def build(manifest: Manifest, http: Http) -> Provider:
    """Return the provider that `manifest` describes."""
    return OpenAICompatible(manifest, http)

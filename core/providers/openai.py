"""OpenAI: its models of five types, with the account's organization and project."""

from collections.abc import AsyncGenerator, Sequence

import msgspec

from core.errors import UpstreamAuthentication
from core.model_types import ModelKey
from core.model_types.llm import ChatRequest, Piece
from core.provider import Call, Manifest, ModelCard, Provider, Values
from core.wire.credential import bearer, checked_header, text_of
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
from core.wire.dialects.openai_responses import OpenAIResponses
from core.wire.failures import secrets_of
from core.wire.http import Http

_BASE_URL = "https://api.openai.com/v1"
_QUIRKS = Quirks(
    base_url=_BASE_URL,
    max_tokens_parameter="max_completion_tokens",
    obfuscation=True,
    done_required=True,
    max_texts=2048,
    base64_vectors=True,
)
_HEADERS = {"organization": "openai-organization", "project": "openai-project"}


class OpenAI(Provider):
    """The provider at api.openai.com, or at an address of OpenAI that the credential names."""

    def __init__(self, manifest: Manifest, http: Http) -> None:
        self.manifest = manifest
        self._http = http
        self._quirks = msgspec.convert({**msgspec.structs.asdict(_QUIRKS), **manifest.options}, Quirks)
        self.llm = _LanguageModels(
            OpenAIChat(http, self._endpoint, self._quirks, manifest.name),
            OpenAIResponses(http, self._endpoint, manifest.name),
        )
        self.text_embedding = OpenAIEmbeddings(http, self._endpoint, self._quirks)
        self.speech2text = OpenAITranscriptions(http, self._endpoint)
        self.tts = OpenAISpeech(http, self._endpoint)
        self.moderation = OpenAIModerations(http, self._endpoint)
        self.listing = OpenAIModelList(http, self._endpoint)

    async def check(self, values: Values) -> None:
        """Refuse an address or a key that no request can carry."""
        await self._endpoint(values)

    async def validate(self, values: Values, model: ModelKey | None, card: ModelCard | None) -> None:
        """Ask for the list of models; a restricted key that may not list them passes, as it may still chat."""
        await check_models(self._http, await self._endpoint(values))

    async def _endpoint(self, values: Values) -> Endpoint:
        headers = bearer(text_of(values, "api_key"))
        if not headers:
            raise UpstreamAuthentication("The API key is missing.", path=("api_key",))
        for field, header in _HEADERS.items():
            if text := text_of(values, field):
                headers[header] = checked_header(field, header, text)
        return Endpoint(
            base_url=text_of(values, "base_url") or self._quirks.base_url or _BASE_URL,
            headers=headers,
            secrets=secrets_of(values),
        )


class _LanguageModels:
    """Both dialects: the property `api` of a model's card says which one it prefers."""

    def __init__(self, chat: OpenAIChat, responses: OpenAIResponses) -> None:
        self._chat = chat
        self._responses = responses

    def stream(self, call: Call, request: ChatRequest) -> AsyncGenerator[Sequence[Piece], None]:
        """Yield the pieces of each network read. See `LanguageModels`."""
        return self._preferred(call.card).stream(call, request)

    async def complete(self, call: Call, request: ChatRequest) -> Sequence[Piece]:
        """Return all pieces of an answer that is not streamed. See `LanguageModels`."""
        return await self._preferred(call.card).complete(call, request)

    def _preferred(self, card: ModelCard) -> OpenAIChat | OpenAIResponses:
        return self._responses if card.properties.get("api") == "responses" else self._chat


def build(manifest: Manifest, http: Http) -> Provider:
    """Return the provider that `manifest` describes."""
    return OpenAI(manifest, http)

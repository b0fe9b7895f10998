"""Google Gemini: its models that write, embed and speak, with a key of AI Studio."""

import re
from collections.abc import Sequence

import msgspec

from core.errors import UpstreamAuthentication, UpstreamModelNotFound, UpstreamProtocol
from core.model_types import ModelKey
from core.provider import Manifest, ModelCard, Provider, RemoteModel, Values
from core.wire.conversing import Server
from core.wire.credential import base_url, required_key, text_of
from core.wire.dialects.gemini import GeminiContent
from core.wire.dialects.gemini.models import list_models
from core.wire.dialects.gemini_tasks import GeminiEmbeddings, GeminiSpeech
from core.wire.failures import failure, secrets_of
from core.wire.http import Http

_VERSION = "v1beta"
_PASTED = re.compile(r"/v1(?:beta)?(?:/openai|/models(?:/[^/]+)?)?$")
_SERVICE_ACCOUNT = (
    "This is the JSON of a service account, which belongs to Vertex AI; enter an API key from aistudio.google.com."
)


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a manifest may change: where the API is."""

    base_url: str = "https://generativelanguage.googleapis.com"


class Gemini(Provider):
    """The provider at generativelanguage.googleapis.com, or at an address that the credential names."""

    def __init__(self, manifest: Manifest, http: Http) -> None:
        self.manifest = manifest
        self._http = http
        self._options = msgspec.convert(dict(manifest.options), Options)
        self.llm = GeminiContent(http, self._server, manifest.name)
        self.text_embedding = GeminiEmbeddings(http, self._server)
        self.tts = GeminiSpeech(http, self._server)
        self.listing = self

    async def check(self, values: Values) -> None:
        """Refuse an address or a key that no request can carry."""
        self._server(values)

    async def validate(self, values: Values, model: ModelKey | None, card: ModelCard | None) -> None:
        """Ask for one model of the list, which costs nothing."""
        server = self._server(values)
        reply = await self._http.request("GET", f"{server.base_url}/models?pageSize=1", headers=server.headers)
        if 200 <= reply.status < 300:
            if b'"models"' not in reply.body:
                raise UpstreamProtocol(f"{server.base_url}/models holds no list of models; check the base URL.")
            return
        refusal = failure(reply.status, reply.headers, reply.body, secrets=server.secrets)
        if isinstance(refusal, UpstreamModelNotFound):
            raise UpstreamProtocol(f"There is no API of Gemini at {server.base_url}; check base URL and version.")
        raise refusal

    async def list_models(self, values: Values) -> Sequence[RemoteModel]:
        """Return the models that the credential may call. See `ModelLists`."""
        return await list_models(self._http, self._server(values))

    def _server(self, values: Values) -> Server:
        if text_of(values, "api_key").startswith("{"):
            raise UpstreamAuthentication(_SERVICE_ACCOUNT, path=("api_key",))
        version = text_of(values, "api_version") or _VERSION
        return Server(
            base_url=f"{base_url(values, self._options.base_url, _PASTED)}/{version}",
            headers={"x-goog-api-key": required_key(values)},
            secrets=secrets_of(values),
        )


def build(manifest: Manifest, http: Http) -> Provider:
    """Return the provider that `manifest` describes."""
    return Gemini(manifest, http)

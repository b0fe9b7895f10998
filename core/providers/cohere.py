"""Cohere: its models that write, embed, rerank and transcribe, by the v2 API."""

import re
from collections.abc import Sequence

import msgspec

from core.errors import UpstreamAuthentication, UpstreamModelNotFound, UpstreamProtocol
from core.model_types import ModelKey
from core.provider import Manifest, ModelCard, Provider, RemoteModel, Values
from core.wire.conversing import Server
from core.wire.credential import base_url, bearer, required_key
from core.wire.dialects.cohere import CohereChat
from core.wire.dialects.cohere.models import list_models
from core.wire.dialects.cohere_tasks import CohereEmbeddings, CohereTranscriptions, cohere_rerankers
from core.wire.failures import failure, secrets_of
from core.wire.http import Http

_PASTED = re.compile(r"/v[12](?:/chat|/embed|/rerank|/models)?$")


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a manifest may change: where the API is."""

    base_url: str = "https://api.cohere.com"


class _Check(msgspec.Struct):
    valid: bool


class Cohere(Provider):
    """The provider at api.cohere.com, or at an address that the credential names."""

    def __init__(self, manifest: Manifest, http: Http) -> None:
        self.manifest = manifest
        self._http = http
        self._options = msgspec.convert(dict(manifest.options), Options)
        self.llm = CohereChat(http, self._server, manifest.name)
        self.listing = self
        self.text_embedding = CohereEmbeddings(http, self._server)
        self.rerank = cohere_rerankers(http, self._server)
        self.speech2text = CohereTranscriptions(http, self._server)

    async def check(self, values: Values) -> None:
        """Refuse an address or a key that no request can carry."""
        self._server(values)

    async def validate(self, values: Values, model: ModelKey | None, card: ModelCard | None) -> None:
        """Ask whether the key is one, which costs nothing."""
        server = self._server(values)
        reply = await self._http.request(
            "POST", f"{server.base_url}/v1/check-api-key", headers=server.headers, body=b""
        )
        if not 200 <= reply.status < 300:
            refusal = failure(reply.status, reply.headers, reply.body, secrets=server.secrets)
            if isinstance(refusal, UpstreamModelNotFound):
                raise UpstreamProtocol(f"There is no API of Cohere at {server.base_url}; check the base URL.")
            raise refusal
        try:
            is_valid = msgspec.json.decode(reply.body, type=_Check).valid
        except msgspec.MsgspecError:
            raise UpstreamProtocol(f"{server.base_url} does not tell whether the key is valid; check it.") from None
        if not is_valid:
            raise UpstreamAuthentication("Cohere does not know this key.")

    async def list_models(self, values: Values) -> Sequence[RemoteModel]:
        """Return the models that the credential may call. See `ModelLists`."""
        return await list_models(self._http, self._server(values))

    def _server(self, values: Values) -> Server:
        return Server(
            base_url=base_url(values, self._options.base_url, _PASTED),
            headers=bearer(required_key(values)),
            secrets=secrets_of(values),
        )


def build(manifest: Manifest, http: Http) -> Provider:
    """Return the provider that `manifest` describes."""
    return Cohere(manifest, http)

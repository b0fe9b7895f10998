"""Ollama: models on a machine of one's own, or in its cloud, by its native API."""

import re
from collections.abc import Sequence

import msgspec

from core.errors import UpstreamModelNotFound, UpstreamProtocol, UpstreamUnavailable
from core.model_types import ModelKey
from core.provider import Manifest, ModelCard, Provider, RemoteModel, Values
from core.wire.conversing import Server
from core.wire.credential import base_url, bearer, text_of
from core.wire.dialects.ollama import OllamaChat
from core.wire.dialects.ollama.models import list_models
from core.wire.dialects.ollama_embed import OllamaEmbeddings
from core.wire.egress import is_loopback
from core.wire.failures import failure, secrets_of
from core.wire.http import Http, Reply, Unreachable

_PASTED = re.compile(r"/(?:api|v1)(?:/chat(?:/completions)?|/generate|/embed|/tags|/models)?$")

_BOUND = "Ollama listens to its own machine alone unless its OLLAMA_HOST says otherwise, such as 0.0.0.0."


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a manifest may change: where the API is where the credential names no address."""

    base_url: str | None = None


class Ollama(Provider):
    """A server of Ollama. Its key may be missing: only the cloud needs one."""

    def __init__(self, manifest: Manifest, http: Http) -> None:
        self.manifest = manifest
        self._http = http
        self._options = msgspec.convert(dict(manifest.options), Options)
        self.llm = OllamaChat(http, self._server, manifest.name)
        self.listing = self
        self.text_embedding = OllamaEmbeddings(http, self._server)

    async def check(self, values: Values) -> None:
        """Refuse an address or a key that no request can carry."""
        self._server(values)

    async def validate(self, values: Values, model: ModelKey | None, card: ModelCard | None) -> None:
        """Ask for the version of the server, and whether it has the model."""
        server = self._server(values)
        reply = await self._version(server)
        if reply.status not in {200, 404}:
            raise failure(reply.status, reply.headers, reply.body, secrets=server.secrets)
        if reply.status == 404 or b'"version"' not in reply.body:
            raise UpstreamProtocol(f"No Ollama answers at {server.base_url}; check the base URL.")
        if model is not None:
            await self._check_model(server, text_of(values, "upstream_model") or model.name)

    async def _version(self, server: Server) -> Reply:
        try:
            return await self._http.request("GET", f"{server.base_url}/api/version", headers=server.headers)
        except Unreachable as refusal:
            if is_loopback(server.base_url):
                raise
            raise UpstreamUnavailable(f"{refusal.message} {_BOUND}") from refusal

    async def _check_model(self, server: Server, name: str) -> None:
        headers = {"content-type": "application/json", **server.headers}
        body = msgspec.json.encode({"model": name})
        reply = await self._http.request("POST", f"{server.base_url}/api/show", headers=headers, body=body)
        if reply.status == 404:
            raise UpstreamModelNotFound(
                f"The server has no model {name!r}: run `ollama pull {name}` there, or name one that `ollama list` "
                "shows, with its tag."
            )
        if not 200 <= reply.status < 300:
            raise failure(reply.status, reply.headers, reply.body, secrets=server.secrets)

    async def list_models(self, values: Values) -> Sequence[RemoteModel]:
        """Return the models that the credential may call. See `ModelLists`."""
        return await list_models(self._http, self._server(values))

    def _server(self, values: Values) -> Server:
        return Server(
            base_url=base_url(values, self._options.base_url, _PASTED),
            headers=bearer(text_of(values, "api_key")),
            secrets=secrets_of(values),
        )


def build(manifest: Manifest, http: Http) -> Provider:
    """Return the provider that `manifest` describes."""
    return Ollama(manifest, http)

"""Anthropic: its models by the messages API."""

import re
from collections.abc import Sequence

import msgspec

from core.errors import UpstreamAuthentication, UpstreamModelNotFound, UpstreamProtocol
from core.model_types import ModelKey
from core.provider import Manifest, ModelCard, Provider, RemoteModel, Values
from core.wire.conversing import Server
from core.wire.credential import base_url, checked_header, required_key, text_of
from core.wire.dialects.anthropic import AnthropicMessages
from core.wire.dialects.anthropic.models import list_models
from core.wire.failures import failure, secrets_of
from core.wire.http import Http

_PASTED = re.compile(r"/v1(?:/messages|/models)?$")
_VERSION = "2023-06-01"
_OAUTH = "sk-ant-oat"
_OAUTH_BETA = "oauth-2025-04-20"
_OTHER_KEY = "Keys of Anthropic begin with sk-ant-; one of Bedrock or Vertex does not work here."


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a manifest may change: where the API is."""

    base_url: str = "https://api.anthropic.com"


class Anthropic(Provider):
    """The provider at api.anthropic.com, or at an address that the credential names."""

    def __init__(self, manifest: Manifest, http: Http) -> None:
        self.manifest = manifest
        self._http = http
        self._options = msgspec.convert(dict(manifest.options), Options)
        self.llm = AnthropicMessages(http, self._server, manifest.name)
        self.listing = self

    async def check(self, values: Values) -> None:
        """Refuse an address or a key that no request can carry."""
        self._server(values)

    async def validate(self, values: Values, model: ModelKey | None, card: ModelCard | None) -> None:
        """Ask for one model of the list, which costs nothing."""
        server = self._server(values)
        reply = await self._http.request("GET", f"{server.base_url}/v1/models?limit=1", headers=server.headers)
        if 200 <= reply.status < 300:
            if b'"data"' not in reply.body:
                raise UpstreamProtocol(f"{server.base_url}/v1/models holds no list of models; check the base URL.")
            return
        refusal = failure(reply.status, reply.headers, reply.body, secrets=server.secrets)
        if isinstance(refusal, UpstreamAuthentication) and not text_of(values, "api_key").startswith("sk-ant-"):
            raise UpstreamAuthentication(f"{refusal.message} {_OTHER_KEY}")
        if isinstance(refusal, UpstreamModelNotFound):
            raise UpstreamProtocol(f"There is no API of Anthropic at {server.base_url}; check the base URL.")
        raise refusal

    async def list_models(self, values: Values) -> Sequence[RemoteModel]:
        """Return the models that the credential may call. See `ModelLists`."""
        return await list_models(self._http, self._server(values))

    def _server(self, values: Values) -> Server:
        key = required_key(values)
        is_oauth = key.startswith(_OAUTH)
        betas = [text_of(values, "beta"), _OAUTH_BETA if is_oauth else ""]
        headers = {"anthropic-version": _VERSION}
        headers |= {"authorization": f"Bearer {key}"} if is_oauth else {"x-api-key": key}
        if any(betas):
            headers["anthropic-beta"] = checked_header("beta", "anthropic-beta", ",".join(filter(None, betas)))
        return Server(
            base_url=base_url(values, self._options.base_url, _PASTED),
            headers=headers,
            secrets=secrets_of(values),
        )


def build(manifest: Manifest, http: Http) -> Provider:
    """Return the provider that `manifest` describes."""
    return Anthropic(manifest, http)

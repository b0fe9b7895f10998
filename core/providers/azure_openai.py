"""Azure OpenAI: a deployment of a resource, by either of its URL schemes, with a key or with Microsoft Entra."""

import re
from urllib.parse import quote

import msgspec

from core.errors import (
    InvalidInput,
    UpstreamAuthentication,
    UpstreamBadRequest,
    UpstreamModelNotFound,
    UpstreamPermission,
)
from core.model_types import ModelKey
from core.provider import Manifest, ModelCard, Provider, Values
from core.wire.asking import ask
from core.wire.credential import required_key, text_of
from core.wire.dialects.openai_audio import OpenAISpeech, OpenAITranscriptions
from core.wire.dialects.openai_chat import Endpoint, OpenAIChat, Quirks
from core.wire.dialects.openai_embeddings import OpenAIEmbeddings
from core.wire.entra import Entra
from core.wire.failures import secrets_of
from core.wire.http import Http

SCOPE = "https://cognitiveservices.azure.com/.default"
_QUIRKS = Quirks(max_tokens_parameter="max_completion_tokens", done_required=True, max_texts=2048, base64_vectors=True)
_PASTED = re.compile(r"/openai(?:/.*)?$")
_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(?:-preview)?")


class AzureOpenAI(Provider):
    """The provider. A model is a deployment; what it can do is what its base model can."""

    def __init__(self, manifest: Manifest, http: Http) -> None:
        self.manifest = manifest
        self._http = http
        options = dict(manifest.options)
        self._entra = Entra(http, **options.pop("entra", {}))
        quirks = msgspec.convert({**msgspec.structs.asdict(_QUIRKS), **options}, Quirks)
        self.llm = OpenAIChat(http, self._deployment, quirks, manifest.name)
        self.text_embedding = OpenAIEmbeddings(http, self._deployment, quirks)
        self.speech2text = OpenAITranscriptions(http, self._deployment)
        self.tts = OpenAISpeech(http, self._deployment)

    async def validate(self, values: Values, model: ModelKey | None, card: ModelCard | None) -> None:
        """Ask for the resource's list of models, which is free; only a call would prove the deployment itself."""
        where = await self._deployment(values)
        listed = f"{_resource(values)}/openai/models{where.query}" if where.query else where.url("models")
        try:
            await ask(self._http, listed, headers=where.headers, secrets=where.secrets, method="GET")
        except UpstreamAuthentication as refusal:
            raise UpstreamAuthentication(
                f"{refusal.message} Check that the key (or the application's role on the resource) belongs to the "
                "resource of this endpoint: keys of another resource or region are refused."
            ) from refusal
        except UpstreamPermission as refusal:
            raise UpstreamPermission(
                f"{refusal.message} The application needs the role Cognitive Services OpenAI User on the resource, or "
                "the resource's network rules keep this server out."
            ) from refusal
        except UpstreamModelNotFound as refusal:
            raise UpstreamBadRequest(
                f"{refusal.message} Check the endpoint (https://NAME.openai.azure.com) and the API version: that of "
                "the API, such as 2024-10-21, not that of a model."
            ) from refusal

    async def check(self, values: Values) -> None:
        """Refuse an address, a version or a key that no request can carry."""
        _endpoint(values, _key_header(values) if text_of(values, "auth") != "entra" else {})

    async def _deployment(self, values: Values) -> Endpoint:
        return _endpoint(values, await self._headers(values))

    async def _headers(self, values: Values) -> dict[str, str]:
        if text_of(values, "auth") == "entra":
            token = await self._entra.token(
                text_of(values, "tenant_id"), text_of(values, "client_id"), text_of(values, "client_secret"), SCOPE
            )
            return {"authorization": f"Bearer {token}"}
        return _key_header(values)


def _endpoint(values: Values, headers: dict[str, str]) -> Endpoint:
    """Return where the deployment is; a token that the headers carry is as secret as what it was given for.

    Raises:
        InvalidInput: a field is missing or wrong; the path names it.
    """
    resource = _resource(values)
    deployment = text_of(values, "deployment")
    if not deployment:
        raise InvalidInput("The deployment's name is missing.", path=("deployment",))
    secrets = (*secrets_of(values), *(value.removeprefix("Bearer ") for value in headers.values()))
    if text_of(values, "api_style") != "dated":
        return Endpoint(base_url=f"{resource}/openai/v1", headers=headers, secrets=secrets, model=deployment)
    version = text_of(values, "api_version")
    if not _VERSION.fullmatch(version):
        raise InvalidInput(
            "The API version is a date such as 2024-10-21, perhaps with -preview; a model's version is none.",
            path=("api_version",),
        )
    return Endpoint(
        base_url=f"{resource}/openai/deployments/{quote(deployment, safe='')}",
        headers=headers,
        secrets=secrets,
        model=deployment,
        query=f"?api-version={version}",
    )


def _key_header(values: Values) -> dict[str, str]:
    return {"api-key": required_key(values)}


def _resource(values: Values) -> str:
    """Return the address of the resource.

    Raises:
        InvalidInput: more than that was pasted; the text says what to enter.
    """
    endpoint = text_of(values, "endpoint")
    if _PASTED.search(endpoint):
        raise InvalidInput(
            f"Enter the resource's address alone, {_PASTED.sub('', endpoint)}: what follows is added to every request.",
            path=("endpoint",),
        )
    return endpoint


def build(manifest: Manifest, http: Http) -> Provider:
    """Return the provider that `manifest` describes."""
    return AzureOpenAI(manifest, http)

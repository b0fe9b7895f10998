"""Where a chat completions server stands, how it wants to be spoken to, and whether a credential works there."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from core.errors import (
    UpstreamAuthentication,
    UpstreamBadRequest,
    UpstreamError,
    UpstreamPermission,
    UpstreamProtocol,
)
from core.wire.asking import ask
from core.wire.failures import failure, looks_like_html
from core.wire.http import Http, Reply

_VERSIONED = re.compile(r"/v\d+[a-z0-9]*$")


class Quirks(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a server differs from the plainest one; a manifest's `options` give the values.

    `base_url`: where the provider is when the credential names no other address.
    `max_tokens_parameter`: the name that the limit of output has there.
    `end_user_parameter`: the name that the end user has there; empty: it takes none.
    `stream_options`: it takes `stream_options.include_usage`.
    `obfuscation`: it pads streams unless told not to.
    `done_required`: its streams are whole only with `[DONE]`; else a finish reason is enough.
    `max_texts`: how many texts one request to embed takes.
    `base64_vectors`: it sends vectors in base64 when asked to, at a quarter of the size.
    `dimensions_parameter`, `purpose_parameter`, `top_n_parameter`: the names that these have there; None: it has none.
    `rerank_path`: where it reranks, below the base URL.
    `check_path`: what a key is tried at, which costs nothing; the list of models, but where anybody may read that.
    """

    base_url: str | None = None
    max_tokens_parameter: str = "max_tokens"
    end_user_parameter: str = "user"
    stream_options: bool = True
    obfuscation: bool = False
    done_required: bool = False
    max_texts: int = 256
    base64_vectors: bool = False
    dimensions_parameter: str = "dimensions"
    purpose_parameter: str | None = None
    rerank_path: str = "rerank"
    check_path: str = "models"
    top_n_parameter: str = "top_n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One credential's server. `headers` hold its key; `model` is the name there where it differs from ours."""

    base_url: str
    headers: Mapping[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    model: str | None = None
    stream_options: bool = True
    query: str = ""

    def url(self, path: str) -> str:
        """Return the address of an operation below the base URL."""
        return f"{self.base_url}/{path}{self.query}"


async def check_models(http: Http, endpoint: Endpoint, path: str = "models") -> None:
    """Ask for the list of models, or what else stands at `path` and costs nothing: does the credential work?

    Raises:
        UpstreamAuthentication, UpstreamPermission: the key is refused.
        UpstreamBadRequest: there is no such API at the base URL, and the text suggests the right one.
        UpstreamProtocol: something answers, but nothing that tells whether the credential works.
        UpstreamError: the server could not be asked.
    """
    if path != "models":
        await ask(http, endpoint.url(path), headers=endpoint.headers, secrets=endpoint.secrets, method="GET")
        return
    reply = await _ask(http, endpoint, endpoint.base_url)
    if _is_list(reply) or _is_unlistable(reply):
        return
    if reply.status in {404, 405} or reply.status < 400:
        await _suggest_version(http, endpoint)
        raise UpstreamProtocol(_no_list(endpoint, reply))
    raise failure(reply.status, reply.headers, reply.body, secrets=endpoint.secrets)


async def _ask(http: Http, endpoint: Endpoint, base_url: str) -> Reply:
    return await http.request("GET", f"{base_url}/models", headers=endpoint.headers)


def _is_list(reply: Reply) -> bool:
    """Tell whether a reply is a list of models: `{"data": [...]}`, or a bare list as a few servers send it."""
    if not 200 <= reply.status < 300:
        return False
    try:
        value = msgspec.json.decode(reply.body)
    except (msgspec.DecodeError, RecursionError):
        return False
    if isinstance(value, dict):
        value = value.get("data", value.get("models"))
    return isinstance(value, list)


def _is_unlistable(reply: Reply) -> bool:
    """Tell whether the key works and only lacks the right to list models, as restricted keys of OpenAI do."""
    if reply.status not in {401, 403}:
        return False
    refusal = failure(reply.status, reply.headers, reply.body)
    scoped = b"scope" in reply.body or b"insufficient permissions" in reply.body
    return scoped and isinstance(refusal, (UpstreamPermission, UpstreamAuthentication))


async def _suggest_version(http: Http, endpoint: Endpoint) -> None:
    """Try the address with /v1, and say so where it is there; never changes what was entered."""
    if _VERSIONED.search(endpoint.base_url):
        return
    better = f"{endpoint.base_url}/v1"
    try:
        reply = await _ask(http, endpoint, better)
    except UpstreamError:
        return
    if _is_list(reply) or reply.status in {401, 403}:
        raise UpstreamBadRequest(
            f"No model API answers at {endpoint.base_url}, but one does at {better}: enter that URL."
        )


def _no_list(endpoint: Endpoint, reply: Reply) -> str:
    what = f"answers with HTTP status {reply.status}"
    if reply.status < 400:
        page = looks_like_html(reply.body[:2048].decode("utf-8", "replace"))
        what = "is a web page" if page else "holds no list of models"
    return (
        f"{endpoint.base_url}/models {what}, so the credential cannot be verified. Check the base URL (it usually "
        "ends in /v1); a server that has no list of models can be saved without verification."
    )

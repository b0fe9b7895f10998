"""One request whose answer comes whole, in any dialect: asked, its refusal named, its JSON read into a type."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from core.errors import InvalidInput, UpstreamProtocol
from core.wire.failures import failure, failure_in_stream, looks_like_html
from core.wire.http import Http, Reply

WEB_PAGE = (
    "The provider's server answered with a web page (HTML), not with an answer of a model. Check the base URL; it "
    "usually ends in /v1."
)
_UNREADABLE = "The provider's answer is not what its API promises: {problem}."

T = TypeVar("T")

_PAGES = 20


async def ask(
    http: Http,
    url: str,
    *,
    headers: Mapping[str, str],
    body: Mapping[str, Any] | bytes | None = None,
    secrets: tuple[str, ...] = (),
    method: str = "POST",
) -> Reply:
    """Send a request, as JSON where `body` is no bytes, and return an answer that is none of refusal and web page.

    Raises:
        ModelyardError: what the provider's refusal means, or that it could not be asked.
    """
    if body is not None and not isinstance(body, bytes):
        headers, body = {"content-type": "application/json", **headers}, msgspec.json.encode(body)
    reply = await http.request(method, url, headers=headers, body=body)
    if not 200 <= reply.status < 300:
        raise failure(reply.status, reply.headers, reply.body, secrets=secrets)
    if looks_like_html(reply.body[:2048].decode("utf-8", "replace")):
        raise UpstreamProtocol(WEB_PAGE)
    return reply


def read(reply: Reply, kind: type[T], secrets: tuple[str, ...] = ()) -> T:
    """Return an answer's JSON as a type.

    Raises:
        ModelyardError: what an error inside a 200 means.
        UpstreamProtocol: it is no JSON of this type.
    """
    try:
        return msgspec.json.decode(reply.body, type=kind)
    except (msgspec.MsgspecError, RecursionError) as unreadable:
        error = _error_in(reply.body)
        if error is not None:
            raise failure_in_stream(error, secrets=secrets) from None
        raise UpstreamProtocol(_UNREADABLE.format(problem=str(unreadable)[:200])) from None


async def ask_pages(
    http: Http,
    url: str,
    kind: type[T],
    following: Callable[[T], str | None],
    *,
    headers: Mapping[str, str],
    secrets: tuple[str, ...],
) -> list[T]:
    """Return the first 20 pages of a list; `following` says how a page's successor is asked for, None after the last.

    Raises:
        ModelyardError: as `ask` and `read`.
    """
    pages: list[T] = []
    after: str | None = ""
    while after is not None and len(pages) < _PAGES:
        reply = await ask(http, url + after, headers=headers, secrets=secrets, method="GET")
        pages.append(read(reply, kind, secrets))
        after = following(pages[-1])
    return pages


def passed_on(options: dict[str, Any], *reserved: str) -> dict[str, Any]:
    """Return provider options that may be sent as they are.

    Raises:
        InvalidInput: one of them is what the input itself says.
    """
    for name in reserved:
        if name in options:
            raise InvalidInput(f"providerOptions may not set {name!r}.", path=("providerOptions", name))
    return options


def _error_in(body: bytes) -> object:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None
    return value if isinstance(value, dict) and (value.get("error") or value.get("detail")) else None

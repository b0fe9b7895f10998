"""What a client wants back, and whether its page may ask at all."""

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers

GRAPHQL_JSON = "application/graphql-response+json"
JSON = "application/json"
EVENTS = "text/event-stream"
MIXED = "multipart/mixed"
_OFFERED = (GRAPHQL_JSON, JSON, EVENTS, MIXED)
_ANY = {"*/*": (JSON, GRAPHQL_JSON, EVENTS), "application/*": (JSON, GRAPHQL_JSON), "text/*": (EVENTS,)}


def wanted(accept: str | None) -> str | None:
    """Return the media type to answer with, None where nothing offered is acceptable. No header means JSON."""
    if not accept:
        return JSON
    ranges = _ranges(accept)
    refused = {media for quality, media, _ in ranges if quality == 0}
    for quality, media, parameters in ranges:
        if quality == 0 or (media == MIXED and "subscriptionspec" not in parameters):
            continue
        for offered in _ANY.get(media, (media,)):
            if offered in _OFFERED and (media == offered or not refused & {offered, f"{offered.partition('/')[0]}/*"}):
                return offered
    return None


def is_json_body(content_type: str | None) -> bool:
    """Tell whether a body is declared as JSON in UTF-8."""
    media, *parameters = [part.strip().lower() for part in (content_type or "").split(";")]
    charsets = [
        value.strip("\"' ") for name, _, value in (part.partition("=") for part in parameters) if name == "charset"
    ]
    return media == JSON and all(charset in {"utf-8", "utf8"} for charset in charsets)


def is_foreign(headers: Headers, allowed_origins: Collection[str]) -> bool:
    """Tell whether a browser says that a page of another origin asks, and that origin is not allowed."""
    origin = headers.get("origin")
    if origin is not None:
        return origin not in allowed_origins and not _same(origin, headers.get("host"))
    return headers.get("sec-fetch-site") == "cross-site"


def allowed_origin(headers: Headers, allowed_origins: Collection[str]) -> str | None:
    """Return the other origin whose page asks, where it is allowed to; None for anybody else."""
    origin = headers.get("origin")
    return origin if origin in allowed_origins else None


def _same(origin: str, host: str | None) -> bool:
    parts = urlsplit(origin)
    if parts.scheme not in {"http", "https"} or not parts.netloc or host is None:
        return False
    standard = {"http": ":80", "https": ":443"}[parts.scheme]
    return parts.netloc.lower().removesuffix(standard) == host.lower().removesuffix(standard)


def _ranges(accept: str) -> list[tuple[float, str, dict[str, str]]]:
    """Return the media ranges with their quality and parameters, the best first."""
    found = []
    for part in accept.split(","):
        media, *parameters = [piece.strip() for piece in part.split(";")]
        named = {name.strip().lower(): value.strip() for name, _, value in (one.partition("=") for one in parameters)}
        found.append((_quality(named.pop("q", "1")), media.lower(), named))
    return sorted(found, key=lambda one: -one[0])


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0

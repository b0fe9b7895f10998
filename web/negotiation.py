"""What a client wants back, and whether its page may ask at all."""

from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers

GRAPHQL_JSON = "application/graphql-response+json"
JSON = "application/json"
EVENTS = "text/event-stream"
MIXED = "multipart/mixed"
_OFFERED = (GRAPHQL_JSON, JSON, EVENTS, MIXED)
_ANY = {"*/*": JSON, "application/*": JSON}


@dataclass(frozen=True, slots=True)
class Wanted:
    """The media type that suits the client best, and whether it named it in a form that streams."""

    media: str
    streams: bool


def wanted(accept: str | None) -> Wanted | None:
    """Return what to answer with, None where nothing offered is acceptable. No header means JSON."""
    if not accept:
        return Wanted(JSON, streams=False)
    for media, parameters in _ranges(accept):
        media = _ANY.get(media, media)
        if media == MIXED and "subscriptionspec" not in parameters:
            continue
        if media in _OFFERED:
            return Wanted(media, streams=media in {EVENTS, MIXED})
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


def _same(origin: str, host: str | None) -> bool:
    parts = urlsplit(origin)
    if parts.scheme not in {"http", "https"} or not parts.netloc or host is None:
        return False
    standard = {"http": ":80", "https": ":443"}[parts.scheme]
    return parts.netloc.lower().removesuffix(standard) == host.lower().removesuffix(standard)


def _ranges(accept: str) -> list[tuple[str, dict[str, str]]]:
    """Return the media ranges, the best first, those of quality 0 left out."""
    found = []
    for place, part in enumerate(accept.split(",")):
        media, *parameters = [piece.strip() for piece in part.split(";")]
        named = {name.strip().lower(): value.strip() for name, _, value in (one.partition("=") for one in parameters)}
        quality = _quality(named.pop("q", "1"))
        if quality > 0:
            found.append((-quality, place, media.lower(), named))
    return [(media, named) for _, _, media, named in sorted(found, key=lambda one: one[:2])]


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0

"""Serves the explorer, GraphiQL and its files as they were built, from memory and under a strict policy."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

DIST = Path(__file__).parent / "dist"

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "vary": "accept-encoding",
}

_CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}

_ASK_EACH_TIME = "no-cache"
_FOR_EVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, kw_only=True)
class _File:
    """One built file. Its name changes with its content, but for the page itself."""

    body: bytes
    content_type: str
    cache_control: str

    @classmethod
    def read(cls, path: Path, cache_control: str) -> _File:
        return cls(body=path.read_bytes(), content_type=_CONTENT_TYPES[path.suffix], cache_control=cache_control)

    @cached_property
    def compressed(self) -> bytes:
        return gzip.compress(self.body, compresslevel=6, mtime=0)

    @cached_property
    def etag(self) -> str:
        # Weak: the same tag stands for the plain and the compressed form.
        return f'W/"{hashlib.sha256(self.body).hexdigest()[:16]}"'


def routes() -> list[Route]:
    """Return the routes of the explorer: the page at `/` and what it loads under `/assets/`.

    The files are read here, once, so that a request can name no other.

    Raises:
        FileNotFoundError: the explorer was not built.
    """
    page = _File.read(DIST / "index.html", _ASK_EACH_TIME)
    assets = {path.name: _File.read(path, _FOR_EVER) for path in (DIST / "assets").iterdir()}

    async def index(request: Request) -> Response:
        return _answer(request, page)

    async def asset(request: Request) -> Response:
        file = assets.get(request.path_params["name"])
        if file is None:
            return Response("Not found", 404, _HEADERS, media_type="text/plain")
        return _answer(request, file)

    return [Route("/", index, name="explorer"), Route("/assets/{name}", asset, name="explorer-asset")]


def _answer(request: Request, file: _File) -> Response:
    headers = {**_HEADERS, "cache-control": file.cache_control, "etag": file.etag}
    if _names_tag(request.headers.get("if-none-match", ""), file.etag):
        return Response(status_code=304, headers=headers)
    headers["content-type"] = file.content_type
    if _accepts_gzip(request.headers.get("accept-encoding", "")):
        return Response(file.compressed, headers={**headers, "content-encoding": "gzip"})
    return Response(file.body, headers=headers)


def _names_tag(if_none_match: str, etag: str) -> bool:
    opaque = etag.removeprefix("W/")
    named = (tag.strip().removeprefix("W/") for tag in if_none_match.split(","))
    return any(tag in (opaque, "*") for tag in named)


def _accepts_gzip(accept_encoding: str) -> bool:
    codings = (coding.replace(" ", "").lower() for coding in accept_encoding.split(","))
    return any(coding == "gzip" or (coding.startswith("gzip;q=") and not _is_zero(coding)) for coding in codings)


def _is_zero(coding: str) -> bool:
    return not coding.partition("q=")[2].strip("0.")

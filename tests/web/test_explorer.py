"""The explorer: what it serves, under which policy, and that it works in a real browser."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from graphql import build_schema, parse, validate
from starlette.applications import Starlette

from web import explorer

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "web" / "explorer" / "source"
SCHEMA = ROOT / "schema.graphql"


@pytest.fixture
async def client() -> httpx.AsyncClient:
    transport = httpx.ASGITransport(Starlette(routes=explorer.routes()))
    return httpx.AsyncClient(transport=transport, base_url="http://modelyard.test")


def paths(html: str) -> list[str]:
    return re.findall(r'(?:src|href)="([^"]+)"', html)


async def test_the_page_is_asked_for_each_time_and_allows_nothing_from_elsewhere(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.get("/")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    policy = dict(directive.strip().split(" ", 1) for directive in answer.headers["content-security-policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


async def test_the_page_names_only_its_own_files_and_no_inline_code(client: httpx.AsyncClient) -> None:
    html = (await client.get("/")).text

    assert len(paths(html)) >= 4
    assert all(re.fullmatch(r"/assets/[a-z]+-[0-9a-f]{12}\.(js|css|svg|txt)", path) for path in paths(html))
    assert "//" not in re.sub(r"<!doctype html>", "", html)
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", html)


@pytest.mark.parametrize(
    ("ending", "content_type"),
    [
        (".js", "text/javascript; charset=utf-8"),
        (".css", "text/css; charset=utf-8"),
        (".svg", "image/svg+xml"),
        (".txt", "text/plain; charset=utf-8"),
    ],
)
async def test_an_asset_has_its_type_and_is_kept_for_ever(
    client: httpx.AsyncClient, ending: str, content_type: str
) -> None:
    [path] = [path for path in paths((await client.get("/")).text) if path.endswith(ending)]

    answer = await client.get(path)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == content_type
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.content == (explorer.DIST / path.lstrip("/")).read_bytes()


@pytest.mark.parametrize("path", ["/", "/assets/nothing.js"])
async def test_every_answer_forbids_sniffing_and_framing(client: httpx.AsyncClient, path: str) -> None:
    headers = (await client.get(path)).headers

    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../index.html",
        "/assets/%2e%2e/index.html",
        "/assets/..%2f..%2f__init__.py",
        "/assets/%2e%2e%2f%2e%2e%2f__init__.py",
        "/assets/..\\..\\__init__.py",
        "/assets//etc/passwd",
        "/assets/source.sha256",
        "/assets/",
        "/source/package.json",
    ],
)
async def test_nothing_but_the_built_files_can_be_had(path: str) -> None:
    with serve(Starlette(routes=explorer.routes())) as address, socket.create_connection(address) as link:
        link.sendall(f"GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: link.recv(65536), b""))

    assert answer.split(b" ", 2)[1] == b"404"


async def test_a_browser_that_has_the_page_is_not_sent_it_again(client: httpx.AsyncClient) -> None:
    first = await client.get("/")

    again = await client.get("/", headers={"if-none-match": first.headers["etag"]})
    other = await client.get("/", headers={"if-none-match": '"another"'})

    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["cache-control"] == "no-cache"
    assert other.status_code == 200


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [("gzip", "gzip"), ("br, gzip;q=0.5", "gzip"), ("identity", None), ("gzip;q=0", None), ("", None)],
)
async def test_an_asset_is_compressed_for_those_who_can_read_it(
    client: httpx.AsyncClient, accepted: str, coding: str | None
) -> None:
    [path] = [path for path in paths((await client.get("/")).text) if path.endswith(".js")]
    plain = (explorer.DIST / path.lstrip("/")).read_bytes()

    async with client.stream("GET", path, headers={"accept-encoding": accepted}) as answer:
        body = b"".join([piece async for piece in answer.aiter_raw()])

    assert answer.headers["vary"] == "accept-encoding"
    assert answer.headers.get("content-encoding") == coding
    assert (gzip.decompress(body) if coding else body) == plain
    assert not coding or len(body) < len(plain) / 2


async def test_head_has_the_headers_of_get(client: httpx.AsyncClient) -> None:
    get, head = await client.get("/"), await client.head("/")

    assert head.status_code == 200
    assert head.headers == get.headers


async def test_the_explorer_writes_nothing(client: httpx.AsyncClient) -> None:
    assert (await client.post("/")).status_code == 405


def test_the_built_files_are_of_this_source() -> None:
    """`web/explorer/build` makes them; it notes the same sum, see sourceDigest in build.mjs."""
    digest = hashlib.sha256()
    names = (path.relative_to(SOURCE) for path in SOURCE.rglob("*") if path.is_file())
    for name in sorted(str(name) for name in names if "node_modules" not in name.parts):
        digest.update(f"{name}\0".encode() + (SOURCE / name).read_bytes() + b"\0")

    assert (explorer.DIST / "source.sha256").read_text().strip() == digest.hexdigest()


def test_the_built_files_fit_their_budget() -> None:
    sizes = [path.stat().st_size for path in explorer.DIST.rglob("*") if path.is_file()]

    assert sum(sizes) < 2_000_000


def test_the_built_files_load_nothing_from_elsewhere() -> None:
    [style] = (explorer.DIST / "assets").glob("*.css")

    assert not re.search(r"""url\((?!["']?data:image/)|@import|@font-face""", style.read_text())


@pytest.mark.parametrize(
    "path",
    sorted([*(SOURCE / "operations").glob("*.graphql"), *(SOURCE / "src").glob("*.graphql")]),
    ids=lambda path: path.stem,
)
def test_an_operation_of_the_explorer_is_valid_in_the_served_schema(path: Path) -> None:
    schema = build_schema(SCHEMA.read_text())

    assert [error.message for error in validate(schema, parse(path.read_text()))] == []


def test_each_sample_operation_is_offered_and_its_variables_belong_to_one() -> None:
    names = {path.stem for path in (SOURCE / "operations").glob("*.graphql")}
    index = (SOURCE / "operations" / "index.js").read_text()
    variables = json.loads((SOURCE / "operations" / "variables.json").read_text())

    assert set(re.findall(r'step\("([^"]+)"', index)) == names
    assert set(variables) <= names


@contextmanager
def serve(app: Starlette) -> Iterator[tuple[str, int]]:
    """Serve `app` from a thread, on a free port of the loopback interface."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()
    finally:
        server.should_exit = True
        thread.join()
        listener.close()

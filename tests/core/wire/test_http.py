"""The client against a server that misbehaves: what is raised, and that nothing stays open."""

import asyncio
import gzip
import socket
import ssl
import threading
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from core.errors import UpstreamBadRequest, UpstreamError, UpstreamProtocol, UpstreamTimeout, UpstreamUnavailable
from core.wire.egress import Egress
from core.wire.http import ANSWER_LIMIT, ERROR_LIMIT, UNREACHABLE, Http, check_header
from tests.fake_provider import FakeProvider
from tests.waiting import LIMIT_S, reserved_port, wait_for

CHAT = b'{"model": "m", "stream": true, "messages": []}'


@asynccontextmanager
async def server(answer: bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """Serve one fixed answer to whatever comes, then close."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if isinstance(answer, bytes):
            writer.write(answer)
        else:
            await answer(writer)
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        listening.close()


async def closed(provider: FakeProvider) -> bool:
    """Wait for the server to see no connection."""
    await wait_for(lambda: provider.open_connections == 0)
    return True


async def test_a_reply_is_read_whole(http: Http, provider: FakeProvider) -> None:
    reply = await http.request("GET", f"{provider.url}/models", headers={"X-Own": "1"})

    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.body.startswith(b'{"object": "list"')
    assert provider.requests[0].headers["x-own"] == "1"
    assert provider.requests[0].headers["user-agent"] == "modelyard"


async def test_a_stream_that_was_read_to_its_end_leaves_its_connection_for_the_next(
    http: Http, provider: FakeProvider
) -> None:
    for _ in range(3):
        async with http.stream("POST", f"{provider.url}/chat/completions", headers={}, body=CHAT) as answer:
            data = b"".join([chunk async for chunk in answer.iter_chunks()])
            assert data.endswith(b"data: [DONE]\n\n")

    assert provider.open_connections == 1


async def test_a_stream_that_is_left_early_closes_its_connection(http: Http, provider: FakeProvider) -> None:
    provider.answers("stall")

    async with http.stream("POST", f"{provider.url}/chat/completions", headers={}, body=CHAT) as answer:
        assert await answer.read()

    assert await closed(provider)


async def test_a_cancelled_request_closes_its_connection(http: Http, provider: FakeProvider) -> None:
    provider.answers("silent")

    asking = asyncio.create_task(http.request("POST", f"{provider.url}/chat/completions", headers={}, body=CHAT))
    await wait_for(lambda: provider.answering)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    assert len(provider.calls) == 1
    assert await closed(provider)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(http: Http, provider: FakeProvider, status: int) -> None:
    provider.answers("redirect", status=status, headers={"location": f"{provider.url}/models"})

    with pytest.raises(UpstreamBadRequest, match=f"redirect \\({status}\\).*base URL"):
        await http.request("POST", f"{provider.url}/chat/completions", headers={}, body=CHAT)

    assert len(provider.requests) == 1


async def test_nothing_of_the_environment_is_used(
    http: Http, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    assert (await http.request("GET", f"{provider.url}/models", headers={})).status == 200


async def test_cookies_of_one_call_do_not_reach_another(http: Http, provider: FakeProvider) -> None:
    provider.answers("bad_request", headers={"set-cookie": "session=secret; Path=/"})

    for _ in range(2):
        await http.request("GET", f"{provider.url}/chat/completions", headers={})

    assert all("cookie" not in request.headers for request in provider.requests)


async def test_a_refused_connection_an_unknown_name_and_a_denied_address_read_the_same(http: Http) -> None:
    texts = set()
    with reserved_port() as unused:
        for url in (f"http://127.0.0.1:{unused}/", "http://nobody.invalid:80/", "http://10.0.0.1/"):
            with pytest.raises(UpstreamUnavailable) as failed:
                await http.request("GET", url, headers={})
            texts.add(failed.value.message)

    assert texts == {UNREACHABLE}


async def test_a_server_that_takes_no_connection_is_given_up_in_time() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        fillers = []
        for _ in range(8):  # fills the backlog, so that the next handshake is not answered
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        async with Http.open(egress=Egress(["127.0.0.1:*"]), connect_seconds=0.2) as http, asyncio.timeout(LIMIT_S):
            # without the bound the kernel would go on knocking for two minutes
            with pytest.raises(UpstreamUnavailable) as failed:
                await http.request("GET", f"http://127.0.0.1:{port}/", headers={})
        for filler in fillers:
            filler.close()

    assert failed.value.message == UNREACHABLE


async def test_a_server_that_hangs_up_without_an_answer_is_unavailable(http: Http, provider: FakeProvider) -> None:
    provider.answers("hangs_up")

    with pytest.raises(UpstreamUnavailable, match="closed the connection without an answer"):
        await http.request("POST", f"{provider.url}/chat/completions", headers={}, body=CHAT)


async def test_a_certificate_that_nobody_vouches_for_is_refused(http: Http, tmp_path: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(self_signed(tmp_path))
    listening = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=tls)
    port = listening.sockets[0].getsockname()[1]

    with pytest.raises(UpstreamUnavailable, match="certificate"):
        await http.request("GET", f"https://127.0.0.1:{port}/", headers={})

    listening.close()


def self_signed(folder: Path) -> Path:
    """Write a certificate for 127.0.0.1 and its key into one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2126, 1, 1, tzinfo=UTC))
        .sign(key, hashes.SHA256())
    )
    file = folder / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return file


async def test_names_that_hang_do_not_hold_up_other_work(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: released.wait(2 * LIMIT_S) and [])
    async with Http.open(egress=Egress(), connect_seconds=0.2) as http:
        hanging = [http.request("GET", f"https://name-{number}.example/", headers={}) for number in range(20)]

        failures = await asyncio.gather(*hanging, return_exceptions=True)
        answer = await asyncio.wait_for(asyncio.to_thread(lambda: "at once"), LIMIT_S)
        released.set()

    assert {str(failure) for failure in failures} == {UNREACHABLE}
    assert answer == "at once"


async def test_what_is_not_http_is_a_protocol_failure(http: Http) -> None:
    async with server(b"SSH-2.0-OpenSSH_9.2\r\n\r\n") as url:
        with pytest.raises(UpstreamProtocol, match="readable HTTP"):
            await http.request("GET", url, headers={})


@pytest.mark.parametrize(
    "answer",
    [b"", b"SSH-2.0-OpenSSH_9.2\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", b"HTTP/1.1 307 X\r\n\r\n"],
)
async def test_no_failure_holds_the_key_anywhere(http: Http, answer: bytes) -> None:
    key = "sk-" + 20 * "7"
    async with server(answer) as url:
        with pytest.raises(UpstreamError) as failed:
            await http.request("GET", url, headers={"authorization": f"Bearer {key}"})

    shown = repr(failed.value) + repr(failed.value.__cause__) + "".join(traceback.format_exception(failed.value))
    assert key not in shown


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nshort\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 5\r\n\r\nshort",
    ],
)
async def test_a_body_that_breaks_off_or_cannot_be_decoded_is_a_protocol_failure(http: Http, answer: bytes) -> None:
    async with server(answer) as url:
        with pytest.raises(UpstreamProtocol):
            await http.request("GET", url, headers={})


async def test_silence_in_a_body_ends_at_the_safety_net(provider: FakeProvider) -> None:
    provider.answers("stall")

    async with Http.open(egress=Egress(["127.0.0.1:*"]), silence_seconds=0.1) as http:
        with pytest.raises(UpstreamTimeout, match="middle of its answer"):
            await http.request("POST", f"{provider.url}/chat/completions", headers={}, body=CHAT)

    assert await closed(provider)


async def test_silence_before_an_answer_ends_at_the_safety_net(provider: FakeProvider) -> None:
    provider.answers("silent")

    async with Http.open(egress=Egress(["127.0.0.1:*"]), silence_seconds=0.1) as http:
        with pytest.raises(UpstreamTimeout, match="in time"):
            await http.request("POST", f"{provider.url}/chat/completions", headers={}, body=CHAT)


async def test_a_body_above_the_limit_is_refused(http: Http) -> None:
    async with server(b"HTTP/1.1 200 OK\r\ncontent-length: 3000\r\n\r\n" + b"x" * 3000) as url:
        with pytest.raises(UpstreamProtocol, match="longer than 2 KiB"):
            await http.request("GET", url, headers={}, limit=2048)


async def test_a_small_body_that_unpacks_to_a_huge_one_is_refused(http: Http) -> None:
    packed = gzip.compress(bytes(ANSWER_LIMIT * 2))
    head = f"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {len(packed)}\r\n\r\n".encode()

    async with server(head + packed) as url:
        with pytest.raises(UpstreamProtocol, match="longer than"):
            await http.request("GET", url, headers={})


async def test_a_packed_body_is_unpacked(http: Http) -> None:
    packed = gzip.compress(b"hello")
    head = f"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {len(packed)}\r\n\r\n".encode()

    async with server(head + packed) as url:
        assert (await http.request("GET", url, headers={})).body == b"hello"


async def test_of_an_error_only_the_start_is_read(http: Http) -> None:
    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 500 Oops\r\ntransfer-encoding: chunked\r\n\r\n")
        while not writer.transport.is_closing():
            writer.write(b"1000\r\n" + b"e" * 4096 + b"\r\n")
            await writer.drain()

    async with server(endless) as url:
        reply = await http.request("GET", url, headers={})

    assert reply.status == 500
    assert len(reply.body) == ERROR_LIMIT


async def test_a_large_request_arrives_whole(http: Http, provider: FakeProvider) -> None:
    body = b'{"model": "m", "messages": "' + b"x" * (3 * 2**20) + b'"}'

    reply = await http.request("POST", f"{provider.url}/chat/completions", headers={}, body=body)

    assert reply.status == 200
    assert len(provider.calls[0].json["messages"]) == 3 * 2**20


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x bad", "1"),
        ("", "1"),
        ("x-own", "1\r\nhost: other"),
        ("x-own", "schlüssel"),
        ("Host", "other"),
        ("Content-Length", "1"),
        ("transfer-encoding", "chunked"),
    ],
)
def test_a_header_that_would_change_the_message_is_refused_without_showing_it(name: str, value: str) -> None:
    with pytest.raises(ValueError, match="header") as refused:
        check_header(name, value)

    assert value == "1" or value not in str(refused.value)

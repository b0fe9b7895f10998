"""HTTP to providers: the only file that opens a connection to the outside, every one past the egress guard."""

import asyncio
import io
import os
import re
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Self

import aiohttp
import certifi
from aiohttp.abc import AbstractResolver, ResolveResult

from core.errors import (
    UpstreamBadRequest,
    UpstreamError,
    UpstreamProtocol,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from core.wire.egress import VARIABLE, Egress, target_of, targeting
from core.wire.pacing import Pace

ERROR_LIMIT = 64 * 1024
ANSWER_LIMIT = 32 * 1024 * 1024

# One text for refused, filtered, unknown and not allowed: who may enter a URL must not learn what listens where.
UNREACHABLE = (
    "The provider's server cannot be reached: its name is unknown, nothing answers at its address, or the address is "
    f"not allowed. Check the base URL; a private or plain http address must be allowed by an operator with {VARIABLE}."
)
REDIRECTED = (
    "The provider's server answers with a redirect ({status}), and redirects are not followed. The base URL is "
    "likely wrong (http instead of https, or an old address): enter the final one."
)
_CUT_OFF = "The provider's answer broke off before it was complete."
_LATE = "The provider did not answer in time."
_NO_ANSWER = "The provider's server closed the connection without an answer."
_NOT_HTTP = "The provider's server does not answer in readable HTTP; check the base URL's scheme and port."
_CERTIFICATE = "The TLS certificate of the provider's server cannot be verified."

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_DRAIN_SECONDS = 0.05
_LARGE_BODY = 2**20
_LOOKUPS = 32


class Unreachable(UpstreamUnavailable):
    """Nobody answers at the address; who knows what it stands for can say more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A whole response, its body read; header names are looked up in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Answer:
    """A response whose body is still to come. Ends with the block that `Http.stream` opened."""

    __slots__ = ("_pace", "_response", "headers", "status")

    def __init__(self, response: aiohttp.ClientResponse, pace: Pace) -> None:
        self._response = response
        self._pace = pace
        self.status: int = response.status
        self.headers: Mapping[str, str] = response.headers

    async def read(self, *, may_rest: bool = False) -> bytes:
        """Return what has come in since the last call, waiting for at least one byte; b"" at the end.

        One that `may_rest` lets more come together first while the process falls behind: see `pacing`.

        Raises:
            UpstreamProtocol: the transfer broke off.
            UpstreamTimeout: nothing came for a long time.
        """
        if may_rest and self._pace.rest_s > 0:
            await self._rest()
        try:
            return await self._response.content.readany()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _broken_body(error) from error

    async def _rest(self) -> None:
        """Leave what comes to the kernel for a while."""
        connection = self._response.connection
        protocol = connection.protocol if connection is not None else None
        if protocol is None or not protocol.connected:
            return  # all has come, or nothing more will
        protocol.pause_reading()
        try:
            await self._pace.rest()
        finally:
            protocol.resume_reading()

    async def iter_chunks(self) -> AsyncIterator[bytes]:
        """Yield what `read` returns until the end."""
        while data := await self.read():
            yield data

    async def read_all(self, limit: int) -> bytes:
        """Return the rest of the body.

        Raises:
            UpstreamProtocol: it is longer than `limit` bytes, or broke off.
        """
        parts: list[bytes] = []
        size = 0
        while data := await self.read():
            size += len(data)
            if size > limit:
                raise UpstreamProtocol(f"The provider's answer is longer than {limit // 1024} KiB.")
            parts.append(data)
        return b"".join(parts)

    async def read_error(self) -> bytes:
        """Return the start of an error's body, at most 64 KiB; what breaks off is as good as whole."""
        parts: list[bytes] = []
        size = 0
        try:
            while size < ERROR_LIMIT and (data := await self.read()):
                parts.append(data)
                size += len(data)
        except UpstreamError:
            pass  # the status is what matters
        return b"".join(parts)[:ERROR_LIMIT]

    async def drain(self) -> None:
        """Wait a moment for the end of a body that has said all, so that its connection can serve again."""
        if self._response.content.is_eof():
            return
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                await self._response.content.readany()
        except (aiohttp.ClientError, OSError, TimeoutError):
            return  # the connection is closed instead


class Http:
    """One client of one egress profile. Shares no cookies, follows no redirects, reads no environment."""

    def __init__(self, session: aiohttp.ClientSession, egress: Egress, whole: aiohttp.ClientTimeout) -> None:
        self._session = session
        self._whole = whole
        self.pace = Pace()
        self.egress = egress

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        *,
        egress: Egress,
        connect_seconds: float = 5.0,
        write_seconds: float = 30.0,
        silence_seconds: float = 900.0,
        user_agent: str = "modelyard",
    ) -> AsyncIterator[Self]:
        """Open a client; its connections close with the block.

        `connect_seconds` bounds name lookup, TCP and TLS together; `write_seconds` how long sent bytes may stay
        unacknowledged (Linux); `silence_seconds` the time without a byte while `request` waits. Streams have no such
        bound, as a timer for every chunk costs more than decoding it: their reader sets the deadlines.
        """
        connector = aiohttp.TCPConnector(
            limit=0,
            ttl_dns_cache=10,
            keepalive_timeout=15,
            ssl=_tls(),
            resolver=_Resolver(),
            socket_factory=_guarded(egress, write_seconds),
        )
        streamed = aiohttp.ClientTimeout(total=None, connect=connect_seconds, sock_connect=connect_seconds)
        whole = aiohttp.ClientTimeout(
            total=None, connect=connect_seconds, sock_connect=connect_seconds, sock_read=silence_seconds
        )
        async with aiohttp.ClientSession(
            connector=connector,
            timeout=streamed,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"user-agent": user_agent},
            trust_env=False,
        ) as session:
            yield cls(session, egress, whole)

    @asynccontextmanager
    async def stream(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None = None
    ) -> AsyncIterator[Answer]:
        """Send a request and give its answer once the headers are there; leaving the block closes what is unread.

        Raises:
            UpstreamUnavailable: the server cannot be reached, or hangs up before it answers.
            UpstreamProtocol: what answers is not HTTP.
            UpstreamBadRequest: it redirects.
        """
        headers = {"accept-encoding": "identity", **headers}
        async with self._answer(method, url, headers, body, self._session.timeout) as answer:
            with self.pace.stream():
                yield answer

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        limit: int = ANSWER_LIMIT,
    ) -> Reply:
        """Send a request and return the whole answer; of an error at most the first 64 KiB.

        Raises:
            UpstreamError: as `stream`; also UpstreamProtocol for a body above `limit` or one that broke off.
        """
        headers = {"accept-encoding": "gzip, deflate", **headers}
        async with self._answer(method, url, headers, body, self._whole) as answer:
            content = await answer.read_all(limit) if answer.status < 400 else await answer.read_error()
            return Reply(status=answer.status, headers=answer.headers, body=content)

    @asynccontextmanager
    async def _answer(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, timeout: aiohttp.ClientTimeout
    ) -> AsyncIterator[Answer]:
        # A large body goes out in pieces, so that it does not hold up the others of the loop.
        data = io.BytesIO(body) if body is not None and len(body) > _LARGE_BODY else body
        try:
            with targeting(target_of(url)):
                response = await self._session.request(
                    method, url, headers=headers, data=data, allow_redirects=False, timeout=timeout
                )
        except aiohttp.ClientResponseError as error:
            raise _no_answer(error) from None  # its repr shows the request's headers, and so the key
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise _no_answer(error) from error
        try:
            if 300 <= response.status < 400:
                raise UpstreamBadRequest(REDIRECTED.format(status=response.status))
            yield Answer(response, self.pace)
        finally:
            response.close()


class _Resolver(AbstractResolver):
    """Looks names up in threads of its own: a name that never resolves must not hold up what else uses threads."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(max_workers=_LOOKUPS, thread_name_prefix="resolve")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return every address of a name.

        Raises:
            OSError: it has none.
        """
        lookup = partial(socket.getaddrinfo, host, port, family=family, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, lookup)
        return [
            ResolveResult(
                hostname=host,
                host=_address_text(sockaddr),
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, sockaddr in found
        ]

    async def close(self) -> None:
        """Start no further lookup."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _address_text(sockaddr: tuple[Any, ...]) -> str:
    """Return the address with its zone, where a link-local one has it."""
    return str(sockaddr[0]) if len(sockaddr) < 4 or not sockaddr[3] else f"{sockaddr[0]}%{sockaddr[3]}"


def check_header(name: str, value: str) -> None:
    """Refuse a header that HTTP cannot carry or that frames the message.

    Raises:
        ValueError: the text says why and shows no value.
    """
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError("a header name holds only letters, digits and -")
    if name.lower() in {
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "expect",
        "te",
        "upgrade",
    }:
        raise ValueError(f"the header {name} cannot be set")
    if not value.isprintable() or not value.isascii():
        raise ValueError(f"the value of header {name} holds control characters or others than ASCII")


@cache
def _tls() -> ssl.SSLContext | bool:
    """Trust what the system trusts, which aiohttp does; where it has no certificates, the list in the packages."""
    paths = ssl.get_default_verify_paths()
    has_own = paths.cafile is not None or (paths.capath is not None and any(os.scandir(paths.capath)))
    return has_own or ssl.create_default_context(cafile=certifi.where())


def _guarded(egress: Egress, write_seconds: float) -> Any:
    """Return a factory of sockets that asks the guard about the very address that is connected to."""

    def make(address_info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, sockaddr = address_info
        egress.check_connection(sockaddr[0])
        made = socket.socket(family, kind, protocol)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(write_seconds * 1000))
        return made

    return make


# The first that fits names a failure before the headers came; aiohttp's classes derive from one another.
_BEFORE_HEADERS: tuple[tuple[tuple[type[Exception], ...], type[UpstreamError], str], ...] = (
    (
        (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError),
        UpstreamUnavailable,
        _CERTIFICATE,
    ),
    ((aiohttp.SocketTimeoutError,), UpstreamTimeout, _LATE),
    ((aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError), Unreachable, UNREACHABLE),
    (
        (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError),
        UpstreamUnavailable,
        _NO_ANSWER,
    ),
    ((aiohttp.ClientResponseError, aiohttp.ClientPayloadError), UpstreamProtocol, _NOT_HTTP),
    ((Exception,), Unreachable, UNREACHABLE),
)


def _no_answer(error: Exception) -> UpstreamError:
    return next(failure(text) for kinds, failure, text in _BEFORE_HEADERS if isinstance(error, kinds))


def _broken_body(error: Exception) -> UpstreamError:
    """Name a failure after the headers came."""
    if isinstance(error, TimeoutError):
        return UpstreamTimeout("The provider stopped in the middle of its answer.")
    return UpstreamProtocol(_CUT_OFF)

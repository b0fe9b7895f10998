"""One question to a language model over HTTP, in any dialect: its refusal named, its answer decoded as it comes."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from core.errors import ModelyardError, UpstreamProtocol
from core.model_types.llm import Piece
from core.wire.asking import WEB_PAGE
from core.wire.failures import failure, looks_like_html
from core.wire.http import ANSWER_LIMIT, Answer, Http

EVENTS = frozenset({"text/event-stream", "text/plain", "application/octet-stream", ""})
LINES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", *EVENTS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One credential's server; `headers` hold its key."""

    base_url: str
    headers: Mapping[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)


class Decoding(Protocol):
    """Decodes one streamed answer; see `decoding.StreamDecoder`."""

    failure: ModelyardError | None

    @property
    def complete(self) -> bool:
        """Tell whether nothing more is to come."""
        ...

    def feed(self, data: bytes) -> list[Piece]:
        """Return the pieces that one network read completes."""
        ...

    def end(self) -> list[Piece]:
        """Return the last pieces when the bytes are at their end."""
        ...


Whole = Callable[[bytes], Sequence[Piece]]


async def streamed(
    http: Http,
    server: Server,
    path: str,
    body: bytes,
    *,
    decoder: Decoding,
    whole: Whole,
    types: frozenset[str] = EVENTS,
) -> AsyncGenerator[Sequence[Piece], None]:
    """Yield the pieces of each network read; closing it closes the connection. See `LanguageModels`.

    A server that does not stream is read by `whole`; `types` are the media types of a stream.
    """
    async with http.stream("POST", server.base_url + path, headers=_headers(server), body=body) as answer:
        if not 200 <= answer.status < 300:
            raise failure(answer.status, answer.headers, await answer.read_error(), secrets=server.secrets)
        if not _is_stream(answer, types):
            yield _read(await answer.read_all(ANSWER_LIMIT), whole)
            return
        while not decoder.complete:
            data = await answer.read()
            pieces = decoder.feed(data) if data else decoder.end()
            if pieces:
                yield pieces
            if decoder.failure is not None:
                raise decoder.failure
        await answer.drain()


async def answered(http: Http, server: Server, path: str, body: bytes, *, whole: Whole) -> Sequence[Piece]:
    """Return all pieces of an answer that is not streamed. See `LanguageModels`."""
    reply = await http.request("POST", server.base_url + path, headers=_headers(server), body=body)
    if not 200 <= reply.status < 300:
        raise failure(reply.status, reply.headers, reply.body, secrets=server.secrets)
    return _read(reply.body, whole)


def _headers(server: Server) -> dict[str, str]:
    return {"content-type": "application/json", **server.headers}


def _is_stream(answer: Answer, types: frozenset[str]) -> bool:
    """Tell whether an answer is, or passes for, a stream.

    Raises:
        UpstreamProtocol: it is something else altogether.
    """
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in types:
        return True
    if kind in {"text/html", "application/xhtml+xml"}:
        raise UpstreamProtocol(WEB_PAGE)
    if kind == "application/json" or kind.endswith("+json"):
        return False
    raise UpstreamProtocol(f"The provider's server answered with {kind[:80]!r}, not with a stream of events.")


def _read(body: bytes, whole: Whole) -> Sequence[Piece]:
    if looks_like_html(body[:2048].decode("utf-8", "replace")):
        raise UpstreamProtocol(WEB_PAGE)
    return whole(body)

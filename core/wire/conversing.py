"""One question to a language model over HTTP, in any dialect: its refusal named, its answer decoded as it comes."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from core.errors import ModelyardError, UpstreamProtocol
from core.model_types.llm import ChatRequest, Piece
from core.provider import Call, Values
from core.wire.asking import WEB_PAGE, ask
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request in the words of a dialect, and what reads its answer.

    `decoder` makes what decodes a stream, whose media types are `types`; `whole` reads an answer that does not stream.
    """

    url: str
    headers: Mapping[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    body: bytes = field(repr=False)
    decoder: Callable[[], Decoding]
    whole: Whole
    types: frozenset[str] = EVENTS


class Dialect(ABC):
    """Language models behind HTTP; a dialect says how a request is put. See `LanguageModels`."""

    def __init__(self, http: Http) -> None:
        self._http = http

    @abstractmethod
    async def _question(self, call: Call, request: ChatRequest, *, stream: bool) -> Question:
        """Put a request into the words of the dialect."""

    async def stream(self, call: Call, request: ChatRequest) -> AsyncGenerator[Sequence[Piece], None]:
        """Yield the pieces of each network read; closing it closes the connection."""
        async with self._asked(call, request) as (question, answer):
            if not _is_stream(answer, question.types):
                yield _read(await answer.read_all(ANSWER_LIMIT), question.whole)
                return
            decoder, has_spoken = question.decoder(), False
            while not decoder.complete:
                data = await answer.read(may_rest=has_spoken)
                pieces = decoder.feed(data) if data else decoder.end()
                has_spoken = has_spoken or bool(pieces)
                yield pieces  # none too: it is a sign of life
                if decoder.failure is not None:
                    raise decoder.failure
            await answer.drain()

    async def complete(self, call: Call, request: ChatRequest) -> Sequence[Piece]:
        """Return all pieces of an answer that is not streamed."""
        question = await self._question(call, request, stream=False)
        reply = await ask(
            self._http, question.url, headers=_headers(question), body=question.body, secrets=question.secrets
        )
        return question.whole(reply.body)

    @asynccontextmanager
    async def _asked(self, call: Call, request: ChatRequest) -> AsyncIterator[tuple[Question, Answer]]:
        """Ask for a stream."""
        question = await self._question(call, request, stream=True)
        async with self._open(question) as answer:
            if not 200 <= answer.status < 300:
                raise failure(answer.status, answer.headers, await answer.read_error(), secrets=question.secrets)
            yield question, answer

    def _open(self, question: Question) -> AbstractAsyncContextManager[Answer]:
        return self._http.stream("POST", question.url, headers=_headers(question), body=question.body)


class ServedDialect(Dialect):
    """A dialect whose server the credential's values name; `provider` is who can take its continuations back."""

    def __init__(self, http: Http, server_of: Callable[[Values], Server], provider: str) -> None:
        super().__init__(http)
        self._server_of = server_of
        self._provider = provider


def _headers(question: Question) -> dict[str, str]:
    return {"content-type": "application/json", **question.headers}


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

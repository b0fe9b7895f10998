"""The OpenAI chat completions dialect, spoken by OpenAI and by nearly every other server with quirks of its own."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from core.errors import UpstreamProtocol
from core.model_types.llm import ChatRequest, Piece
from core.provider import Call, Values
from core.wire.asking import WEB_PAGE
from core.wire.dialects.openai_chat.answer import StreamDecoder, decode_answer
from core.wire.dialects.openai_chat.endpoint import Endpoint, Quirks, check_models
from core.wire.dialects.openai_chat.request import encode_request
from core.wire.failures import failure, looks_like_html
from core.wire.http import ANSWER_LIMIT, Answer, Http

__all__ = ["Endpoint", "OpenAIChat", "Quirks", "check_models"]

_REMEMBERED_SERVERS = 1024
_STREAM_TYPES = frozenset({"text/event-stream", "text/plain", "application/octet-stream", ""})


class OpenAIChat:
    """The language models of a provider that speaks this dialect."""

    def __init__(self, http: Http, endpoint_of: Callable[[Values], Awaitable[Endpoint]], quirks: Quirks) -> None:
        self._http = http
        self._endpoint_of = endpoint_of
        self._quirks = quirks
        self._without_stream_options: dict[str, None] = {}  # servers that refused them, the oldest first

    async def stream(self, call: Call, request: ChatRequest) -> AsyncGenerator[Sequence[Piece], None]:
        """Yield the pieces of each network read; closing it closes the connection. See `LanguageModels`."""
        endpoint = await self._endpoint_of(call.values)
        async with self._streamed(endpoint, call, request) as answer:
            if not _is_stream(answer):
                yield await _unstreamed(answer, endpoint)
                return
            decoder = StreamDecoder(done_required=self._quirks.done_required, secrets=endpoint.secrets)
            while not decoder.complete:
                data = await answer.read()
                pieces = decoder.feed(data) if data else decoder.end()
                if pieces:
                    yield pieces
                if decoder.failure is not None:
                    raise decoder.failure
            await answer.drain()

    async def complete(self, call: Call, request: ChatRequest) -> Sequence[Piece]:
        """Return all pieces of an answer that is not streamed. See `LanguageModels`."""
        endpoint = await self._endpoint_of(call.values)
        body = encode_request(request, model=endpoint.model or call.model, quirks=self._quirks, stream=False)
        reply = await self._http.request(
            "POST", endpoint.url("chat/completions"), headers=_headers(endpoint), body=body
        )
        if not 200 <= reply.status < 300:
            raise failure(reply.status, reply.headers, reply.body, secrets=endpoint.secrets)
        return _decode_whole(reply.body, endpoint)

    @asynccontextmanager
    async def _streamed(self, endpoint: Endpoint, call: Call, request: ChatRequest) -> AsyncIterator[Answer]:
        """Ask for a stream; a server that refuses `stream_options` is asked once more without, and remembered."""
        model = endpoint.model or call.model
        asks = self._quirks.stream_options and endpoint.stream_options
        asks = asks and endpoint.base_url not in self._without_stream_options
        while True:
            body = encode_request(request, model=model, quirks=self._quirks, stream=True, stream_options=asks)
            async with self._http.stream(
                "POST", endpoint.url("chat/completions"), headers=_headers(endpoint), body=body
            ) as answer:
                if 200 <= answer.status < 300:
                    yield answer
                    return
                refusal = await answer.read_error()
            if not (asks and answer.status in {400, 422} and _names_stream_options(refusal)):
                raise failure(answer.status, answer.headers, refusal, secrets=endpoint.secrets)
            asks = False
            self._remember(endpoint.base_url)

    def _remember(self, base_url: str) -> None:
        self._without_stream_options[base_url] = None
        if len(self._without_stream_options) > _REMEMBERED_SERVERS:
            del self._without_stream_options[next(iter(self._without_stream_options))]


def _headers(endpoint: Endpoint) -> dict[str, str]:
    return {"content-type": "application/json", **endpoint.headers}


def _names_stream_options(refusal: bytes) -> bool:
    return any(name in refusal for name in (b"stream_options", b"include_usage", b"include_obfuscation"))


def _media_type(answer: Answer) -> str:
    return answer.headers.get("content-type", "").partition(";")[0].strip().lower()


def _is_stream(answer: Answer) -> bool:
    """Tell whether an answer is, or passes for, a stream of events.

    Raises:
        UpstreamProtocol: it is something else altogether.
    """
    kind = _media_type(answer)
    if kind in _STREAM_TYPES:
        return True
    if kind in {"text/html", "application/xhtml+xml"}:
        raise UpstreamProtocol(WEB_PAGE)
    if kind == "application/json" or kind.endswith("+json"):
        return False
    raise UpstreamProtocol(f"The provider's server answered with {kind[:80]!r}, not with a stream of events.")


async def _unstreamed(answer: Answer, endpoint: Endpoint) -> Sequence[Piece]:
    """Take the whole answer of a server that was asked for a stream and does not know how, or its error."""
    return _decode_whole(await answer.read_all(ANSWER_LIMIT), endpoint)


def _decode_whole(body: bytes, endpoint: Endpoint) -> Sequence[Piece]:
    if looks_like_html(body[:2048].decode("utf-8", "replace")):
        raise UpstreamProtocol(WEB_PAGE)
    return decode_answer(body, secrets=endpoint.secrets)

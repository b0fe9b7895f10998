"""The native dialect of Ollama: lines of JSON, and the size of the context with every request."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import partial

from core.model_types.llm import ChatRequest, Piece
from core.provider import Call, Values
from core.wire.conversing import LINES, Server, answered, streamed
from core.wire.credential import text_of
from core.wire.dialects.ollama.answer import decode_answer, stream_decoder
from core.wire.dialects.ollama.request import encode_request
from core.wire.http import Http

__all__ = ["OllamaChat"]

_PATH = "/api/chat"


class OllamaChat:
    """The language models of a provider that speaks this dialect; `provider` is its name."""

    def __init__(self, http: Http, server_of: Callable[[Values], Server], provider: str) -> None:
        self._http = http
        self._server_of = server_of
        self._provider = provider

    async def stream(self, call: Call, request: ChatRequest) -> AsyncGenerator[Sequence[Piece], None]:
        """Yield the pieces of each network read; closing it closes the connection. See `LanguageModels`."""
        server = self._server_of(call.values)
        decoder = stream_decoder(self._provider, secrets=server.secrets)
        pieces = streamed(
            self._http,
            server,
            _PATH,
            self._encode(call, request, stream=True),
            decoder=decoder,
            whole=self._whole(server),
            types=LINES,
        )
        async with aclosing(pieces):
            async for batch in pieces:
                yield batch

    async def complete(self, call: Call, request: ChatRequest) -> Sequence[Piece]:
        """Return all pieces of an answer that is not streamed. See `LanguageModels`."""
        server = self._server_of(call.values)
        body = self._encode(call, request, stream=False)
        return await answered(self._http, server, _PATH, body, whole=self._whole(server))

    def _encode(self, call: Call, request: ChatRequest, *, stream: bool) -> bytes:
        return encode_request(
            request,
            model=text_of(call.values, "upstream_model") or call.model,
            context=int(text_of(call.values, "context_size") or 0) or call.card.context_window,
            keep_alive=text_of(call.values, "keep_alive") or None,
            provider=self._provider,
            stream=stream,
        )

    def _whole(self, server: Server) -> Callable[[bytes], Sequence[Piece]]:
        return partial(decode_answer, provider=self._provider, secrets=server.secrets)

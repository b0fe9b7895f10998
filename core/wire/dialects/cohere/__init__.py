"""The Cohere v2 chat dialect."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import partial

from core.model_types.llm import ChatRequest, Piece
from core.provider import Call, Values
from core.wire.conversing import Server, answered, streamed
from core.wire.dialects.cohere.answer import decode_answer, stream_decoder
from core.wire.dialects.cohere.request import encode_request
from core.wire.http import Http

__all__ = ["CohereChat"]

_PATH = "/v2/chat"


class CohereChat:
    """The language models of a provider that speaks this dialect; `provider` is its name."""

    def __init__(self, http: Http, server_of: Callable[[Values], Server], provider: str) -> None:
        self._http = http
        self._server_of = server_of
        self._provider = provider

    async def stream(self, call: Call, request: ChatRequest) -> AsyncGenerator[Sequence[Piece], None]:
        """Yield the pieces of each network read; closing it closes the connection. See `LanguageModels`."""
        server = self._server_of(call.values)
        body = encode_request(request, model=call.model, provider=self._provider, stream=True)
        decoder = stream_decoder(self._provider, secrets=server.secrets)
        pieces = streamed(self._http, server, _PATH, body, decoder=decoder, whole=self._whole(server))
        async with aclosing(pieces):
            async for batch in pieces:
                yield batch

    async def complete(self, call: Call, request: ChatRequest) -> Sequence[Piece]:
        """Return all pieces of an answer that is not streamed. See `LanguageModels`."""
        server = self._server_of(call.values)
        body = encode_request(request, model=call.model, provider=self._provider, stream=False)
        return await answered(self._http, server, _PATH, body, whole=self._whole(server))

    def _whole(self, server: Server) -> Callable[[bytes], Sequence[Piece]]:
        return partial(decode_answer, provider=self._provider, secrets=server.secrets)

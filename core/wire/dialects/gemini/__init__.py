"""The Gemini generateContent dialect."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from urllib.parse import quote

from core.model_types.llm import ChatRequest, Piece
from core.provider import Call, Values
from core.wire.conversing import Server, answered, streamed
from core.wire.dialects.gemini.answer import decode_answer, stream_decoder
from core.wire.dialects.gemini.request import encode_request
from core.wire.http import Http

__all__ = ["GeminiContent", "model_path"]


class GeminiContent:
    """The language models of a provider that speaks this dialect; `provider` is its name.

    A server's base URL ends in the version of the API.
    """

    def __init__(self, http: Http, server_of: Callable[[Values], Server], provider: str) -> None:
        self._http = http
        self._server_of = server_of
        self._provider = provider

    async def stream(self, call: Call, request: ChatRequest) -> AsyncGenerator[Sequence[Piece], None]:
        """Yield the pieces of each network read; closing it closes the connection. See `LanguageModels`."""
        server = self._server_of(call.values)
        body = encode_request(request, call=call, provider=self._provider)
        path = f"{model_path(call.model)}:streamGenerateContent?alt=sse"
        decoder = stream_decoder(self._provider, secrets=server.secrets)
        pieces = streamed(self._http, server, path, body, decoder=decoder, whole=self._whole(server))
        async with aclosing(pieces):
            async for batch in pieces:
                yield batch

    async def complete(self, call: Call, request: ChatRequest) -> Sequence[Piece]:
        """Return all pieces of an answer that is not streamed. See `LanguageModels`."""
        server = self._server_of(call.values)
        body = encode_request(request, call=call, provider=self._provider)
        path = f"{model_path(call.model)}:generateContent"
        return await answered(self._http, server, path, body, whole=self._whole(server))

    def _whole(self, server: Server) -> Callable[[bytes], Sequence[Piece]]:
        return partial(decode_answer, provider=self._provider, secrets=server.secrets)


def model_path(model: str) -> str:
    """Return where a model is below the version: its own kind of name may stand in front, as in `tunedModels/x`."""
    if model.startswith("tunedModels/"):
        return f"/tunedModels/{quote(model.removeprefix('tunedModels/'), safe='')}"
    return f"/models/{quote(model.removeprefix('models/'), safe='')}"

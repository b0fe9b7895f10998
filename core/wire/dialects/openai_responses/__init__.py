"""The OpenAI responses dialect: what OpenAI's reasoning models prefer, as it takes their reasoning back."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import partial

from core.model_types.llm import ChatRequest, Piece
from core.provider import Call, Values
from core.wire.conversing import Server, answered, streamed
from core.wire.dialects.openai_chat import Endpoint
from core.wire.dialects.openai_responses.answer import decode_answer, stream_decoder
from core.wire.dialects.openai_responses.request import encode_request
from core.wire.http import Http

__all__ = ["OpenAIResponses"]


class OpenAIResponses:
    """The language models of a provider that speaks this dialect; `provider` is its name."""

    def __init__(self, http: Http, endpoint_of: Callable[[Values], Awaitable[Endpoint]], provider: str) -> None:
        self._http = http
        self._endpoint_of = endpoint_of
        self._provider = provider

    async def stream(self, call: Call, request: ChatRequest) -> AsyncGenerator[Sequence[Piece], None]:
        """Yield the pieces of each network read; closing it closes the connection. See `LanguageModels`."""
        endpoint = await self._endpoint_of(call.values)
        model = endpoint.model or call.model
        body = encode_request(request, model=model, card=call.card, provider=self._provider, stream=True)
        decoder = stream_decoder(self._provider, secrets=endpoint.secrets)
        whole = self._whole(endpoint)
        pieces = streamed(self._http, _server(endpoint), _path(endpoint), body, decoder=decoder, whole=whole)
        async with aclosing(pieces):
            async for batch in pieces:
                yield batch

    async def complete(self, call: Call, request: ChatRequest) -> Sequence[Piece]:
        """Return all pieces of an answer that is not streamed. See `LanguageModels`."""
        endpoint = await self._endpoint_of(call.values)
        model = endpoint.model or call.model
        body = encode_request(request, model=model, card=call.card, provider=self._provider, stream=False)
        return await answered(self._http, _server(endpoint), _path(endpoint), body, whole=self._whole(endpoint))

    def _whole(self, endpoint: Endpoint) -> Callable[[bytes], Sequence[Piece]]:
        return partial(decode_answer, provider=self._provider, secrets=endpoint.secrets)


def _server(endpoint: Endpoint) -> Server:
    return Server(base_url=endpoint.base_url, headers=endpoint.headers, secrets=endpoint.secrets)


def _path(endpoint: Endpoint) -> str:
    return f"/responses{endpoint.query}"

"""The OpenAI responses dialect: what OpenAI's reasoning models prefer, as it takes their reasoning back."""

from collections.abc import Awaitable, Callable
from functools import partial

from core.model_types.llm import ChatRequest
from core.provider import Call, Values
from core.wire.conversing import Dialect, Question
from core.wire.dialects.openai_chat import Endpoint
from core.wire.dialects.openai_responses.answer import decode_answer, stream_decoder
from core.wire.dialects.openai_responses.request import encode_request
from core.wire.http import Http

__all__ = ["OpenAIResponses"]


class OpenAIResponses(Dialect):
    """The language models of a provider that speaks this dialect; `provider` is its name."""

    def __init__(self, http: Http, endpoint_of: Callable[[Values], Awaitable[Endpoint]], provider: str) -> None:
        super().__init__(http)
        self._endpoint_of = endpoint_of
        self._provider = provider

    async def _question(self, call: Call, request: ChatRequest, *, stream: bool) -> Question:
        endpoint = await self._endpoint_of(call.values)
        model = endpoint.model or call.model
        return Question(
            url=endpoint.url("responses"),
            headers=endpoint.headers,
            secrets=endpoint.secrets,
            body=encode_request(request, model=model, card=call.card, provider=self._provider, stream=stream),
            decoder=partial(stream_decoder, self._provider, secrets=endpoint.secrets),
            whole=partial(decode_answer, provider=self._provider, secrets=endpoint.secrets),
        )

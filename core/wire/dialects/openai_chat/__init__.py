"""The OpenAI chat completions dialect, spoken by OpenAI and by nearly every other server with quirks of its own."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

from core.model_types.llm import ChatRequest
from core.provider import Call, Values
from core.wire.conversing import Dialect, Question
from core.wire.dialects.openai_chat.answer import StreamDecoder, decode_answer
from core.wire.dialects.openai_chat.endpoint import Endpoint, Quirks, check_models
from core.wire.dialects.openai_chat.request import encode_request
from core.wire.failures import failure
from core.wire.http import Answer, Http

__all__ = ["Endpoint", "OpenAIChat", "Quirks", "check_models"]

_REMEMBERED_SERVERS = 1024


class OpenAIChat(Dialect):
    """The language models of a provider that speaks this dialect; `provider` is its name."""

    def __init__(
        self, http: Http, endpoint_of: Callable[[Values], Awaitable[Endpoint]], quirks: Quirks, provider: str
    ) -> None:
        super().__init__(http)
        self._endpoint_of = endpoint_of
        self._quirks = quirks
        self._provider = provider
        self._without_stream_options: dict[str, None] = {}  # servers that refused them, the oldest first

    async def _question(self, call: Call, request: ChatRequest, *, stream: bool) -> Question:
        return self._put(await self._endpoint_of(call.values), call, request, stream=stream, stream_options=False)

    @asynccontextmanager
    async def _asked(self, call: Call, request: ChatRequest) -> AsyncIterator[tuple[Question, Answer]]:
        """Ask for a stream; a server that refuses `stream_options` is asked once more without, and remembered."""
        endpoint = await self._endpoint_of(call.values)
        asks = self._quirks.stream_options and endpoint.stream_options
        asks = asks and endpoint.base_url not in self._without_stream_options
        while True:
            question = self._put(endpoint, call, request, stream=True, stream_options=asks)
            async with self._open(question) as answer:
                if 200 <= answer.status < 300:
                    yield question, answer
                    return
                refusal = await answer.read_error()
            if not (asks and answer.status in {400, 422} and _names_stream_options(refusal)):
                raise failure(answer.status, answer.headers, refusal, secrets=endpoint.secrets)
            asks = False
            self._remember(endpoint.base_url)

    def _put(
        self, endpoint: Endpoint, call: Call, request: ChatRequest, *, stream: bool, stream_options: bool
    ) -> Question:
        model, quirks = endpoint.model or call.model, self._quirks
        return Question(
            url=endpoint.url("chat/completions"),
            headers=endpoint.headers,
            secrets=endpoint.secrets,
            body=encode_request(
                request,
                model=model,
                quirks=quirks,
                stream=stream,
                stream_options=stream_options,
                provider=self._provider,
            ),
            decoder=partial(
                StreamDecoder,
                provider=self._provider,
                done_required=quirks.done_required,
                secrets=endpoint.secrets,
            ),
            whole=partial(decode_answer, provider=self._provider, secrets=endpoint.secrets),
        )

    def _remember(self, base_url: str) -> None:
        self._without_stream_options[base_url] = None
        if len(self._without_stream_options) > _REMEMBERED_SERVERS:
            del self._without_stream_options[next(iter(self._without_stream_options))]


def _names_stream_options(refusal: bytes) -> bool:
    return any(name in refusal for name in (b"stream_options", b"include_usage", b"include_obfuscation"))

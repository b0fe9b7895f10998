"""The Anthropic messages dialect."""

from functools import partial

from core.model_types.llm import ChatRequest
from core.provider import Call
from core.wire.conversing import Question, ServedDialect
from core.wire.dialects.anthropic.answer import decode_answer, stream_decoder
from core.wire.dialects.anthropic.request import encode_request

__all__ = ["AnthropicMessages"]


class AnthropicMessages(ServedDialect):
    """The language models of a provider that speaks this dialect; `provider` is its name."""

    async def _question(self, call: Call, request: ChatRequest, *, stream: bool) -> Question:
        server = self._server_of(call.values)
        return Question(
            url=server.base_url + "/v1/messages",
            headers=server.headers,
            secrets=server.secrets,
            body=encode_request(request, call=call, provider=self._provider, stream=stream),
            decoder=partial(stream_decoder, self._provider, secrets=server.secrets),
            whole=partial(decode_answer, provider=self._provider, secrets=server.secrets),
        )

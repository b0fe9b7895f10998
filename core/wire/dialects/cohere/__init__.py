"""The Cohere v2 chat dialect."""

from functools import partial

from core.model_types.llm import ChatRequest
from core.provider import Call
from core.wire.conversing import Question, ServedDialect
from core.wire.dialects.cohere.answer import decode_answer, stream_decoder
from core.wire.dialects.cohere.request import encode_request

__all__ = ["CohereChat"]


class CohereChat(ServedDialect):
    """The language models of a provider that speaks this dialect; `provider` is its name."""

    async def _question(self, call: Call, request: ChatRequest, *, stream: bool) -> Question:
        server = self._server_of(call.values)
        return Question(
            url=server.base_url + "/v2/chat",
            headers=server.headers,
            secrets=server.secrets,
            body=encode_request(request, model=call.model, provider=self._provider, stream=stream),
            decoder=partial(stream_decoder, self._provider, secrets=server.secrets),
            whole=partial(decode_answer, provider=self._provider, secrets=server.secrets),
        )

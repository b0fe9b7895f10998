"""The native dialect of Ollama: lines of JSON, and the size of the context with every request."""

from functools import partial

from core.model_types.llm import ChatRequest
from core.provider import Call
from core.wire.conversing import LINES, Question, ServedDialect
from core.wire.credential import text_of
from core.wire.dialects.ollama.answer import decode_answer, stream_decoder
from core.wire.dialects.ollama.request import encode_request

__all__ = ["OllamaChat"]


class OllamaChat(ServedDialect):
    """The language models of a provider that speaks this dialect; `provider` is its name."""

    async def _question(self, call: Call, request: ChatRequest, *, stream: bool) -> Question:
        server = self._server_of(call.values)
        return Question(
            url=server.base_url + "/api/chat",
            headers=server.headers,
            secrets=server.secrets,
            body=encode_request(
                request,
                model=text_of(call.values, "upstream_model") or call.model,
                context=int(text_of(call.values, "context_size") or 0) or call.card.context_window,
                keep_alive=text_of(call.values, "keep_alive") or None,
                provider=self._provider,
                stream=stream,
            ),
            decoder=partial(stream_decoder, self._provider, secrets=server.secrets),
            whole=partial(decode_answer, provider=self._provider, secrets=server.secrets),
            types=LINES,
        )

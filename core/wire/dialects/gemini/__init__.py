"""The Gemini generateContent dialect."""

from functools import partial
from urllib.parse import quote

from core.model_types.llm import ChatRequest
from core.provider import Call
from core.wire.conversing import Question, ServedDialect
from core.wire.dialects.gemini.answer import decode_answer, stream_decoder
from core.wire.dialects.gemini.request import encode_request

__all__ = ["GeminiContent", "model_path"]

_STREAMED, _WHOLE = "streamGenerateContent?alt=sse", "generateContent"


class GeminiContent(ServedDialect):
    """The language models of a provider that speaks this dialect; `provider` is its name.

    A server's base URL ends in the version of the API.
    """

    async def _question(self, call: Call, request: ChatRequest, *, stream: bool) -> Question:
        server = self._server_of(call.values)
        return Question(
            url=f"{server.base_url}{model_path(call.model)}:{_STREAMED if stream else _WHOLE}",
            headers=server.headers,
            secrets=server.secrets,
            body=encode_request(request, call=call, provider=self._provider),
            decoder=partial(stream_decoder, self._provider, secrets=server.secrets),
            whole=partial(decode_answer, provider=self._provider, secrets=server.secrets),
        )


def model_path(model: str) -> str:
    """Return where a model is below the version: its own kind of name may stand in front, as in `tunedModels/x`."""
    if model.startswith("tunedModels/"):
        return f"/tunedModels/{quote(model.removeprefix('tunedModels/'), safe='')}"
    return f"/models/{quote(model.removeprefix('models/'), safe='')}"

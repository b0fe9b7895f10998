"""OpenAI's moderation: POST /moderations."""

from collections.abc import Awaitable, Callable

import msgspec

from core.model_types.moderation import Category, ModerationRequest, Verdict
from core.provider import Call, Values
from core.wire.asking import ask, passed_on, read
from core.wire.dialects.openai_chat import Endpoint
from core.wire.http import Http


class _Result(msgspec.Struct):
    flagged: bool | None = None
    categories: dict[str, bool | None] = {}
    category_scores: dict[str, float | None] = {}


class _Answer(msgspec.Struct):
    results: list[_Result]


class OpenAIModerations:
    """The moderation models of a provider that speaks this dialect."""

    def __init__(self, http: Http, endpoint_of: Callable[[Values], Awaitable[Endpoint]]) -> None:
        self._http = http
        self._endpoint_of = endpoint_of

    async def moderate(self, call: Call, request: ModerationRequest) -> Verdict:
        """Return what the model finds. See `Moderators`."""
        endpoint = await self._endpoint_of(call.values)
        body = {"model": endpoint.model or call.model, "input": request.text}
        body |= passed_on(request.provider_options, "model", "input")
        reply = await ask(
            self._http, endpoint.url("moderations"), headers=endpoint.headers, body=body, secrets=endpoint.secrets
        )
        results = read(reply, _Answer, endpoint.secrets).results
        categories = {
            name: Category(flagged=bool(flagged), score=result.category_scores.get(name))
            for result in results
            for name, flagged in result.categories.items()
        }
        flagged = any(one.flagged for one in categories.values()) or any(result.flagged for result in results)
        return Verdict(flagged=flagged, categories=categories)

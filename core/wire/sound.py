"""Sound that a provider streams: raw bytes as they come, of any format, for any dialect."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any

import msgspec

from core.errors import UpstreamProtocol
from core.wire.asking import WEB_PAGE
from core.wire.failures import failure, failure_in_stream
from core.wire.http import ERROR_LIMIT, Answer, Http

_NO_SOUND = "The provider's answer holds no sound."


async def sound(
    http: Http,
    url: str,
    *,
    headers: Mapping[str, str],
    body: Mapping[str, Any],
    secrets: tuple[str, ...] = (),
) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of an answer that is sound; closing it closes the connection.

    Raises:
        ModelyardError: what the provider's refusal means, or that it could not be asked.
        UpstreamProtocol: the answer is something else, empty, or broke off.
    """
    headers = {"content-type": "application/json", **headers}
    async with http.stream("POST", url, headers=headers, body=msgspec.json.encode(body)) as answer:
        if not 200 <= answer.status < 300:
            raise failure(answer.status, answer.headers, await answer.read_error(), secrets=secrets)
        await _check_kind(answer, secrets)
        is_empty = True
        async for data in answer.iter_chunks():
            is_empty = False
            yield data
        if is_empty:
            raise UpstreamProtocol(_NO_SOUND)


async def _check_kind(answer: Answer, secrets: tuple[str, ...]) -> None:
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in {"text/html", "application/xhtml+xml"}:
        raise UpstreamProtocol(WEB_PAGE)
    if kind == "application/json" or kind.startswith("text/"):
        try:
            error = msgspec.json.decode(await answer.read_all(ERROR_LIMIT))
        except (msgspec.DecodeError, RecursionError):
            error = None
        if isinstance(error, dict) and (error.get("error") or error.get("detail")):
            raise failure_in_stream(error, secrets=secrets)
        raise UpstreamProtocol(_NO_SOUND)

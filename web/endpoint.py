"""The GraphQL view over HTTP: what a request must be, and the answer in the form that its client takes."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from graphql import GraphQLError
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from core.app import App
from core.errors import ErrorCode, ModelyardError, Unauthenticated
from graph.context import Context, make_context
from graph.documents import Prepared, Refused
from graph.execution import Engine, refusal, single
from web.auth import secret_of, viewer_of
from web.negotiation import EVENTS, GRAPHQL_JSON, JSON, MIXED, allowed_origin, is_foreign, is_json_body, wanted
from web.streams import StreamingAnswer, left

MAX_BODY = 256 * 1024
MAX_MEDIA_BODY = 28 * 1024 * 1024
"""What a body may have of one whose token is valid: images and recordings are given in base64, 20 MB at most."""

MAX_VALUES = 100_000
"""How many values a large body may hold, so that reading it holds nobody up: media are one value each."""

MAX_DEPTH = 64
MAX_PARAMETERS = 32
QUERY_SECONDS = 30.0
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
)
PREFLIGHT_SECONDS = 600
"""How long a browser may remember that it need not ask before it asks."""

_BEARER = ((b"www-authenticate", b"Bearer"),)
_decode = msgspec.json.Decoder().decode
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)


class Unfit(Exception):
    """A request that is no GraphQL request; `status` is HTTP's word for why."""

    def __init__(self, status: int, message: str, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A well-formed GraphQL request."""

    query: str
    variables: Mapping[str, Any] | None
    operation_name: str | None

    @classmethod
    def of(cls, body: Any) -> "Request":
        """Return the request that a decoded body is. Unfit where it is none."""
        if not isinstance(body, dict):
            raise Unfit(400, "The body must be a JSON object.")
        query, name = body.get("query"), body.get("operationName")
        variables, extensions = body.get("variables"), body.get("extensions")
        if not isinstance(query, str) or not query:
            raise Unfit(400, "`query` must be the text of a document.")
        if len(query) > MAX_BODY:
            raise Unfit(413, f"The document may have at most {MAX_BODY // 1024} KiB: send long values in `variables`.")
        if name is not None and not isinstance(name, str):
            raise Unfit(400, "`operationName` must be a string.")
        for field, value in (("variables", variables), ("extensions", extensions)):
            if value is not None and not isinstance(value, dict):
                raise Unfit(400, f"`{field}` must be an object.")
        return cls(query=query, variables=variables, operation_name=name or None)


class HttpEndpoint:
    """Serves queries and mutations as one answer, subscriptions as a stream."""

    def __init__(self, app: App, engine: Engine) -> None:
        self._app = app
        self._engine = engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        want = wanted(",".join(headers.getlist("accept")))
        media = want if want in {GRAPHQL_JSON, JSON} else JSON
        origin = allowed_origin(headers, self._app.settings.allowed_origins)
        if origin is not None:
            send = _readable(send, origin)
        try:
            if origin is not None and scope["method"] == "OPTIONS":
                await _let_ask(send, headers)
                return
            if scope["method"] not in {"GET", "POST"}:
                raise Unfit(405, "Use GET or POST.", [(b"allow", b"GET, POST")])
            if want is None:
                raise Unfit(406, f"Accept one of: {GRAPHQL_JSON}, {JSON}, {EVENTS}, {MIXED}; subscriptionSpec=1.0.")
            if is_foreign(headers, self._app.settings.allowed_origins):
                raise Unfit(403, "Pages of other origins may not call this API; MODELYARD_ALLOWED_ORIGINS allows one.")
            request = await self._request(scope, headers, receive)
            await self._serve(scope, receive, send, headers, request, want)
        except Unfit as unfit:
            error = GraphQLError(unfit.message)
            await _answer(send, unfit.status, media, refusal(Refused(error)), unfit.headers)
        except Refused as refused:
            status = _status(refused)
            if status == 400 and want == JSON:
                status = 200  # what older clients expect of a well-formed request
            await _answer(send, status, media, refusal(refused), _BEARER if status == 401 else ())
        except TimeoutError:
            cause = GraphQLError("The operation took too long and was stopped.", extensions={"code": "TIMEOUT"})
            await _answer(send, 504, media, refusal(Refused(cause)))
        except Exception as fault:
            # A stream that has begun tells of its own faults, so here nothing has been sent.
            cause = GraphQLError("The request failed.", original_error=fault)
            await _answer(send, 500, media, refusal(Refused(cause)))

    async def _request(self, scope: Scope, headers: Headers, receive: Receive) -> Request:
        if scope["method"] == "GET":
            if len(scope["query_string"]) > MAX_BODY:
                raise Unfit(414, f"The query string may have at most {MAX_BODY // 1024} KiB.")
            if not scope["query_string"]:
                raise Unfit(400, "This is the GraphQL API: send it a document, or try it in the explorer at `/`.")
            return Request.of(_query_string(scope["query_string"]))
        if not is_json_body(headers.get("content-type")):
            raise Unfit(415, "The content type must be application/json, in UTF-8.")
        body = await self._body(headers, receive)
        if len(body) > MAX_BODY and is_crowded(body):
            raise Unfit(413, f"The body may hold at most {MAX_VALUES:,} values.")
        return Request.of(decoded(body))

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        """Return the body; of more than a little only who has a token is listened to."""
        length = headers.get("content-length", "0")
        most = MAX_BODY
        if not length.isdecimal() or int(length) > most:
            most = await self._most(headers)
            if not length.isdecimal() or int(length) > most:
                raise _too_long(most)
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Unfit(400, "The body ended too early.")
            part = message.get("body", b"")
            size += len(part)
            if size > most == MAX_BODY:
                most = await self._most(headers)
            if size > most:
                raise _too_long(most)
            parts.append(part)
            if not message.get("more_body"):
                return b"".join(parts)

    async def _most(self, headers: Headers) -> int:
        """Return how many bytes a body of whoever sends these headers may have."""
        try:
            viewer = await viewer_of(self._app, secret_of(headers))
        except ModelyardError as error:
            raise Refused(GraphQLError(error.message, original_error=error)) from error
        return MAX_MEDIA_BODY if viewer is not None else MAX_BODY

    async def _serve(
        self, scope: Scope, receive: Receive, send: Send, headers: Headers, request: Request, media: str
    ) -> None:
        try:
            viewer = await viewer_of(self._app, secret_of(headers))
        except ModelyardError as error:
            raise Refused(GraphQLError(error.message, original_error=error)) from error
        context = make_context(self._app, viewer, last_event_id := headers.get("last-event-id") or None)
        try:
            prepared = self._engine.prepare(request.query, request.operation_name, context)
            _check_way(prepared, scope["method"], media)
            if prepared.is_subscription:
                payloads = await self._engine.subscribe(prepared, request.variables, context)
                answer = StreamingAnswer(payloads, media, _HEADERS, resumes=last_event_id is not None)
                await answer(scope, receive, send)
                return
            payload = await self._executed(receive, prepared, request, context)
        finally:
            await context.aclose()
        if payload is not None and media in {EVENTS, MIXED}:
            await StreamingAnswer(single(payload), media, _HEADERS)(scope, receive, send)
        elif payload is not None:
            await _answer(send, 200, media, payload)

    async def _executed(self, receive: Receive, prepared: Prepared, request: Request, context: Context) -> bytes | None:
        """Return the payload of a query or mutation; None where the client has left a call that it waited for."""
        payload = self._engine.execute(prepared, request.variables, context, self._seconds(prepared))
        if not prepared.checked.is_billable:
            return await payload
        answered, gone = asyncio.ensure_future(payload), asyncio.ensure_future(left(receive))
        try:
            await asyncio.wait({answered, gone}, return_when=asyncio.FIRST_COMPLETED)
            return answered.result() if answered.done() else None
        finally:
            gone.cancel()
            answered.cancel()
            await asyncio.shield(asyncio.gather(answered, return_exceptions=True))

    def _seconds(self, prepared: Prepared) -> float:
        return self._app.settings.call_seconds + 30 if prepared.is_mutation else QUERY_SECONDS


def _check_way(prepared: Prepared, method: str, media: str) -> None:
    if prepared.is_mutation and method == "GET":
        raise Unfit(405, "A mutation is sent by POST.", [(b"allow", b"POST")])
    if prepared.is_subscription and media not in {EVENTS, MIXED}:
        raise Unfit(
            406,
            f"A subscription is a stream: accept {EVENTS}, or {MIXED}; subscriptionSpec=1.0, or use a WebSocket with "
            "graphql-transport-ws.",
        )


def decoded(data: bytes | str) -> Any:
    """Return a JSON text as values. Unfit where it is none, or nests too deeply."""
    try:
        value = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Unfit(400, "The body is not JSON in UTF-8.") from None
    except RecursionError:
        raise Unfit(400, "The body is nested too deeply.") from None
    if _is_deeper(value, MAX_DEPTH):
        raise Unfit(400, "The body is nested too deeply.")
    return value


def is_crowded(body: bytes) -> bool:
    """Tell whether a JSON text holds more than MAX_VALUES values; the commas of its strings separate none."""
    if body.count(b",") < MAX_VALUES:
        return False
    count, end = 0, 0
    for text in _STRING.finditer(body):
        count += body.count(b",", end, text.start())
        end = text.end()
        if count >= MAX_VALUES:
            return True
    return count + body.count(b",", end) >= MAX_VALUES


def _is_deeper(value: Any, limit: int) -> bool:
    """Tell whether lists and objects nest deeper than this, without recursion."""
    level = [value]
    for _ in range(limit):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def _too_long(most: int) -> Unfit:
    return Unfit(413, f"The body may have at most {most // 1024} KiB.")


def _query_string(raw: bytes) -> dict[str, Any]:
    try:
        given: dict[str, Any] = dict(
            parse_qsl(raw.decode(), keep_blank_values=True, strict_parsing=bool(raw), max_num_fields=MAX_PARAMETERS)
        )
    except (ValueError, UnicodeDecodeError):
        raise Unfit(400, "The query string cannot be read.") from None
    for name in ("variables", "extensions"):
        if given.get(name):
            given[name] = decoded(given[name])
        else:
            given.pop(name, None)
    return given


def _status(refused: Refused) -> int:
    causes = [error.original_error for error in refused.errors]
    if any(isinstance(cause, Unauthenticated) for cause in causes):
        return 401
    unavailable = any(
        isinstance(cause, ModelyardError) and cause.code is ErrorCode.SERVER_UNAVAILABLE for cause in causes
    )
    return 503 if unavailable else 400


def _readable(send: Send, origin: str) -> Send:
    """Return how to answer a page of another origin that is allowed: its browser shows it the answer."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            named = ((b"access-control-allow-origin", origin.encode()), (b"vary", b"origin"))
            message = {**message, "headers": [*message["headers"], *named]}
        await send(message)

    return sent


async def _let_ask(send: Send, headers: Headers) -> None:
    """Answer the browser that asks, before a request of such a page, whether that may be sent."""
    allowed = [
        (b"access-control-allow-methods", b"GET, POST"),
        (b"access-control-allow-headers", headers.get("access-control-request-headers", "").encode("latin-1")),
        (b"access-control-max-age", b"%d" % PREFLIGHT_SECONDS),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": allowed})
    await send({"type": "http.response.body", "body": b""})


async def _answer(
    send: Send, status: int, media: str, body: bytes, headers: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    content = [
        (b"content-type", f"{media}; charset=utf-8".encode()),
        (b"content-length", b"%d" % len(body)),
        *_HEADERS,
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": content})
    await send({"type": "http.response.body", "body": body})

"""Where payment gateways tell what happened: taken in whole and signed, answered at once, done by a worker."""

import logging

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from core.app import App
from core.errors import Forbidden, InvalidInput, ServerUnavailable
from core.payment_events import receive
from web.negotiation import is_foreign

log = logging.getLogger(__name__)

MAX_BODY = 512 * 1024
_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


async def webhook(request: Request) -> Response:
    """Answer 200 once an event is kept, or is of no concern; 503 asks the gateway to tell it again."""
    app: App = request.app.state.app
    gateway = app.gateways.get(request.path_params["gateway"])
    if gateway is None or gateway.is_offline:
        return _answer(404, "There is no such gateway here.")
    if is_foreign(request.headers, app.settings.allowed_origins):
        return _answer(403, "A gateway's events come from no page.")
    try:
        body = await _body(request)
        if body is None:
            return _answer(413, f"An event has at most {MAX_BODY // 1024} KiB.")
        await receive(app, gateway, body, request.headers)
    except ClientDisconnect:
        return _answer(400, "The body ended too early.")
    except (Forbidden, InvalidInput) as error:
        log.warning("an event of %s is refused: %s", gateway.name, error.message)
        return _answer(400, error.message)
    except ServerUnavailable as error:
        log.warning("an event of %s could not be kept: %s", gateway.name, error.message)
        return _answer(503, "The event could not be kept: send it again.")
    return _answer(200, None)


def routes() -> list[Route]:
    """Return the routes of the webhooks."""
    return [Route("/webhooks/{gateway}", webhook, methods=["POST"])]


async def _body(request: Request) -> bytes | None:
    """Return the body as it was sent; None where it is too long."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BODY:
            return None
        parts.append(part)
    return b"".join(parts)


def _answer(status: int, problem: str | None) -> Response:
    content = msgspec.json.encode({"received": problem is None} | ({"problem": problem} if problem else {}))
    return Response(content, status, _HEADERS, "application/json")

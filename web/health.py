"""Whether the process runs, and whether it can serve."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from core.app import App

_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


async def live(request: Request) -> Response:
    """Answer as long as the process runs."""
    return _json({"ok": True}, 200)


async def ready(request: Request) -> Response:
    """Answer 200 while the process can serve, else 503: the database does not answer, or it is stopping.

    Calls go on without Redis, so that one that is away is a warning: `redis` says so.
    """
    app: App = request.app.state.app
    database, redis = await app.health.database(), await app.health.redis()
    ok = database.ok and not app.running.closing
    parts = {
        name: {"ok": part.ok, "engine": part.engine, "problem": part.problem}
        for name, part in (("database", database), ("redis", redis))
    }
    return _json({"ok": ok, "stopping": app.running.closing, **parts}, 200 if ok else 503)


def _json(content: object, status: int) -> Response:
    return Response(msgspec.json.encode(content), status, _HEADERS, "application/json")

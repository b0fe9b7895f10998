"""Who asks: the bearer secret of a request or of a socket's first message, looked up for each operation."""

from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers

from core.access import Viewer
from core.app import App
from core.errors import Unauthenticated
from core.secret import Secret, hash_secret

MAX_SECRET = 512


def secret_of(headers: Headers) -> Secret | None:
    """Return the bearer secret of an Authorization header, None where there is none.

    Raises:
        Unauthenticated: the header is there and of another form.
    """
    return _bearer(headers.get("authorization"))


def secret_of_payload(payload: Any) -> Secret | None:
    """Return the bearer secret of a `connection_init` payload, None where there is none.

    Raises:
        Unauthenticated: one is there and of another form.
    """
    if not isinstance(payload, Mapping):
        return None
    given = next((value for name, value in payload.items() if str(name).lower() == "authorization"), None)
    if given is not None and not isinstance(given, str):
        raise _malformed()
    return _bearer(given)


async def viewer_of(app: App, secret: Secret | None) -> Viewer | None:
    """Return who a secret stands for now, None where none was given.

    Raises:
        Unauthenticated: it is unknown, revoked or expired.
    """
    if secret is None:
        return None
    viewer = await app.identity.viewer(hash_secret(secret.reveal()))
    if viewer is None:
        raise Unauthenticated("This token is unknown, revoked or expired: send another one.")
    return viewer


def _bearer(text: str | None) -> Secret | None:
    if text is None or not text.strip():
        return None
    scheme, _, secret = text.strip().partition(" ")
    if scheme.lower() != "bearer" or not secret.strip() or len(secret) > MAX_SECRET:
        raise _malformed()
    return Secret(secret.strip())


def _malformed() -> Unauthenticated:
    return Unauthenticated("The authorization has another form than `Bearer TOKEN`.")

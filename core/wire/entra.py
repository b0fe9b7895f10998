"""Tokens of Microsoft Entra ID for an application: asked for once, kept while they last."""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from urllib.parse import quote, urlencode

import msgspec

from core.errors import ModelyardError, UpstreamAuthentication
from core.wire.asking import ask, read
from core.wire.http import Http

AUTHORITY = "https://login.microsoftonline.com"
_KEPT = 1024
_EARLY_S = 300.0


class _Token(msgspec.Struct):
    access_token: str
    expires_in: float


class Entra:
    """The tokens of a process, by tenant, application, secret and scope; two that ask at once ask together."""

    def __init__(self, http: Http, *, authority: str = AUTHORITY, clock: Callable[[], float] = time.monotonic) -> None:
        self._http = http
        self._authority = authority
        self._clock = clock
        self._kept: OrderedDict[bytes, tuple[str, float]] = OrderedDict()
        self._locks: dict[bytes, asyncio.Lock] = {}

    async def token(self, tenant: str, client_id: str, client_secret: str, scope: str) -> str:
        """Return a token that lasts for some minutes more.

        Raises:
            UpstreamAuthentication: Entra does not know the tenant, the application or its secret.
            ModelyardError: it could not be asked.
        """
        asked = f"{tenant}\0{client_id}\0{client_secret}\0{scope}"
        key = hashlib.sha256(asked.encode()).digest()
        lock = self._locks.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                kept = self._kept.get(key)
                if kept is None or kept[1] <= self._clock():
                    kept = await self._ask(tenant, client_id, client_secret, scope)
                    self._kept[key] = kept
                    while len(self._kept) > _KEPT:
                        self._kept.popitem(last=False)
                return kept[0]
        finally:
            if not lock.locked():
                self._locks.pop(key, None)

    async def _ask(self, tenant: str, client_id: str, client_secret: str, scope: str) -> tuple[str, float]:
        form = {
            "grant_type": "client_credentials",
            "client_id": client_id,
            "client_secret": client_secret,
            "scope": scope,
        }
        url = f"{self._authority}/{quote(tenant, safe='')}/oauth2/v2.0/token"
        headers = {"content-type": "application/x-www-form-urlencoded"}
        secrets = (client_secret,)
        try:
            reply = await ask(self._http, url, headers=headers, body=urlencode(form).encode(), secrets=secrets)
        except ModelyardError as refusal:
            if refusal.rests is not None and refusal.retryable:
                raise
            raise UpstreamAuthentication(
                "Microsoft Entra gives no token for this application: check tenant, client id and client secret (its "
                f"value, not its id). {refusal.message}"[:600]
            ) from refusal
        token = read(reply, _Token, secrets)
        return token.access_token, self._clock() + max(0.0, token.expires_in - _EARLY_S)

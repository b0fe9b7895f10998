"""Stripe for tests: a real HTTP server with the parts of its API that we use, and the events that it would send.

async with FakeStripe.open() as fake:
    ... a gateway whose base is fake.url ...
    body = fake.pays(session_id)
    headers = fake.signed(body, at=clock.now())
"""

import asyncio
import json
import socket
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress
from copy import deepcopy
from datetime import datetime
from typing import Any, Self
from urllib.parse import parse_qsl

import stripe
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

KEY = "sk_test_0123456789abcdef"
SECRET = "whsec_0123456789abcdef"


class FakeStripe:
    """The server. `troubles` are what the next requests meet: a status, "lost" (done, not answered) or "hangs".

    `refunded_as` is how refunds begin; `lowers`: what its charge has refunded is less when one of them has failed.
    """

    def __init__(self) -> None:
        self.url = ""
        self.sessions: dict[str, dict[str, Any]] = {}
        self.charges: dict[str, dict[str, Any]] = {}
        self.refunds: list[dict[str, Any]] = []
        self.requests: list[str] = []
        self.troubles: deque[int | str] = deque()
        self.refunded_as = "succeeded"
        self.lowers = True
        self.hanging = asyncio.Event()
        self._answers: dict[str, tuple[str, dict[str, Any]]] = {}
        self._numbers = 0

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator[Self]:
        """Serve on a free port until the block ends."""
        fake = cls()
        routes = [
            Route("/v1/checkout/sessions", fake._served(fake._create_session), methods=["POST"]),
            Route("/v1/checkout/sessions/{id}/expire", fake._served(fake._expire_session), methods=["POST"]),
            Route("/v1/refunds", fake._served(fake._create_refund), methods=["POST"]),
        ]
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            fake.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            config = uvicorn.Config(
                Starlette(routes=routes), lifespan="off", log_config=None, timeout_graceful_shutdown=1
            )
            server = _Server(config)
            serving = asyncio.create_task(server.serve(sockets=[listening]))
            try:
                while not server.started:
                    await asyncio.sleep(0.01)
                yield fake
            finally:
                fake.hanging.set()
                server.should_exit = True
                with suppress(asyncio.CancelledError):
                    await serving

    # ---- what payers and banks do: each returns the event that Stripe sends

    def pays(self, session_id: str, kind: str = "checkout.session.completed", **changed: Any) -> bytes:
        """Let somebody pay on a page."""
        session = self.sessions[session_id]
        if session["payment_intent"] is None:
            intent = session["payment_intent"] = self._id("pi")
            self.charges[intent] = {
                "id": self._id("ch"),
                "object": "charge",
                "amount": session["amount_total"],
                "amount_refunded": 0,
                "currency": session["currency"],
                "payment_intent": intent,
                "metadata": session["intent_metadata"],
            }
        session |= {"payment_status": "paid", "status": "complete"}
        return self.event(kind, session | changed)

    def pays_back(self, intent: str, amount: int) -> bytes:
        """Let somebody pay back in Stripe's own pages."""
        self._pay_back(intent, amount, {})
        return self.event("charge.refunded", self.charges[intent])

    def tells(self, kind: str, refund_id: str) -> bytes:
        """Tell of one refund as it is."""
        return self.event(kind, self.refund(refund_id))

    def fails(self, refund_id: str, kind: str = "refund.failed", status: str = "failed") -> bytes:
        """Let a refund come back from the payer's bank, or be cancelled; `lowers` says whether its charge tells."""
        refund = self.refund(refund_id)
        if refund["status"] not in {"failed", "canceled"} and self.lowers:
            self.charges[refund["payment_intent"]]["amount_refunded"] -= refund["amount"]
        refund["status"] = status
        return self.event(kind, refund)

    def refund(self, refund_id: str) -> dict[str, Any]:
        """Return a refund."""
        return next(one for one in self.refunds if one["id"] == refund_id)

    def disputes(self, intent: str, kind: str = "created", status: str = "needs_response", **changed: Any) -> bytes:
        """Let the payer's bank dispute a payment, or close that."""
        charge = self.charges[intent]
        dispute = {"id": f"dp_{intent}", "object": "dispute", "payment_intent": intent, "charge": charge["id"]}
        dispute |= {"amount": charge["amount"], "currency": charge["currency"], "status": status}
        return self.event(f"charge.dispute.{kind}", dispute | changed)

    def event(self, kind: str, about: dict[str, Any]) -> bytes:
        """Return the body of an event."""
        shown = {key: value for key, value in deepcopy(about).items() if key != "intent_metadata"}
        event = {"id": self._id("evt"), "object": "event", "type": kind, "livemode": False, "data": {"object": shown}}
        return json.dumps(event).encode()

    @staticmethod
    def signed(body: bytes, at: datetime, secret: str = SECRET) -> dict[str, str]:
        """Return the headers that Stripe sends with a body."""
        header = stripe.WebhookSignature.generate_signature_header(body.decode(), secret, int(at.timestamp()))
        return {"stripe-signature": header, "content-type": "application/json; charset=utf-8"}

    # ---- the API

    def _served(self, answer: Any) -> Any:
        async def serve(request: Request) -> Response:
            given = _nested(parse_qsl((await request.body()).decode(), keep_blank_values=True))
            self.requests.append(request.url.path)
            trouble = self.troubles.popleft() if self.troubles else None
            if request.headers.get("authorization") != f"Bearer {KEY}":
                return _error(401, "invalid_request_error", "Invalid API Key provided.")
            if isinstance(trouble, int):
                return _error(trouble, "api_error", "Something went wrong.")
            status, made = self._once(request, given, answer)
            if trouble == "lost":
                return Response(status_code=500)  # done, and nobody is told
            if trouble == "hangs":
                await self.hanging.wait()
            return JSONResponse(made, status)

        return serve

    def _once(self, request: Request, given: dict[str, Any], answer: Any) -> tuple[int, dict[str, Any]]:
        """Return what the first request with this key was answered."""
        key, text = request.headers.get("idempotency-key", self._id("key")), json.dumps(given, sort_keys=True)
        if key in self._answers and self._answers[key][0] != text:
            return 400, _problem(
                "idempotency_error", "Keys for idempotent requests can only be used with the same parameters."
            )
        if key not in self._answers:
            status, made = answer(request, given)
            if status != 200:
                return status, made
            self._answers[key] = (text, deepcopy(made))
        return 200, self._answers[key][1]

    def _create_session(self, request: Request, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        items = list(given["line_items"].values())
        if any(item["price_data"]["currency"] == "kpw" for item in items):
            return 400, _problem("invalid_request_error", "Invalid currency: kpw.")
        session_id = self._id("cs_test")
        session = {
            "id": session_id,
            "object": "checkout.session",
            "url": f"https://checkout.stripe.test/{session_id}",
            "client_reference_id": given["client_reference_id"],
            "metadata": given["metadata"],
            "amount_total": sum(int(item["price_data"]["unit_amount"]) * int(item["quantity"]) for item in items),
            "currency": items[0]["price_data"]["currency"],
            "expires_at": int(given["expires_at"]),
            "payment_intent": None,
            "payment_status": "unpaid",
            "status": "open",
            "intent_metadata": given["payment_intent_data"]["metadata"],
        }
        self.sessions[session_id] = session
        return 200, session

    def _expire_session(self, request: Request, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        session = self.sessions[request.path_params["id"]]
        if session["status"] != "open":
            return 400, _problem("invalid_request_error", "This Session is not open.")
        session["status"] = "expired"
        return 200, session

    def _create_refund(self, request: Request, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        charge, amount = self.charges[given["payment_intent"]], int(given["amount"])
        if amount > charge["amount"] - charge["amount_refunded"]:
            return 400, _problem("invalid_request_error", "Refund amount is greater than unrefunded amount on charge.")
        refund = self._pay_back(given["payment_intent"], amount, given["metadata"])
        return 200, refund | {"charge": charge}

    def _pay_back(self, intent: str, amount: int, metadata: dict[str, Any]) -> dict[str, Any]:
        charge = self.charges[intent]
        charge["amount_refunded"] += amount
        refund = {"id": self._id("re"), "object": "refund", "amount": amount, "currency": charge["currency"]}
        refund |= {"status": self.refunded_as, "payment_intent": intent, "charge": charge["id"], "metadata": metadata}
        self.refunds.append(refund)
        return refund

    def _id(self, prefix: str) -> str:
        self._numbers += 1
        return f"{prefix}_{self._numbers}"


class _Server(uvicorn.Server):
    """A server that leaves the signals to pytest."""

    def capture_signals(self) -> Any:
        return nullcontext()


def _problem(kind: str, message: str) -> dict[str, Any]:
    return {"error": {"type": kind, "message": message}}


def _error(status: int, kind: str, message: str) -> Response:
    return JSONResponse(_problem(kind, message), status)


def _nested(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """Return what Stripe's form says: `a[b][0]=c`."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        *outer, last = name.replace("]", "").split("[")
        place = found
        for key in outer:
            place = place.setdefault(key, {})
        place[last] = value
    return found

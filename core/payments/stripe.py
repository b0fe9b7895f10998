"""The gateway `stripe`: pages of Stripe Checkout, refunds by its API, and the events that its webhook tells of."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, NoReturn, TypeVar
from uuid import UUID, uuid5

import msgspec
import stripe

from core.entities import Order, PaymentEvent, PaymentKind, Product, Refund
from core.errors import Forbidden, InvalidInput, PaymentFailed, ServerUnavailable, UpstreamError
from core.gateway import Checkout
from core.ids import uuid7
from core.secret import Secret
from core.wire.http import Http

log = logging.getLogger(__name__)

NAME = "stripe"
TOLERANCE_S = 300.0
"""How old a signature may be: a request that was caught on the way is worth nothing later."""

_ORDER = "modelyard_order"
_REFUND = "modelyard_refund"
_ELSEWHERE = UUID("019aa7a4-7c1e-7d52-9a40-5d2f2c1b6e03")
"""The names of refunds that were not asked for here are made in this namespace, of Stripe's ids."""
_RETRIES = 1
_MESSAGE = 300
_DESCRIPTION = 500
# A page may be open from half an hour to a day from when it is made (docs.stripe.com/payments/checkout, read on
# 2026-11-21), and a worker may make it some minutes after the order.
_SHORTEST, _LONGEST = timedelta(hours=1), timedelta(hours=24)
_NOW = "Stripe does not answer now: try again in a moment."
# A refund that is one of these has come to nothing, maybe weeks after it was made
# (docs.stripe.com/refunds#failed-refunds, read on 2026-11-21).
_NOT_PAID_BACK = frozenset({"failed", "canceled"})

T = TypeVar("T")


class Stripe:
    """Orders are paid on a page of Stripe, whose events tell what came of it."""

    name = NAME
    is_offline = False

    def __init__(
        self,
        http: Http,
        now_s: Callable[[], float],
        *,
        secret_key: Secret,
        webhook_secret: Secret,
        api_base: str,
        return_url: str,
    ) -> None:
        self._now_s = now_s
        self._webhook_secret = webhook_secret
        self._return_url = return_url
        self._client = stripe.StripeClient(
            secret_key.reveal(),
            base_addresses={"api": api_base},
            http_client=_Transport(http, api_base),
            max_network_retries=_RETRIES,
        )

    async def open_checkout(self, order: Order, product: Product) -> Checkout:
        """Return the page where the order is paid; a repeat returns the same.

        Raises:
            PaymentFailed: Stripe refuses the order.
            ServerUnavailable: it does not answer now.
        """
        until = min(max(order.expires_at, order.created_at + _SHORTEST), order.created_at + _LONGEST)
        named: dict[str, Any] = {"name": product.name}
        if product.description:
            named["description"] = product.description[:_DESCRIPTION]
        price = {
            "currency": order.currency.lower(),
            "unit_amount": order.total_amount // order.quantity,
            "product_data": named,
        }
        params: Any = {
            "mode": "payment",
            "client_reference_id": str(order.id),
            "metadata": {_ORDER: str(order.id)},
            "payment_intent_data": {"metadata": {_ORDER: str(order.id)}},
            "line_items": [{"quantity": order.quantity, "price_data": price}],
            "success_url": self._return(order, "paid"),
            "cancel_url": self._return(order, "left"),
            "expires_at": int(until.timestamp()),
        }
        session = await _asked(
            self._client.v1.checkout.sessions.create_async(params, _once(f"modelyard-order-{order.id}"))
        )
        return Checkout(payment_id=session.id, url=session.url)

    async def close_checkout(self, payment_id: str) -> None:
        """Take no payment on a page any more. Raises as `open_checkout`."""
        await _asked(self._client.v1.checkout.sessions.expire_async(payment_id))

    async def refund(self, order: Order, refund: Refund) -> int | None:
        """Pay back; return all that was refunded of the order so far, None where that is not known.

        Raises:
            PaymentFailed: Stripe refuses it.
            ServerUnavailable: it does not answer now, and may have done it.
        """
        if order.transaction_id is None:
            raise PaymentFailed("Stripe has not told by which transaction this order was paid: pay it back there.")
        params: Any = {
            "payment_intent": order.transaction_id,
            "amount": refund.amount,
            "metadata": {
                _ORDER: str(order.id),
                _REFUND: str(refund.id),
                "reason": (refund.reason or "")[:_DESCRIPTION],
            },
            "expand": ["charge"],
        }
        made = await _asked(self._client.v1.refunds.create_async(params, _once(f"modelyard-refund-{refund.id}")))
        if made.status in _NOT_PAID_BACK:
            raise PaymentFailed(f"Stripe could not pay back: the refund is {made.status}.")
        return made.charge.amount_refunded if isinstance(made.charge, stripe.Charge) else None

    def event_of(self, body: bytes, headers: Mapping[str, str]) -> PaymentEvent | None:
        """Return what a request to the webhook tells; None where that is nothing of concern.

        Raises:
            Forbidden: Stripe has not signed it with this endpoint's secret, or not now.
            InvalidInput: it is signed and cannot be read.
        """
        self._check_signature(body, headers.get("stripe-signature") or "")
        try:
            event = msgspec.json.decode(body, type=_Event)
            told = _READERS[event.type](event) if event.type in _READERS else None
        except msgspec.DecodeError as error:
            raise InvalidInput(f"The event cannot be read: {error}.") from None
        return told

    def _check_signature(self, body: bytes, header: str) -> None:
        try:
            stripe.WebhookSignature.verify_header(body, header, self._webhook_secret.reveal())
        except (stripe.SignatureVerificationError, UnicodeDecodeError):
            raise Forbidden(
                "The signature does not fit: check MODELYARD_STRIPE_WEBHOOK_SECRET, and that nothing changes the body."
            ) from None
        signed_at = next(int(part[2:]) for part in header.split(",") if part.startswith("t="))
        if abs(self._now_s() - signed_at) > TOLERANCE_S:
            raise Forbidden("The signature is of another time: check this server's clock.")

    def _return(self, order: Order, outcome: str) -> str:
        joint = "&" if "?" in self._return_url else "?"
        return f"{self._return_url}{joint}order={order.id}&outcome={outcome}"


class _Transport(stripe.HTTPClient):
    """Carries the library's requests over our own client, to the API's base and nowhere else."""

    name = "modelyard"

    def __init__(self, http: Http, base: str) -> None:
        super().__init__()
        self._http = http
        self._base = base

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """Send a request and return the whole answer."""
        if not url.startswith(f"{self._base}/"):
            raise _unconnected(f"{url} is not of the API at {self._base}.", should_retry=False)
        body = post_data.encode() if isinstance(post_data, str) else post_data
        try:
            reply = await self._http.request(method.upper(), url, headers=headers, body=body)
        except UpstreamError as error:
            raise _unconnected(error.message, should_retry=True) from error
        return reply.body, reply.status, reply.headers

    def sleep_async(self, secs: float) -> Awaitable[None]:
        """Wait between two tries."""
        return asyncio.sleep(secs)


def _unconnected(message: str, *, should_retry: bool) -> Exception:
    return stripe.APIConnectionError(message, should_retry=should_retry)  # type: ignore[no-untyped-call]


def _once(key: str) -> Any:
    return {"idempotency_key": key}


async def _asked(request: Awaitable[T]) -> T:
    """Return what Stripe answers.

    Raises:
        PaymentFailed: it refuses.
        ServerUnavailable: it does not answer now, or has no time, or does not accept the key.
    """
    try:
        return await request
    except stripe.StripeError as error:
        _raise(error)


def _raise(error: stripe.StripeError) -> NoReturn:
    refused = isinstance(error, stripe.InvalidRequestError | stripe.CardError | stripe.IdempotencyError)
    if refused and error.http_status != 409:  # 409: the same request is under way elsewhere
        raise PaymentFailed(f"Stripe refuses: {(error.user_message or 'it does not say why')[:_MESSAGE]}") from None
    log.warning("Stripe answers %s: %s", error.http_status, type(error).__name__)
    raise ServerUnavailable(_NOW) from None


# ---- what its events look like, of which more is not read


class _About(msgspec.Struct):
    object: msgspec.Raw


class _Event(msgspec.Struct):
    id: str
    type: str
    data: _About


class _Named(msgspec.Struct):
    """An object that is given whole or by its id."""

    id: str


class _Session(msgspec.Struct):
    id: str
    client_reference_id: str | None = None
    amount_total: int | None = None
    currency: str | None = None
    payment_status: str | None = None
    payment_intent: _Named | str | None = None
    metadata: dict[str, Any] | list[Any] | None = None


class _Charge(msgspec.Struct):
    amount_refunded: int
    currency: str
    payment_intent: _Named | str | None = None
    metadata: dict[str, Any] | list[Any] | None = None  # what the payment was begun with


class _Refund(msgspec.Struct):
    id: str
    amount: int
    currency: str
    status: str | None = None
    payment_intent: _Named | str | None = None
    metadata: dict[str, Any] | list[Any] | None = None


class _Dispute(msgspec.Struct):
    amount: int
    currency: str
    status: str
    payment_intent: _Named | str | None = None


def _session(kind: PaymentKind) -> Callable[[_Event], PaymentEvent | None]:
    """Return the reader of an event about a page. What is not paid yet is paid by a later one."""

    def read(event: _Event) -> PaymentEvent | None:
        session = msgspec.json.decode(event.data.object, type=_Session)
        if kind is PaymentKind.PAID and session.payment_status != "paid":
            return None
        order_id = _uuid_in(session.metadata, _ORDER) or _uuid(session.client_reference_id)
        return _told(
            event, kind, session.amount_total or 0, session.currency or "", session.payment_intent,
            order_id=order_id, payment_id=session.id,
        )  # fmt: skip

    return read


def _refunded(event: _Event) -> PaymentEvent | None:
    charge = msgspec.json.decode(event.data.object, type=_Charge)
    order_id = _uuid_in(charge.metadata, _ORDER)
    if order_id is None and charge.payment_intent is None:
        return None
    return _told(
        event, PaymentKind.REFUNDED, charge.amount_refunded, charge.currency, charge.payment_intent, order_id=order_id
    )


def _refund(event: _Event) -> PaymentEvent | None:
    """Return what is told of one refund, whatever happened to it; it is named as whoever asked for it here did."""
    refund = msgspec.json.decode(event.data.object, type=_Refund)
    order_id = _uuid_in(refund.metadata, _ORDER)
    if order_id is None and refund.payment_intent is None:
        return None
    kind = PaymentKind.REFUND_FAILED if refund.status in _NOT_PAID_BACK else PaymentKind.REFUND_MADE
    return _told(
        event, kind, refund.amount, refund.currency, refund.payment_intent, order_id=order_id,
        refund_id=_uuid_in(refund.metadata, _REFUND) or uuid5(_ELSEWHERE, refund.id),
    )  # fmt: skip


def _disputed(event: _Event) -> PaymentEvent | None:
    dispute = msgspec.json.decode(event.data.object, type=_Dispute)
    kind = PaymentKind.DISPUTED
    if event.type == "charge.dispute.closed":
        kind = PaymentKind.DISPUTE_LOST if dispute.status == "lost" else PaymentKind.DISPUTE_WON
    if dispute.payment_intent is None:
        return None
    return _told(event, kind, dispute.amount, dispute.currency, dispute.payment_intent)


_READERS: Mapping[str, Callable[[_Event], PaymentEvent | None]] = {
    "checkout.session.completed": _session(PaymentKind.PAID),
    "checkout.session.async_payment_succeeded": _session(PaymentKind.PAID),
    "checkout.session.async_payment_failed": _session(PaymentKind.FAILED),
    "checkout.session.expired": _session(PaymentKind.EXPIRED),
    "charge.refunded": _refunded,
    "refund.created": _refund,
    "refund.updated": _refund,
    "refund.failed": _refund,
    "charge.refund.updated": _refund,
    "charge.dispute.created": _disputed,
    "charge.dispute.closed": _disputed,
}


def _told(
    event: _Event,
    kind: PaymentKind,
    amount: int,
    currency: str,
    transaction: _Named | str | None,
    *,
    order_id: UUID | None = None,
    payment_id: str | None = None,
    refund_id: UUID | None = None,
) -> PaymentEvent:
    return PaymentEvent(
        id=uuid7(),
        gateway=NAME,
        event_id=event.id,
        kind=kind,
        order_id=order_id,
        payment_id=payment_id,
        transaction_id=transaction.id if isinstance(transaction, _Named) else transaction,
        amount=amount,
        currency=currency.upper(),
        refund_id=refund_id,
    )


def _uuid_in(metadata: dict[str, Any] | list[Any] | None, name: str) -> UUID | None:
    return _uuid(str(metadata.get(name))) if isinstance(metadata, dict) else None


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID(text or "")
    except ValueError:
        return None

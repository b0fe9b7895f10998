"""Orders paid through Stripe: the real client against a fake API, signed events, and every way that they may come."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import stripe
from redis.asyncio import Redis
from sqlalchemy import select

from core import checkouts
from core.entities import EventState
from core.errors import Forbidden, InvalidInput
from core.payment_events import WAITS, process, receive, retry_events
from core.payments.stripe import TOLERANCE_S, _Transport
from core.settings import Settings, SettingsError
from graph import ids
from storage.payment_events import payment_events
from storage.quotas import out_of_balance
from storage.redis import absolute
from storage.resources import Resources, open_resources
from tests.conftest import MovableClock, settings_for, sqlite_in
from tests.fake_stripe import KEY, SECRET, FakeStripe
from tests.graph.test_changes import following
from tests.graph.test_orders import ARCHIVE, CANCEL, CREATE, LISTED, PAY, PRODUCTS, QUOTAS, REFUND
from tests.graph.world import World, make_world
from tests.product import serving
from tests.waiting import LIMIT_S
from workers.expire_orders import expire_orders
from workers.main import make_worker
from workers.prune import KEEP_PAYMENT_EVENTS, prune

FILE = """
[products.pack]
name = "Pack"
description = "100 credits"
unit = "CREDITS"
quota_amount = 100
price = 999
currency = "EUR"

[products.words]
name = "Words"
unit = "TOKENS"
quota_amount = 1000
price = 999
currency = "EUR"

[products.foreign]
name = "Foreign"
unit = "CREDITS"
quota_amount = 100
price = 999
currency = "KPW"
"""
ORDER = """query ($id: ID!) { node(id: $id) { ... on Order { status refundedAmount paymentId transactionId checkoutUrl
  problem { code message } } } }"""


@dataclass(slots=True, kw_only=True)
class Shop:
    """A world that sells through Stripe, and a worker of it."""

    world: World
    fake: FakeStripe
    resources: Resources
    clock: MovableClock

    async def order(self, name: str = "Pack", **given: Any) -> Any:
        """Return an order of a product."""
        return (await self.world.change("owner", CREATE, productId=await self.product(name), **given))["order"]

    async def product(self, name: str = "Pack") -> str:
        found = (await self.world.data("owner", PRODUCTS))["workspace"]["products"]
        return str(next(one["id"] for one in found if one["name"] == name))

    async def tell(self, *bodies: bytes) -> None:
        """Deliver events, and let a worker do what they bring."""
        for body in bodies:
            headers = self.fake.signed(body, self.clock.now())
            await receive(self.world.app, self.world.app.gateways["stripe"], body, headers)
        await work(self.resources)

    async def now(self, order: Any) -> Any:
        """Return an order as it is."""
        return (await self.world.data("owner", ORDER, id=order["id"]))["node"]

    async def paid(self, **given: Any) -> Any:
        """Return an order that was paid."""
        made = await self.order(**given)
        await self.tell(self.fake.pays(made["paymentId"]))
        return await self.now(made) | {"id": made["id"]}

    async def ledger(self) -> list[tuple[str, int]]:
        """Return the entries of all quotas, oldest first."""
        async with self.resources.storage.read() as tx:
            assert await out_of_balance(tx.connection) == []
        found = (await self.world.data("owner", QUOTAS))["workspace"]["quotas"]
        return [(one["kind"], one["limitChange"]) for quota in found for one in reversed(quota["entries"]["nodes"])]

    async def inbox(self) -> Sequence[tuple[str, str]]:
        """Return what became of the events, oldest first."""
        columns = payment_events.c
        async with self.resources.storage.read() as tx:
            rows = await tx.connection.rows(select(columns.kind, columns.state).order_by(columns.id))
        return [(row.kind, row.state) for row in rows]


async def work(resources: Resources) -> None:
    """Let a worker do all that waits."""
    await resources.relay.sweep()
    async with asyncio.timeout(LIMIT_S):
        await make_worker(resources, burst=True).async_run()


@pytest.fixture
async def fake() -> AsyncIterator[FakeStripe]:
    """Return a running Stripe."""
    async with FakeStripe.open() as opened:
        yield opened


@pytest.fixture
async def shop(
    sqlite_template: Path, redis_url: str, tmp_path: Path, clock: MovableClock, fake: FakeStripe
) -> AsyncIterator[Shop]:
    """Return a shop on SQLite."""
    async with _shop(
        stripe_settings(sqlite_in(tmp_path, sqlite_template), redis_url, tmp_path, fake), fake, clock
    ) as opened:
        yield opened


@pytest.fixture
async def any_shop(
    database_url: str, redis_url: str, tmp_path: Path, clock: MovableClock, fake: FakeStripe
) -> AsyncIterator[Shop]:
    """Return a shop on each engine."""
    async with _shop(stripe_settings(database_url, redis_url, tmp_path, fake), fake, clock) as opened:
        yield opened


def stripe_settings(database_url: str, redis_url: str, folder: Path, fake: FakeStripe, **more: str) -> Settings:
    """Return settings of an installation that sells through a Stripe."""
    products = folder / "products.toml"
    products.write_text(FILE)
    given = {"STRIPE_SECRET_KEY": KEY, "STRIPE_WEBHOOK_SECRET": SECRET, "STRIPE_API_BASE": fake.url}
    return settings_for(database_url, redis_url, folder, PRODUCTS=str(products), **(given | more))


@asynccontextmanager
async def _shop(settings: Settings, fake: FakeStripe, clock: MovableClock) -> AsyncIterator[Shop]:
    async with Redis.from_url(absolute(settings.redis_url)) as redis:
        await redis.flushall()
    async with open_resources(settings, kind="api", clock=clock) as resources:
        yield Shop(world=await make_world(resources.app), fake=fake, resources=resources, clock=clock)


async def test_an_order_is_paid_on_a_page_of_stripe_and_refunded_by_its_api(any_shop: Shop) -> None:
    shop = any_shop
    made = await shop.order(quantity=2)
    session = shop.fake.sessions[made["paymentId"]]
    assert (made["status"], made["gateway"], made["checkoutUrl"]) == ("WAIT_PAY", "stripe", session["url"])
    assert (session["amount_total"], session["currency"], session["client_reference_id"]) == (
        1998, "eur", str(_uuid(made)),
    )  # fmt: skip
    assert session["expires_at"] == int(shop.clock.now().timestamp()) + 86_400

    await shop.tell(shop.fake.pays(made["paymentId"]))
    paid = await shop.now(made)
    part = (await shop.world.change("operator", REFUND, id=made["id"], amount=1000, idempotencyKey="a"))["order"]
    again = (await shop.world.change("operator", REFUND, id=made["id"], amount=1000, idempotencyKey="a"))["order"]
    await shop.tell(shop.fake.event("charge.refunded", shop.fake.charges[paid["transactionId"]]))
    rest = (await shop.world.change("operator", REFUND, id=made["id"], idempotencyKey="b"))["order"]
    await shop.tell(shop.fake.event("charge.refunded", shop.fake.charges[paid["transactionId"]]))

    assert (paid["status"], paid["transactionId"], paid["checkoutUrl"]) == ("PAID", session["payment_intent"], None)
    assert [(one["status"], one["refundedAmount"]) for one in (part, again, rest)] == [
        ("PARTIALLY_REFUNDED", 1000), ("PARTIALLY_REFUNDED", 1000), ("REFUNDED", 1998),
    ]  # fmt: skip
    assert [one["amount"] for one in shop.fake.refunds] == [1000, 998]
    assert await shop.ledger() == [("PURCHASE", 200), ("REFUND", -100), ("REFUND", -100)]


async def test_an_event_that_is_delivered_fifty_times_at_once_credits_once(
    database_url: str, redis_url: str, tmp_path: Path, fake: FakeStripe
) -> None:
    settings = stripe_settings(database_url, redis_url, tmp_path, fake)
    async with open_resources(settings, kind="worker") as resources:
        world = await make_world(resources.app)
        async with (
            serving(settings, "") as one,
            serving(settings, "") as two,
            httpx.AsyncClient(trust_env=False) as web,
        ):
            shop = Shop(world=world, fake=fake, resources=resources, clock=resources.app.clock)  # type: ignore[arg-type]
            made = await shop.order()
            body = fake.pays(made["paymentId"])
            twin = fake.pays(made["paymentId"], "checkout.session.async_payment_succeeded")

            async def deliver(number: int) -> int:
                told, product = (twin if number % 10 == 9 else body), (one, two)[number % 2]
                headers = fake.signed(told, resources.app.clock.now())
                return (await web.post(f"{product.url}/webhooks/stripe", content=told, headers=headers)).status_code

            async def done() -> None:
                for _ in range(20):
                    await work(resources)
                    await asyncio.sleep(0.05)

            answers, _ = await asyncio.gather(asyncio.gather(*(deliver(number) for number in range(50))), done())
            await work(resources)

        assert answers == [200] * 50
        assert (await shop.now(made))["status"] == "PAID"
        assert await shop.ledger() == [("PURCHASE", 100)]
        assert sorted(await shop.inbox()) == [("PAID", "APPLIED"), ("PAID", "IGNORED")]


async def test_events_that_two_workers_do_at_once_are_done_once(any_shop: Shop) -> None:
    shop, made = any_shop, await any_shop.order()
    bodies = [shop.fake.pays(made["paymentId"]) for _ in range(5)]
    for body in bodies:
        await receive(shop.world.app, shop.world.app.gateways["stripe"], body, shop.fake.signed(body, shop.clock.now()))
    columns = payment_events.c
    async with shop.resources.storage.read() as tx:
        waiting = [row.id for row in await tx.connection.rows(select(columns.id))]

    states = await asyncio.gather(*(process(shop.world.app, event_id) for event_id in waiting for _ in range(4)))

    assert states.count(EventState.APPLIED) >= 1
    assert await shop.ledger() == [("PURCHASE", 100)]


@pytest.mark.parametrize(
    "forgery", ["unsigned", "other secret", "changed body", "too old", "of the future", "nonsense"]
)
async def test_what_stripe_has_not_signed_now_is_refused_and_leaves_nothing(shop: Shop, forgery: str) -> None:
    made = await shop.order()
    body, now = shop.fake.pays(made["paymentId"]), shop.clock.now()
    headers = shop.fake.signed(body, now)
    match forgery:
        case "unsigned":
            headers = {}
        case "other secret":
            headers = shop.fake.signed(body, now, "whsec_another0123456789")
        case "changed body":
            body = body.replace(b"999", b"1")
        case "too old":
            shop.clock.advance(TOLERANCE_S + 1)
        case "of the future":
            shop.clock.advance(-TOLERANCE_S - 1)
        case "nonsense":
            headers = {"stripe-signature": "t=soon,v1=\x00"}

    with pytest.raises(Forbidden):
        await receive(shop.world.app, shop.world.app.gateways["stripe"], body, headers)

    await work(shop.resources)
    assert (await shop.now(made))["status"] == "WAIT_PAY"
    assert (await shop.inbox(), await shop.ledger()) == ([], [])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"amount_total": 998}, "998 EUR"),
        ({"amount_total": 1000}, "1000 EUR"),
        ({"currency": "usd"}, "999 USD"),
        ({"amount_total": None}, "0 EUR"),
        ({"amount_total": -999}, "-999 EUR"),
    ],
)
async def test_a_payment_that_does_not_fit_credits_nothing_and_an_operator_sees_why(
    shop: Shop, changed: dict[str, Any], said: str
) -> None:
    made = await shop.order()

    await shop.tell(shop.fake.pays(made["paymentId"], **changed))

    now = await shop.now(made)
    assert (now["status"], now["problem"]["code"]) == ("WAIT_PAY", "PAYMENT_FAILED")
    assert said in now["problem"]["message"]
    assert await shop.ledger() == []
    seen = (await shop.world.data("operator", ORDER, id=made["id"]))["node"]["problem"]["message"]
    assert seen == now["problem"]["message"]


async def test_another_gateways_event_credits_nothing(shop: Shop) -> None:
    made, by_hand = await shop.order(), await shop.order(gateway="manual")
    metadata = {"modelyard_order": str(_uuid(by_hand))}

    await shop.tell(shop.fake.pays(made["paymentId"], metadata=metadata))

    now = await shop.now(by_hand)
    assert (now["status"], (await shop.now(made))["status"]) == ("WAIT_PAY", "WAIT_PAY")
    assert "paid through manual" in now["problem"]["message"]
    refused = await shop.world.refused("operator", PAY, id=made["id"], transactionId="bank-1")
    assert (refused["code"], await shop.ledger()) == ("CONFLICT", [])


async def test_what_is_not_of_an_order_of_ours_is_answered_and_left_alone(shop: Shop) -> None:
    made = await shop.order()
    body = json.loads(shop.fake.pays(made["paymentId"]))
    unknown = json.dumps(body | {"id": "evt_a", "type": "customer.created"}).encode()
    foreign = json.dumps(
        body
        | {
            "id": "evt_b",
            "data": {
                "object": body["data"]["object"] | {"metadata": {}, "client_reference_id": "cart 7", "id": "cs_other"}
            },
        }
    ).encode()
    gone = body["data"]["object"] | {"metadata": {"modelyard_order": "01900000-0000-7000-8000-000000000000"}, "id": "x"}
    unpaid = shop.fake.pays(made["paymentId"], payment_status="unpaid")

    await shop.tell(unknown, foreign, unpaid, json.dumps(body | {"id": "evt_c", "data": {"object": gone}}).encode())

    assert await shop.inbox() == [("PAID", "IGNORED")] * 2
    assert (await shop.now(made))["status"] == "WAIT_PAY"
    assert await shop.ledger() == []


async def test_an_order_is_known_by_its_page_and_transaction_where_an_event_does_not_name_it(shop: Shop) -> None:
    made = await shop.order()
    intent = json.loads(shop.fake.pays(made["paymentId"]))["data"]["object"]["payment_intent"]
    shop.fake.charges[intent]["metadata"] = []

    await shop.tell(shop.fake.pays(made["paymentId"], metadata={}, client_reference_id=None))
    await shop.tell(shop.fake.pays_back(intent, 999))

    assert (await shop.now(made))["status"] == "REFUNDED"
    assert await shop.ledger() == [("PURCHASE", 100), ("REFUND", -100)]


async def test_an_event_that_cannot_be_read_is_refused(shop: Shop) -> None:
    for body in (
        b"no json",
        b'{"id": "evt_1"}',
        b'{"id": 3, "type": "x", "data": {"object": {}}}',
        b'{"id": "e", "type": "charge.refunded", "data": {"object": {}}}',
    ):
        with pytest.raises(InvalidInput):
            await receive(
                shop.world.app, shop.world.app.gateways["stripe"], body, shop.fake.signed(body, shop.clock.now())
            )


async def test_a_refund_and_a_dispute_that_are_told_before_the_payment_wait_for_it(shop: Shop) -> None:
    made = await shop.order()
    paid = shop.fake.pays(made["paymentId"])
    intent = shop.fake.sessions[made["paymentId"]]["payment_intent"]
    refunded = shop.fake.pays_back(intent, 333)
    disputed, won = shop.fake.disputes(intent), shop.fake.disputes(intent, "closed", "won")

    await shop.tell(refunded, won, disputed)
    before = await shop.now(made)
    await shop.tell(paid)
    shop.clock.advance(120)
    await retry_events(shop.world.app)
    await work(shop.resources)

    assert before["status"] == "WAIT_PAY"
    after = await shop.now(made)
    assert (after["status"], after["refundedAmount"]) == ("PARTIALLY_REFUNDED", 333)
    assert await shop.ledger() == [("PURCHASE", 100), ("REFUND", -33)]
    assert {state for _, state in await shop.inbox()} <= {"APPLIED", "IGNORED"}


async def test_refunds_that_are_told_in_any_order_take_back_what_was_paid_back(shop: Shop) -> None:
    paid = await shop.paid()
    first, second, third = (shop.fake.pays_back(paid["transactionId"], amount) for amount in (100, 400, 499))

    await shop.tell(second, first, third, second)

    assert (await shop.now(paid))["status"] == "REFUNDED"
    assert await shop.ledger() == [("PURCHASE", 100), ("REFUND", -50), ("REFUND", -50)]


async def test_a_refund_that_fails_later_gives_back_what_it_took_and_can_be_made_again(any_shop: Shop) -> None:
    shop, made = any_shop, await any_shop.paid()
    refunded = (await shop.world.change("operator", REFUND, id=made["id"], idempotencyKey="a"))["order"]
    (refund,) = shop.fake.refunds

    failed = shop.fake.fails(refund["id"])
    await shop.tell(failed, failed, shop.fake.fails(refund["id"], "refund.updated"))
    back = await shop.now(made)
    again = await shop.world.refused("operator", REFUND, id=made["id"], idempotencyKey="a")
    anew = (await shop.world.change("operator", REFUND, id=made["id"], idempotencyKey="b"))["order"]
    await shop.tell(*(shop.fake.tells("refund.created", one["id"]) for one in shop.fake.refunds))

    assert [(one["status"], one["refundedAmount"]) for one in (refunded, back, anew)] == [
        ("REFUNDED", 999), ("PAID", 0), ("REFUNDED", 999),
    ]  # fmt: skip
    assert (again["code"], again["message"]) == ("PAYMENT_FAILED", back["problem"]["message"])
    assert "could not pay back 999 EUR" in again["message"]
    assert (await shop.now(made))["problem"] is None
    assert await shop.ledger() == [("PURCHASE", 100), ("REFUND", -100), ("ADJUST", 100), ("REFUND", -100)]


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4, 5), (5, 4, 3, 2, 1, 0), (2, 0, 1, 5, 3, 4), (3, 2, 5, 0, 4, 1)])
@pytest.mark.parametrize("lowers", [True, False])
async def test_refunds_of_which_one_fails_lead_to_the_same_end_in_any_order(
    shop: Shop, order: tuple[int, ...], *, lowers: bool
) -> None:
    made, shop.fake.lowers = await shop.paid(), lowers
    charged = [shop.fake.pays_back(made["transactionId"], 333)]
    (first,) = shop.fake.refunds
    told = [shop.fake.tells("refund.created", first["id"]), shop.fake.fails(first["id"], "charge.refund.updated")]
    charged.append(shop.fake.pays_back(made["transactionId"], 100))
    told += [shop.fake.tells("refund.created", shop.fake.refunds[1]["id"]), shop.fake.fails(first["id"])]
    bodies = [*charged, *told]

    await shop.tell(*(bodies[number] for number in order))
    await shop.tell(*bodies)

    assert [(await shop.now(made))[name] for name in ("status", "refundedAmount")] == ["PARTIALLY_REFUNDED", 100]
    ledger = await shop.ledger()
    assert sum(amount for _, amount in ledger) == 90
    assert {kind for kind, _ in ledger} <= {"PURCHASE", "REFUND", "ADJUST"}


async def test_a_failed_refund_that_many_workers_are_told_of_at_once_is_given_back_once(any_shop: Shop) -> None:
    shop, made = any_shop, await any_shop.paid()
    await shop.world.change("operator", REFUND, id=made["id"], idempotencyKey="a")
    (refund,) = shop.fake.refunds
    created = shop.fake.tells("refund.created", refund["id"])
    for body in (created, *(shop.fake.fails(refund["id"], kind) for kind in ("refund.failed", "refund.updated"))):
        await receive(shop.world.app, shop.world.app.gateways["stripe"], body, shop.fake.signed(body, shop.clock.now()))
    columns = payment_events.c
    async with shop.resources.storage.read() as tx:
        waiting = [row.id for row in await tx.connection.rows(select(columns.id).where(columns.state == "RECEIVED"))]

    await asyncio.gather(*(process(shop.world.app, event_id) for event_id in waiting * 5))

    async with shop.resources.storage.read() as tx:
        states = [row.state for row in await tx.connection.rows(select(columns.state).where(columns.id.in_(waiting)))]
    assert (len(states), states.count(EventState.APPLIED)) == (3, 1)
    assert (await shop.now(made))["status"] == "PAID"
    assert await shop.ledger() == [("PURCHASE", 100), ("REFUND", -100), ("ADJUST", 100)]


async def test_a_refund_that_is_cancelled_or_fails_at_once_takes_nothing(shop: Shop) -> None:
    one, two = await shop.paid(), await shop.paid()
    shop.fake.refunded_as = "pending"
    await shop.world.change("operator", REFUND, id=one["id"], amount=500, idempotencyKey="a")
    await shop.tell(shop.fake.fails(shop.fake.refunds[0]["id"], "refund.updated", "canceled"))
    shop.fake.refunded_as = "failed"

    refused = await shop.world.refused("operator", REFUND, id=two["id"], amount=500, idempotencyKey="b")
    await shop.tell(shop.fake.fails(shop.fake.refunds[1]["id"]))

    assert refused["code"] == "PAYMENT_FAILED"
    assert [(await shop.now(order))["status"] for order in (one, two)] == ["PAID", "PAID"]
    assert await shop.ledger() == [("PURCHASE", 100), ("PURCHASE", 100), ("REFUND", -50), ("ADJUST", 50)]


async def test_what_a_refund_came_to_is_known_before_its_answer(shop: Shop) -> None:
    one, two = await shop.paid(), await shop.paid()
    shop.fake.troubles.extend(["lost", 500, "lost", 500])
    for number, made in enumerate((one, two)):
        await shop.world.change("operator", REFUND, id=made["id"], amount=500, idempotencyKey=str(number))
    first, second = (refund["id"] for refund in shop.fake.refunds)

    await shop.tell(shop.fake.tells("refund.created", first), shop.fake.fails(second))
    shop.clock.advance(61)

    assert await expire_orders(shop.resources) == 0
    assert [(await shop.now(order))["refundedAmount"] for order in (one, two)] == [500, 0]
    assert [refund["amount"] for refund in shop.fake.refunds] == [500, 500]
    assert await shop.ledger() == [("PURCHASE", 100), ("PURCHASE", 100), ("REFUND", -50)]


async def test_what_came_back_is_given_to_the_quota_that_it_was_taken_from_though_that_has_ended(shop: Shop) -> None:
    made = await shop.paid()
    await shop.world.change("operator", REFUND, id=made["id"], idempotencyKey="a")
    quota = (await shop.world.data("owner", QUOTAS))["workspace"]["quotas"][0]
    await shop.world.change("operator", ARCHIVE, id=quota["id"])

    await shop.tell(shop.fake.fails(shop.fake.refunds[0]["id"]))

    (entry, *_) = (await shop.world.data("owner", QUOTAS))["workspace"]["quotas"][0]["entries"]["nodes"]
    assert (entry["kind"], entry["limitChange"], entry["order"]["id"]) == ("ADJUST", 100, made["id"])
    assert entry["note"].startswith("stripe: evt_")


async def test_a_lost_dispute_takes_the_quota_back_and_a_won_one_does_not(shop: Shop) -> None:
    won, lost = await shop.paid(), await shop.paid()
    await shop.tell(*(shop.fake.disputes(one["transactionId"]) for one in (won, lost)))
    assert [(await shop.now(one))["status"] for one in (won, lost)] == ["DISPUTED", "DISPUTED"]
    refused = await shop.world.refused("operator", REFUND, id=won["id"], idempotencyKey="k")

    closed = [shop.fake.disputes(one["transactionId"], "closed", how) for one, how in ((won, "won"), (lost, "lost"))]
    await shop.tell(*closed, *closed)

    assert refused["code"] == "CONFLICT"
    assert [(await shop.now(one))["status"] for one in (won, lost)] == ["PAID", "REFUNDED"]
    assert await shop.ledger() == [("PURCHASE", 100), ("PURCHASE", 100), ("REFUND", -100)]


@pytest.mark.parametrize(
    ("kind", "status"),
    [("checkout.session.async_payment_failed", "FAILED"), ("checkout.session.expired", "CANCELLED")],
)
async def test_a_payment_that_fails_or_expires_and_comes_all_the_same_still_credits(
    shop: Shop, kind: str, status: str
) -> None:
    made = await shop.order()
    await shop.tell(shop.fake.event(kind, shop.fake.sessions[made["paymentId"]]))
    before = (await shop.now(made))["status"]

    await shop.tell(shop.fake.pays(made["paymentId"]), shop.fake.event(kind, shop.fake.sessions[made["paymentId"]]))

    assert (before, (await shop.now(made))["status"]) == (status, "PAID")
    assert await shop.ledger() == [("PURCHASE", 100)]


async def test_a_second_payment_of_an_order_is_told_to_an_operator(shop: Shop) -> None:
    made = await shop.paid()

    await shop.tell(shop.fake.pays(made["paymentId"], payment_intent="pi_another"))
    charge = shop.fake.charges[made["transactionId"]]
    paid_back = shop.fake.event("charge.refunded", charge | {"payment_intent": "pi_another", "amount_refunded": 999})
    await shop.tell(paid_back)

    now = await shop.now(made)
    assert "a second time, by pi_another" in now["problem"]["message"]
    assert (now["status"], await shop.ledger()) == ("PAID", [("PURCHASE", 100)])


async def test_a_page_that_is_not_the_orders_cancels_nothing(shop: Shop) -> None:
    made = await shop.order()
    other = shop.fake.sessions[made["paymentId"]] | {"id": "cs_test_other"}

    await shop.tell(shop.fake.event("checkout.session.expired", other))

    assert (await shop.now(made))["status"] == "WAIT_PAY"


async def test_a_payment_that_the_paid_quota_cannot_take_waits_until_it_can(shop: Shop) -> None:
    words, pack = await shop.order("Words"), await shop.order("Pack")
    await shop.tell(shop.fake.pays(pack["paymentId"]), shop.fake.pays(words["paymentId"]))
    waiting = await shop.now(words)
    quota = (await shop.world.data("owner", QUOTAS))["workspace"]["quotas"][0]
    archive = "mutation ($input: ArchiveQuotaInput!) { archiveQuota(input: $input) { quota { id } errors { code } } }"
    await shop.world.change("operator", archive, id=quota["id"])

    shop.clock.advance(120)
    assert await expire_orders(shop.resources) == 1
    await work(shop.resources)

    assert (waiting["status"], "counts CREDITS" in waiting["problem"]["message"]) == ("WAIT_PAY", True)
    after = await shop.now(words)
    assert (after["status"], after["problem"]) == ("PAID", None)
    assert sorted(await shop.ledger()) == [("PURCHASE", 100), ("PURCHASE", 1000)]


async def test_cancelling_closes_the_page_and_who_pays_all_the_same_is_credited(shop: Shop) -> None:
    made = await shop.order()

    cancelled = (await shop.world.change("owner", CANCEL, id=made["id"]))["order"]

    assert (cancelled["status"], shop.fake.sessions[made["paymentId"]]["status"]) == ("CANCELLED", "expired")
    await shop.tell(shop.fake.pays(made["paymentId"]))
    assert (await shop.now(made))["status"] == "PAID"


async def test_an_order_that_stripe_refuses_has_failed_and_says_so_again(shop: Shop) -> None:
    product = await shop.product("Foreign")
    errors = [await shop.world.refused("owner", CREATE, productId=product, idempotencyKey="k") for _ in range(2)]

    assert [(one["code"], one["message"]) for one in errors] == [
        ("PAYMENT_FAILED", "Stripe refuses: Invalid currency: kpw.")
    ] * 2
    assert [one["status"] for one in (await shop.world.data("owner", LISTED))["workspace"]["orders"]["nodes"]] == [
        "FAILED"
    ]


@pytest.mark.parametrize("trouble", [500, "lost"])
async def test_an_order_made_while_stripe_is_in_trouble_gets_its_one_page_later(shop: Shop, trouble: int | str) -> None:
    shop.fake.troubles.extend([trouble, 500])
    made = await shop.order()
    query = "subscription ($id: ID) { orderChanged(orderId: $id) { kind order { checkoutUrl } } }"
    async with following(shop.world, "owner", query, id=made["id"]) as followed:
        first = (await followed.next())["data"]["orderChanged"]
        assert await expire_orders(shop.resources) == 0
        shop.clock.advance(61)

        assert await expire_orders(shop.resources) == 1

        second = (await followed.next())["data"]["orderChanged"]
    (session,) = shop.fake.sessions.values()
    assert (made["checkoutUrl"], first["order"]["checkoutUrl"]) == (None, None)
    assert second["order"]["checkoutUrl"] == session["url"]
    assert await expire_orders(shop.resources) == 0


async def test_a_repeat_of_an_order_gets_the_page_that_the_first_did_not_wait_for(shop: Shop) -> None:
    shop.fake.troubles.append("hangs")
    begun = asyncio.create_task(shop.order(idempotencyKey="k"))
    while not shop.fake.sessions:
        await asyncio.sleep(0.01)
    begun.cancel()
    await asyncio.wait([begun])

    made = await shop.order(idempotencyKey="k")

    (session,) = shop.fake.sessions.values()
    assert made["checkoutUrl"] == session["url"]
    assert (await shop.world.data("owner", LISTED))["workspace"]["orders"]["totalCount"] == 1


@pytest.mark.parametrize("trouble", [500, "lost", "hangs"])
async def test_a_refund_is_made_once_whoever_dies_between_its_steps(shop: Shop, trouble: int | str) -> None:
    made = await shop.paid()
    shop.fake.troubles.extend([trouble] if trouble == "hangs" else [trouble, 500])
    asked = asyncio.create_task(shop.world.change("operator", REFUND, id=made["id"], amount=500, idempotencyKey="k"))
    while trouble == "hangs" and not shop.fake.refunds:
        await asyncio.sleep(0.01)
    if trouble == "hangs":
        asked.cancel()
    await asyncio.wait([asked])
    too_much = await shop.world.refused("operator", REFUND, id=made["id"], amount=500, idempotencyKey="l")
    before = await shop.now(made)
    shop.clock.advance(61)

    assert await expire_orders(shop.resources) == 1
    assert await expire_orders(shop.resources) == 0

    assert (before["status"], too_much["code"]) == ("PAID", "INVALID_INPUT")
    assert [one["amount"] for one in shop.fake.refunds] == [500]
    assert (await shop.now(made))["refundedAmount"] == 500
    assert await shop.ledger() == [("PURCHASE", 100), ("REFUND", -50)]


async def test_a_refund_that_stripe_refuses_books_nothing_and_says_so_again(shop: Shop) -> None:
    made = await shop.paid()
    shop.fake.charges[made["transactionId"]]["amount_refunded"] = 999

    errors = [await shop.world.refused("operator", REFUND, id=made["id"], idempotencyKey="k") for _ in range(2)]

    assert [one["code"] for one in errors] == ["PAYMENT_FAILED"] * 2
    assert "greater than unrefunded amount" in errors[0]["message"]
    assert await shop.ledger() == [("PURCHASE", 100)]


async def test_the_webhook_takes_signed_events_of_its_size_from_no_page(
    sqlite_template: Path, redis_url: str, tmp_path: Path, fake: FakeStripe
) -> None:
    settings = stripe_settings(sqlite_in(tmp_path, sqlite_template), redis_url, tmp_path, fake)
    async with serving(settings, "") as product, httpx.AsyncClient(base_url=product.url, trust_env=False) as web:
        body = fake.event("customer.created", {})
        signed = fake.signed(body, product.app.clock.now())
        long = b'{"id": "' + b"x" * 600_000 + b'"}'
        answers = [
            await web.post("/webhooks/stripe", content=body, headers=signed),
            await web.post("/webhooks/stripe", content=body),
            await web.post("/webhooks/stripe", content=body, headers=signed | {"origin": "https://evil.test"}),
            await web.post("/webhooks/stripe", content=long, headers=fake.signed(long, product.app.clock.now())),
            await web.post("/webhooks/manual", content=body, headers=signed),
            await web.post("/webhooks/nobody", content=body, headers=signed),
            await web.get("/webhooks/stripe"),
        ]

    assert [answer.status_code for answer in answers] == [200, 400, 403, 413, 404, 404, 405]
    assert all(SECRET not in answer.text for answer in answers)


async def test_without_stripe_there_is_no_webhook(sqlite_template: Path, redis_url: str, tmp_path: Path) -> None:
    settings = settings_for(sqlite_in(tmp_path, sqlite_template), redis_url, tmp_path)
    async with serving(settings, "") as product, httpx.AsyncClient(base_url=product.url, trust_env=False) as web:
        answer = await web.post("/webhooks/stripe", content=b"{}")

    assert (answer.status_code, list(product.app.gateways)) == (404, ["manual"])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"STRIPE_WEBHOOK_SECRET": ""}, "MODELYARD_STRIPE_WEBHOOK_SECRET is not set"),
        ({"STRIPE_SECRET_KEY": ""}, "MODELYARD_STRIPE_SECRET_KEY is not set"),
        ({"STRIPE_API_BASE": "stripe.test"}, "MODELYARD_STRIPE_API_BASE must be an address"),
        ({"STRIPE_RETURN_URL": "back"}, "MODELYARD_STRIPE_RETURN_URL must be an address"),
    ],
)
def test_a_gateway_that_could_not_be_trusted_is_not_enabled(tmp_path: Path, changed: dict[str, str], said: str) -> None:
    fake = FakeStripe()
    fake.url = "http://127.0.0.1:9"

    with pytest.raises(SettingsError, match=said):
        stripe_settings("sqlite+aiosqlite:///x", "redis://x", tmp_path, fake, **changed)


async def test_a_key_that_stripe_does_not_accept_lets_orders_wait_and_shows_nowhere(
    sqlite_template: Path, redis_url: str, tmp_path: Path, fake: FakeStripe, caplog: pytest.LogCaptureFixture
) -> None:
    url, wrong = sqlite_in(tmp_path, sqlite_template), "sk_test_9876543210fedcba"
    settings = stripe_settings(url, redis_url, tmp_path, fake, STRIPE_SECRET_KEY=wrong)

    async with _shop(settings, fake, MovableClock()) as shop:
        made = await shop.order()

    assert (made["status"], made["checkoutUrl"], made["problem"]) == ("WAIT_PAY", None, None)
    assert "Stripe answers 401" in caplog.text
    assert all(secret not in caplog.text + repr(settings) for secret in (wrong, SECRET))


async def test_stripes_library_reaches_its_base_and_nothing_else(shop: Shop) -> None:
    transport = _Transport(shop.world.app.http, shop.fake.url)

    for url in ("https://files.stripe.com/v1/files", f"{shop.fake.url}.evil.test/v1/refunds"):
        with pytest.raises(stripe.APIConnectionError, match="is not of the API"):
            await transport.request_async("post", url, {}, None)

    assert shop.fake.requests == []


async def test_an_event_that_nobody_waits_for_is_not_tried_for_ever(shop: Shop) -> None:
    paid = await shop.paid()
    body = json.loads(shop.fake.disputes(paid["transactionId"]))
    body["data"]["object"]["payment_intent"] = "pi_of_somebody_else"
    await shop.tell(json.dumps(body).encode())
    assert (await shop.inbox())[-1] == ("DISPUTED", "WAITING")

    shop.clock.advance(61)
    assert await retry_events(shop.world.app) == 1
    shop.clock.advance(WAITS.total_seconds())
    assert await retry_events(shop.world.app) == 0
    await prune(shop.resources)
    assert len(await shop.inbox()) == 2
    shop.clock.advance(KEEP_PAYMENT_EVENTS.total_seconds())
    await prune(shop.resources)
    assert await shop.inbox() == []


async def test_orders_are_mended_only_while_they_wait(shop: Shop) -> None:
    shop.fake.troubles.extend([500, 500])
    made = await shop.order()
    shop.clock.advance(24 * 3600 + 1)

    assert await checkouts.expire_orders(shop.world.app) == 1
    assert await checkouts.mend_orders(shop.world.app) == 0

    assert (await shop.now(made))["status"] == "CANCELLED"
    assert shop.fake.sessions == {}


def _uuid(order: Any) -> Any:
    decoded = ids.decode(order["id"])
    assert decoded is not None
    return ids.uuid_of(decoded[1][0])

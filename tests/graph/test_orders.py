"""Orders through the API with the gateway `manual`: what is sold, ordered, paid and refunded, and what is refused."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from core import checkouts
from graph import ids
from storage.quotas import out_of_balance
from storage.resources import open_app
from storage.transaction import SqlStorage, SqlTransaction
from tests.conftest import MovableClock, settings_for, sqlite_in
from tests.graph.test_changes import following
from tests.graph.world import World, make_world

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
quota_amount = 1_000_000
price = 1500
currency = "USD"

[products.huge]
name = "Huge"
unit = "CREDITS"
quota_amount = 9_007_199_254_740_991
price = 9_007_199_254_740_991
currency = "EUR"

[products.soon]
name = "Soon"
unit = "CREDITS"
quota_amount = 1
price = 1
currency = "EUR"
available = false
"""
ORDER = """id status gateway quantity currency totalAmount refundedAmount provider transactionId paymentId checkoutUrl
  product { name available } account { name } problem { message } expiresAt paidAt refundedAt cancelledAt failedAt"""
ERRORS = "errors { code message path }"
CREATE = f"mutation ($input: CreateOrderInput!) {{ createOrder(input: $input) {{ order {{ {ORDER} }} {ERRORS} }} }}"
CANCEL = f"mutation ($input: CancelOrderInput!) {{ cancelOrder(input: $input) {{ order {{ {ORDER} }} {ERRORS} }} }}"
PAY = "mutation ($input: MarkOrderPaidInput!) { markOrderPaid(input: $input) { order { id status transactionId paidAt } errors { code message path } } }"
REFUND = "mutation ($input: RefundOrderInput!) { refundOrder(input: $input) { order { id status refundedAmount refundedAt } errors { code message path } } }"
PRODUCTS = 'query ($p: String) { workspace(slug: "home") { products(provider: $p) { id name description provider quotaAmount unit price currency available } } }'
LISTED = """query ($status: [OrderStatus!], $first: Int, $after: String) { workspace(slug: "home") {
  orders(status: $status, first: $first, after: $after) { totalCount nodes { id status } pageInfo { hasNextPage endCursor } } } }"""
QUOTAS = """{ workspace(slug: "home") { quotas(includeArchived: true) { id type unit limit used remaining isValid archivedAt
  entries { nodes { kind limitChange note order { id } actor { name } } } } } }"""
GRANT = (
    "mutation ($input: GrantQuotaInput!) { grantQuota(input: $input) { quota { id } errors { code message path } } }"
)
ARCHIVE = "mutation ($input: ArchiveQuotaInput!) { archiveQuota(input: $input) { quota { id } errors { code message path } } }"


@pytest.fixture
async def shop(sqlite_template: Path, redis_url: str, tmp_path: Path, clock: MovableClock) -> AsyncIterator[World]:
    """Return a world whose operator sells quota."""
    async with _open(sqlite_in(tmp_path, sqlite_template), redis_url, tmp_path, FILE, clock) as app:
        yield await make_world(app)


def _open(url: str, redis_url: str, folder: Path, text: str, clock: MovableClock | None = None) -> Any:
    products = folder / "products.toml"
    products.write_text(text)
    return open_app(settings_for(url, redis_url, folder, PRODUCTS=str(products)), clock=clock)


async def _product(shop: World, name: str = "Pack") -> str:
    found = (await shop.data("member", PRODUCTS))["workspace"]["products"]
    return str(next(one["id"] for one in found if one["name"] == name))


async def _order(shop: World, name: str = "Pack", **given: Any) -> Any:
    return (await shop.change("admin", CREATE, productId=await _product(shop, name), **given))["order"]


async def _paid(shop: World, name: str = "Pack", transaction: str = "bank-1", **given: Any) -> Any:
    made = await _order(shop, name, **given)
    return (await shop.change("operator", PAY, id=made["id"], transactionId=transaction))["order"]


async def _quotas(shop: World) -> Any:
    assert isinstance(shop.app.storage, SqlStorage)
    async with shop.app.storage.read() as tx:
        assert isinstance(tx, SqlTransaction)
        assert await out_of_balance(tx.connection) == []
    return (await shop.data("owner", QUOTAS))["workspace"]["quotas"]


async def _kinds(shop: World) -> list[tuple[str, int]]:
    (quota,) = await _quotas(shop)
    return [(entry["kind"], entry["limitChange"]) for entry in reversed(quota["entries"]["nodes"])]


async def test_what_is_sold_is_listed_to_every_member(shop: World) -> None:
    found = (await shop.data("member", PRODUCTS))["workspace"]["products"]

    assert [(one["name"], one["available"]) for one in found] == [
        ("Pack", True), ("Words", True), ("Huge", True), ("Soon", False),
    ]  # fmt: skip
    assert {key: found[0][key] for key in ("description", "provider", "quotaAmount", "unit", "price", "currency")} == {
        "description": "100 credits", "provider": None, "quotaAmount": 100, "unit": "CREDITS", "price": 999, "currency": "EUR",
    }  # fmt: skip


async def test_an_order_is_paid_by_an_operator_and_adds_its_quota(shop: World) -> None:
    made = await _order(shop, quantity=3)
    assert (made["status"], made["gateway"], made["totalAmount"], made["currency"]) == (
        "WAIT_PAY",
        "manual",
        2997,
        "EUR",
    )
    assert made["product"] == {"name": "Pack", "available": True}
    assert made["account"] == {"name": "admin"}
    assert await _quotas(shop) == []

    paid = (await shop.change("operator", PAY, id=made["id"], transactionId=" bank-1 "))["order"]
    again = (await shop.change("operator", PAY, id=made["id"], transactionId="bank-1"))["order"]

    assert (paid["status"], paid["transactionId"]) == ("PAID", "bank-1")
    assert again == paid
    (quota,) = await _quotas(shop)
    assert (quota["type"], quota["unit"], quota["limit"], quota["isValid"]) == ("PAID", "CREDITS", 300, True)
    (entry,) = quota["entries"]["nodes"]
    assert (entry["kind"], entry["limitChange"], entry["order"]) == ("PURCHASE", 300, {"id": made["id"]})
    await _paid(shop, transaction="bank-2")
    assert await _kinds(shop) == [("PURCHASE", 300), ("PURCHASE", 100)]


async def test_refunds_take_back_quota_pro_rata_and_what_is_left_may_go_below_nothing(shop: World) -> None:
    made = await _paid(shop)
    (quota,) = await _quotas(shop)

    parts = [
        (await shop.change("operator", REFUND, id=made["id"], amount=333, reason="late", idempotencyKey=f"{number}"))[
            "order"
        ]
        for number in (1, 1, 2, 3)
    ]

    assert [(part["status"], part["refundedAmount"]) for part in parts] == [
        ("PARTIALLY_REFUNDED", 333), ("PARTIALLY_REFUNDED", 333), ("PARTIALLY_REFUNDED", 666), ("REFUNDED", 999),
    ]  # fmt: skip
    assert await _kinds(shop) == [("PURCHASE", 100), ("REFUND", -33), ("REFUND", -33), ("REFUND", -34)]
    (quota,) = await _quotas(shop)
    assert (quota["limit"], quota["isValid"], quota["entries"]["nodes"][0]["note"]) == (0, False, "late")


async def test_a_refund_of_quota_that_is_used_blocks_what_is_left(shop: World) -> None:
    made = await _paid(shop)
    (quota,) = await _quotas(shop)
    adjust = "mutation ($input: AdjustQuotaInput!) { adjustQuota(input: $input) { quota { id } errors { code } } }"
    await shop.change("operator", adjust, id=quota["id"], amount=-50, note="a correction", idempotencyKey="a")

    await shop.change("operator", REFUND, id=made["id"], idempotencyKey="r")

    (quota,) = await _quotas(shop)
    assert (quota["limit"], quota["remaining"], quota["isValid"]) == (-50, -50, False)


@pytest.mark.parametrize(
    ("name", "given", "code", "path", "said"),
    [
        ("Pack", {"quantity": 0}, "INVALID_INPUT", ["quantity"], "1 to 10,000"),
        ("Pack", {"quantity": -1}, "INVALID_INPUT", ["quantity"], "1 to 10,000"),
        ("Pack", {"quantity": 10_001}, "INVALID_INPUT", ["quantity"], "1 to 10,000"),
        ("Huge", {"quantity": 2}, "INVALID_INPUT", ["quantity"], "order fewer"),
        ("Soon", {}, "INVALID_INPUT", ["productId"], "not sold"),
        ("Pack", {"gateway": "stripe"}, "INVALID_INPUT", ["gateway"], "enabled are: manual"),
        ("Pack", {"idempotencyKey": ""}, "INVALID_INPUT", ["idempotencyKey"], "1 to 200"),
        ("Pack", {"workspaceId": "nonsense"}, "NOT_FOUND", ["workspaceId"], "Workspace"),
    ],
)
async def test_what_may_not_be_ordered_is_refused_and_leaves_nothing(
    shop: World, name: str, given: dict[str, Any], code: str, path: list[str], said: str
) -> None:
    error = await shop.refused("owner", CREATE, productId=await _product(shop, name), **given)

    assert (error["code"], error["path"]) == (code, path)
    assert said in error["message"]
    assert (await shop.data("owner", LISTED))["workspace"]["orders"]["totalCount"] == 0
    assert await _quotas(shop) == []


async def test_the_product_of_another_workspace_and_one_that_is_none_are_unknown(shop: World) -> None:
    decoded = ids.decode(await _product(shop))
    assert decoded is not None
    foreign = ids.encode("Product", shop.away.id, decoded[1][1])

    errors = [await shop.refused("owner", CREATE, productId=id_) for id_ in (foreign, "nonsense")]

    assert [(error["code"], error["path"]) for error in errors] == [("NOT_FOUND", ["productId"])] * 2


async def test_a_product_of_another_unit_than_the_paid_quota_is_refused_when_ordering_and_when_paid(
    shop: World,
) -> None:
    early = await _order(shop, "Words")
    await _paid(shop)

    refused = await shop.refused("owner", CREATE, productId=await _product(shop, "Words"))
    late = await shop.refused("operator", PAY, id=early["id"], transactionId="bank-2")

    assert (refused["code"], refused["path"]) == ("INVALID_INPUT", ["productId"])
    assert "counts CREDITS" in refused["message"]
    assert late["code"] == "INVALID_INPUT"
    assert await _kinds(shop) == [("PURCHASE", 100)]
    (quota,) = await _quotas(shop)
    await shop.change("operator", ARCHIVE, id=quota["id"])
    assert (await shop.change("operator", PAY, id=early["id"], transactionId="bank-2"))["order"]["status"] == "PAID"
    assert [one["limit"] for one in await _quotas(shop)] == [1_000_000, 100]


async def test_an_order_that_would_overflow_the_quota_or_adds_to_no_limit_is_refused(shop: World) -> None:
    await _paid(shop)
    over = await shop.refused("owner", CREATE, productId=await _product(shop, "Huge"))
    (quota,) = await _quotas(shop)
    await shop.change("operator", ARCHIVE, id=quota["id"])
    home = ids.encode("Workspace", shop.home.id)
    await shop.change("operator", GRANT, workspaceId=home, type="PAID", unit="CREDITS", idempotencyKey="g")

    endless = await shop.refused("owner", CREATE, productId=await _product(shop))

    assert [one["path"] for one in (over, endless)] == [["productId"]] * 2
    assert "no limit" in endless["message"]


@pytest.mark.parametrize(
    ("given", "code", "path"),
    [
        ({"amount": 1000}, "INVALID_INPUT", ["amount"]),
        ({"amount": 0}, "INVALID_INPUT", ["amount"]),
        ({"amount": -5}, "INVALID_INPUT", ["amount"]),
        ({"amount": 9_007_199_254_740_991}, "INVALID_INPUT", ["amount"]),
        ({"idempotencyKey": ""}, "INVALID_INPUT", ["idempotencyKey"]),
        ({"reason": "x" * 1001}, "INVALID_INPUT", ["reason"]),
    ],
)
async def test_a_refund_out_of_bounds_is_refused_and_books_nothing(
    shop: World, given: dict[str, Any], code: str, path: list[str]
) -> None:
    made = await _paid(shop)

    error = await shop.refused("operator", REFUND, **{"id": made["id"], "idempotencyKey": "k"} | given)

    assert (error["code"], error["path"]) == (code, path)
    assert await _kinds(shop) == [("PURCHASE", 100)]


async def test_what_was_not_paid_is_not_refunded_and_what_was_is_not_cancelled(shop: World) -> None:
    waiting = await _order(shop)
    unpaid = await shop.refused("operator", REFUND, id=waiting["id"], idempotencyKey="k")
    cancelled = [(await shop.change("owner", CANCEL, id=waiting["id"]))["order"]["status"] for _ in range(2)]

    paid = await _paid(shop)
    refused = await shop.refused("owner", CANCEL, id=paid["id"])
    await shop.change("operator", REFUND, id=paid["id"], idempotencyKey="all")
    twice = await shop.refused("operator", REFUND, id=paid["id"], idempotencyKey="again")
    other = await shop.refused("operator", REFUND, id=paid["id"], amount=1, idempotencyKey="all")

    assert cancelled == ["CANCELLED", "CANCELLED"]
    assert [one["code"] for one in (unpaid, refused, twice, other)] == [
        "CONFLICT",
        "CONFLICT",
        "INVALID_INPUT",
        "CONFLICT",
    ]
    assert await _kinds(shop) == [("PURCHASE", 100), ("REFUND", -100)]


async def test_a_transaction_pays_one_order_and_an_order_is_paid_by_one(shop: World) -> None:
    first, second = await _paid(shop), await _order(shop)

    taken = await shop.refused("operator", PAY, id=second["id"], transactionId="bank-1")
    twice = await shop.refused("operator", PAY, id=first["id"], transactionId="bank-2")
    empty = await shop.refused("operator", PAY, id=second["id"], transactionId="  ")

    assert [(one["code"], one["path"]) for one in (taken, twice, empty)] == [
        ("ALREADY_EXISTS", ["transactionId"]), ("CONFLICT", ["id"]), ("INVALID_INPUT", ["transactionId"]),
    ]  # fmt: skip
    assert await _kinds(shop) == [("PURCHASE", 100)]


async def test_the_same_key_orders_once(shop: World) -> None:
    made = [await _order(shop, idempotencyKey="k") for _ in range(2)]
    other = await shop.refused("admin", CREATE, productId=await _product(shop), quantity=2, idempotencyKey="k")
    someone_elses = (await shop.change("owner", CREATE, productId=await _product(shop), idempotencyKey="k"))["order"]

    assert made[0] == made[1]
    assert (other["code"], other["path"]) == ("CONFLICT", ["idempotencyKey"])
    assert someone_elses["id"] != made[0]["id"]


async def test_an_order_that_is_not_paid_in_time_is_cancelled_and_credits_if_it_is_paid_all_the_same(
    shop: World, clock: MovableClock
) -> None:
    made = await _order(shop)
    clock.advance(24 * 3600 - 1)
    assert await checkouts.expire_orders(shop.app) == 0
    clock.advance(2)

    assert [await checkouts.expire_orders(shop.app) for _ in range(2)] == [1, 0]

    listed = (await shop.data("owner", LISTED, status=["CANCELLED"]))["workspace"]["orders"]
    assert listed["nodes"] == [{"id": made["id"], "status": "CANCELLED"}]
    assert (await shop.change("operator", PAY, id=made["id"], transactionId="late"))["order"]["status"] == "PAID"
    assert await _kinds(shop) == [("PURCHASE", 100)]


async def test_orders_are_listed_newest_first_by_state_and_page(shop: World) -> None:
    made = [(await _order(shop))["id"] for _ in range(3)]
    await shop.change("owner", CANCEL, id=made[1])

    page = (await shop.data("operator", LISTED, first=2))["workspace"]["orders"]
    rest = (await shop.data("operator", LISTED, first=2, after=page["pageInfo"]["endCursor"]))["workspace"]["orders"]
    waiting = (await shop.data("owner", LISTED, status=["WAIT_PAY", "PAID"]))["workspace"]["orders"]

    assert [one["id"] for one in (*page["nodes"], *rest["nodes"])] == made[::-1]
    assert (page["totalCount"], page["pageInfo"]["hasNextPage"], rest["pageInfo"]["hasNextPage"]) == (3, True, False)
    assert [one["id"] for one in waiting["nodes"]] == [made[2], made[0]]


async def test_a_followed_order_comes_first_and_then_each_change(shop: World) -> None:
    made = await _order(shop)
    query = "subscription ($id: ID) { orderChanged(orderId: $id) { kind id order { status } } }"
    async with following(shop, "admin", query, id=made["id"]) as order:
        seen = [(await order.next())["data"]["orderChanged"]]
        await shop.change("operator", PAY, id=made["id"], transactionId="bank-1")
        seen.append((await order.next())["data"]["orderChanged"])
        await shop.change("operator", REFUND, id=made["id"], idempotencyKey="k")
        seen.append((await order.next())["data"]["orderChanged"])

    assert [(one["kind"], one["order"]["status"]) for one in seen] == [
        ("CURRENT", "WAIT_PAY"), ("UPDATED", "PAID"), ("UPDATED", "REFUNDED"),
    ]  # fmt: skip


async def test_a_product_keeps_its_id_when_it_changes_and_stays_known_to_its_orders_when_it_goes(
    sqlite_template: Path, redis_url: str, tmp_path: Path
) -> None:
    url = sqlite_in(tmp_path, sqlite_template)
    async with _open(url, redis_url, tmp_path, FILE) as app:
        shop = await make_world(app)
        product, made = await _product(shop), await _order(shop)

    async with _open(url, redis_url, tmp_path, FILE.replace("999\n", "1099\n")) as app:
        shop.app = app
        changed = next(
            one for one in (await shop.data("owner", PRODUCTS))["workspace"]["products"] if one["name"] == "Pack"
        )
        kept = await shop.data(
            "owner", f"query ($id: ID!) {{ node(id: $id) {{ ... on Order {{ {ORDER} }} }} }}", id=made["id"]
        )
    assert (changed["id"], changed["price"]) == (product, 1099)
    assert kept["node"]["totalAmount"] == 999

    async with _open(url, redis_url, tmp_path, "") as app:
        shop.app = app
        assert (await shop.data("owner", PRODUCTS))["workspace"]["products"] == []
        known = await shop.data(
            "owner", f"query ($id: ID!) {{ node(id: $id) {{ ... on Order {{ {ORDER} }} }} }}", id=made["id"]
        )
        error = await shop.refused("owner", CREATE, productId=product)

    assert known["node"]["product"] == {"name": "Pack", "available": False}
    assert (error["code"], error["path"]) == ("INVALID_INPUT", ["productId"])

"""Orders under concurrency, on both engines: what many do at once is done once, and the ledger adds up."""

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from core.access import Viewer
from core.app import App
from core.entities import InvocationStatus, Order, OrderStatus, Product, QuotaUnit
from core.errors import AlreadyExists, Conflict, InvalidInput, ModelyardError, QuotaExceeded
from core.ids import uuid7
from core.orders import NewOrder, cancel_order, create_order, mark_order_paid, refund_order
from core.ports.invocation_log import Want
from core.secret import hash_secret
from storage.quotas import out_of_balance
from storage.resources import Resources
from tests.storage import rows
from tests.storage.rows import Tenant


async def _sold(app: App) -> Product:
    product = Product(
        id=uuid7(), key="pack", provider=None, name="Pack", description="", quota_amount=100, unit=QuotaUnit.CREDITS,
        price=999, currency="EUR",
    )  # fmt: skip
    async with app.storage.transaction() as tx:
        await tx.products.keep(product)
    return product


async def _operator(app: App, tenant: Tenant) -> Viewer:
    found = await app.identity.viewer(hash_secret(tenant.secret.reveal()))
    assert found is not None
    return replace(found, is_operator=True)


def _new(tenant: Tenant, product: Product, key: str | None = None) -> NewOrder:
    return NewOrder(
        workspace_id=tenant.id, product_workspace_id=tenant.id, product_id=product.id, quantity=1, gateway=None,
        idempotency_key=key,
    )  # fmt: skip


async def _limits(resources: Resources, workspace_id: UUID) -> list[int | None]:
    async with resources.storage.read() as tx:
        assert await out_of_balance(tx.connection) == []
        return [quota.limit for quota in await tx.quotas.of_workspace(workspace_id)]


async def _all(*work: Any) -> list[Any]:
    return list(await asyncio.gather(*work, return_exceptions=True))


async def test_what_many_ask_for_at_once_is_ordered_paid_and_refunded_once(resources: Resources) -> None:
    app, tenant = resources.app, await rows.tenant(resources.app)
    product, viewer = await _sold(app), await _operator(app, tenant)

    made = await _all(*(create_order(app, viewer, _new(tenant, product, "k")) for _ in range(20)))
    (order_id,) = {order.id for order in made}
    paid = await _all(*(mark_order_paid(app, viewer, order_id, transaction_id="bank-1") for _ in range(20)))
    assert {order.status for order in paid} == {OrderStatus.PAID}
    assert await _limits(resources, tenant.id) == [100]
    same = await _all(
        *(refund_order(app, viewer, order_id, amount=333, reason=None, idempotency_key="r") for _ in range(20))
    )

    assert {order.refunded for order in same} == {333}
    assert await _limits(resources, tenant.id) == [67]


async def test_refunds_at_once_pay_back_no_more_than_was_paid(resources: Resources) -> None:
    app, tenant = resources.app, await rows.tenant(resources.app)
    viewer = await _operator(app, tenant)
    order = await create_order(app, viewer, _new(tenant, await _sold(app)))
    await mark_order_paid(app, viewer, order.id, transaction_id="bank-1")

    done = await _all(
        *(refund_order(app, viewer, order.id, amount=100, reason=None, idempotency_key=f"{n}") for n in range(20))
    )

    assert sum(isinstance(one, Order) for one in done) == 9
    assert all(isinstance(one, Order | InvalidInput) for one in done)
    assert await _limits(resources, tenant.id) == [10]


async def test_a_transaction_pays_one_of_many_orders(resources: Resources) -> None:
    app, tenant = resources.app, await rows.tenant(resources.app)
    product, viewer = await _sold(app), await _operator(app, tenant)
    made = [await create_order(app, viewer, _new(tenant, product)) for _ in range(8)]

    done = await _all(*(mark_order_paid(app, viewer, order.id, transaction_id="bank-1") for order in made))

    assert sum(isinstance(one, Order) for one in done) == 1
    assert all(isinstance(one, Order | AlreadyExists) for one in done)
    assert await _limits(resources, tenant.id) == [100]


async def test_a_cancelled_order_that_is_paid_in_the_same_moment_is_credited(resources: Resources) -> None:
    app, tenant = resources.app, await rows.tenant(resources.app)
    viewer, product = await _operator(app, tenant), await _sold(app)
    for number in range(5):
        order = await create_order(app, viewer, _new(tenant, product))

        done = await _all(
            cancel_order(app, viewer, order.id), mark_order_paid(app, viewer, order.id, transaction_id=f"bank-{number}")
        )

        assert isinstance(done[0], Order | Conflict)
        assert done[1].status is OrderStatus.PAID
    assert await _limits(resources, tenant.id) == [500]


async def test_an_order_of_a_workspace_that_is_gone_leaves_nothing(resources: Resources) -> None:
    app, tenant = resources.app, await rows.tenant(resources.app)
    viewer, product = await _operator(app, tenant), await _sold(app)
    async with app.storage.transaction() as tx:
        await tx.workspaces.delete(tenant.id)

    with pytest.raises(ModelyardError):
        await create_order(app, viewer, _new(tenant, product))


async def test_a_refund_while_calls_hold_what_it_takes_blocks_further_ones_and_the_books_add_up(
    resources: Resources,
) -> None:
    app, tenant = resources.app, await rows.tenant(resources.app)
    viewer = await _operator(app, tenant)
    order = await create_order(app, viewer, _new(tenant, await _sold(app)))
    await mark_order_paid(app, viewer, order.id, transaction_id="bank-1")
    async with resources.storage.read() as tx:
        (quota,) = await tx.quotas.of_workspace(tenant.id)
    want = Want(quota_id=quota.id, minimum=10, wanted=10, input_tokens=1)
    calls = [rows.invocation(app, tenant) for _ in range(5)]
    holds = [await app.invocations.admit(call, [want]) for call in calls]

    work: list[Any] = [refund_order(app, viewer, order.id, amount=None, reason=None, idempotency_key="all")]
    for call, held in zip(calls, holds, strict=True):
        assert held.quota is not None
        ended = replace(call, status=InvocationStatus.SUCCEEDED, ended_at=call.started_at)
        work.append(app.invocations.settle(ended, {held.quota.id: 7}))
    done = await _all(*work)

    assert [one for one in done if isinstance(one, Exception)] == []
    async with resources.storage.read() as tx:
        (quota,) = await tx.quotas.of_workspace(tenant.id)
        assert await out_of_balance(tx.connection) == []
    assert (quota.limit, quota.used, quota.reserved, quota.is_valid) == (0, 35, 0, False)
    with pytest.raises(QuotaExceeded):
        await app.invocations.admit(rows.invocation(app, tenant), [want])

"""Orders: purchases of quota, how they are paid, and what became of them."""

from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from typing import Annotated
from uuid import UUID

import strawberry

from core import entities
from core.access import Permission
from core.changes import Change, ChangeKind, Noun
from core.entities import OrderStatus
from core.errors import NotFound, PaymentFailed
from core.live import Topic, follow
from core.order_states import returned
from core.orders import NewOrder, cancel_order, create_order, mark_order_paid, refund_order
from graph import ids, links
from graph.changes import seen, workspace_followed
from graph.connections import Connection, Page, row_page, rows_of
from graph.context import Context, Info
from graph.links import AccountLink, WorkspaceLink
from graph.mutations import ERRORS, INPUT, mutation
from graph.problems import UserError
from graph.products import Product
from graph.scalars import BigInt
from graph.types import Node, argument, attribute, described, input_type, object_type, resolved, streamed

described(
    OrderStatus,
    "How far an order is.",
    WAIT_PAY="It waits for payment.",
    PAID="It was paid, and its quota was added.",
    FAILED="Its payment failed. If it is paid all the same, it becomes PAID.",
    CANCELLED="It was cancelled, or not paid in time. If it is paid all the same, it becomes PAID.",
    PARTIALLY_REFUNDED="A part of it was paid back, and that part of the quota taken back.",
    REFUNDED="All of it was paid back, and its quota taken back.",
    DISPUTED="The payer's bank disputes the payment.",
)


@object_type
class Order(Node):
    """A purchase of quota. Amounts are in minor units of its currency, and those that it was ordered for."""

    order: strawberry.Private[entities.Order]

    @property
    def workspace_id(self) -> UUID:
        """Return the workspace that buys."""
        return self.order.workspace_id

    @resolved
    def id(self) -> strawberry.ID:
        """The order's id."""
        return ids.encode("Order", self.order.id)

    @resolved
    async def workspace(self, info: Info) -> WorkspaceLink:
        """The workspace that buys."""
        return await links.present_workspace(info.context, self.workspace_id)

    @resolved
    async def account(self, info: Info) -> AccountLink | None:
        """The person who ordered; null for a service token, and where the account is gone."""
        return await links.account(info.context, self.order.account_id, self.workspace_id)

    @resolved
    def provider(self) -> str | None:
        """The name of the provider that the quota is for; null: for every hosted one."""
        return self.order.provider

    @resolved
    async def product(self, info: Info) -> Product:
        """What was ordered, as it is sold now; it may not be sold any more."""
        found = await info.context.load.product(self.order.product_id)
        if found is None:
            raise NotFound("The product is gone.")
        return Product(product=found, workspace_id=self.workspace_id)

    @resolved
    def quantity(self) -> int:
        """How many were ordered."""
        return self.order.quantity

    @resolved
    def currency(self) -> str:
        """The currency, by its ISO 4217 code."""
        return self.order.currency

    @resolved
    def total_amount(self) -> BigInt:
        """What it costs in all."""
        return self.order.total_amount

    @resolved
    def refunded_amount(self) -> BigInt:
        """What of that has gone back, by refunds and a lost dispute."""
        return returned(self.order)

    @resolved
    def status(self) -> OrderStatus:
        """How far it is."""
        return self.order.status

    @resolved
    def gateway(self) -> str:
        """The gateway that it is paid through."""
        return self.order.gateway

    @resolved
    def payment_id(self) -> str | None:
        """The gateway's id of the payment; null until there is one."""
        return self.order.payment_id

    @resolved
    def transaction_id(self) -> str | None:
        """The id of the transaction that paid it; null until it is paid."""
        return self.order.transaction_id

    @resolved
    def checkout_url(self) -> str | None:
        """The page to pay on; null where there is none, and once it does not wait for payment any more.

        Right after `createOrder` it may still be on its way: `orderChanged` tells when it is there.
        """
        return self.order.checkout_url if self.order.status is OrderStatus.WAIT_PAY else None

    @resolved
    def problem(self) -> UserError | None:
        """What went wrong with its payment, such as an amount that does not fit; null: nothing."""
        problem = self.order.problem
        return UserError.of(PaymentFailed(problem)) if problem is not None else None

    @resolved
    def created_at(self) -> datetime:
        """When it was ordered."""
        return self.order.created_at

    @resolved
    def expires_at(self) -> datetime | None:
        """Until when it may be paid."""
        return self.order.expires_at

    @resolved
    def paid_at(self) -> datetime | None:
        """When it was paid; null: it was not."""
        return self.order.paid_at

    @resolved
    def failed_at(self) -> datetime | None:
        """When its payment failed; null: it did not."""
        return self.order.failed_at

    @resolved
    def refunded_at(self) -> datetime | None:
        """When money last went back; null: never."""
        return self.order.refunded_at

    @resolved
    def cancelled_at(self) -> datetime | None:
        """When it was cancelled, or expired; null: it was not."""
        return self.order.cancelled_at


async def order_page(
    context: Context, workspace_id: UUID, page: Page, *, provider: str | None, status: Sequence[OrderStatus] | None
) -> Connection[Order]:
    """Return a page of the orders of a workspace, newest first."""
    name = (context.app.catalog.canonical(provider) or provider) if provider is not None else None
    async with context.app.storage.read() as tx:
        found = await tx.orders.page(workspace_id, rows_of(page), provider=name, statuses=status)
    return row_page(found, lambda one: Order(order=one), lambda one: one.id)


# ---- mutations


@input_type
class CreateOrderInput:
    """What to order."""

    workspace_id: strawberry.ID | None = attribute(
        "The workspace that buys; left out, the token's, or the only one that your account belongs to.", default=None
    )
    product_id: strawberry.ID = attribute("The product, of the workspace's `products`.")
    quantity: int = attribute("How many, 1 to 10,000.", default=1)
    gateway: str | None = attribute("How it will be paid; left out, the installation's first way.", default=None)
    idempotency_key: str | None = attribute("The same key and input give the same order for 24 hours.", default=None)


@input_type
class CancelOrderInput:
    """An order to cancel."""

    id: strawberry.ID = attribute("The order's id.")


@input_type
class MarkOrderPaidInput:
    """An order that was paid where no gateway tells of it."""

    id: strawberry.ID = attribute("The order's id.")
    transaction_id: str = attribute("What names the payment, such as a bank's reference; one pays one order.")


@input_type
class RefundOrderInput:
    """What to pay back."""

    id: strawberry.ID = attribute("The order's id.")
    amount: BigInt | None = attribute("How much, in minor units; left out, all that is left.", default=None)
    reason: str | None = attribute("Why, for the ledger.", default=None)
    idempotency_key: str = attribute("The same key and input pay back once within 24 hours.")


@object_type
class OrderPayload:
    """What came of a change of an order."""

    order: Order | None = attribute("The order as it is now; null when it failed.", default=None)
    errors: list[UserError] = attribute(ERRORS)


@strawberry.type(name="Mutation")
class OrderMutations:
    """Changes of orders."""

    @mutation(OrderPayload)
    async def create_order(self, info: Info, input: Annotated[CreateOrderInput, INPUT]) -> OrderPayload:
        """Orders a product: it is paid on `checkoutUrl`, or marked as paid by an operator. Needs ORDER_MANAGE."""
        product_workspace_id, product_id = ids.given_pair(input.product_id, "Product", ("productId",))
        new = NewOrder(
            workspace_id=ids.optional_uuid(input.workspace_id, "Workspace", ("workspaceId",)),
            product_workspace_id=product_workspace_id,
            product_id=product_id,
            quantity=input.quantity,
            gateway=input.gateway,
            idempotency_key=input.idempotency_key,
        )
        made = await create_order(info.context.app, info.context.who, new)
        return OrderPayload(order=Order(order=made), errors=[])

    @mutation(OrderPayload)
    async def cancel_order(self, info: Info, input: Annotated[CancelOrderInput, INPUT]) -> OrderPayload:
        """Cancels an order that waits for payment. Needs ORDER_MANAGE."""
        changed = await cancel_order(info.context.app, info.context.who, ids.given_uuid(input.id, "Order"))
        return OrderPayload(order=Order(order=changed), errors=[])

    @mutation(OrderPayload)
    async def mark_order_paid(self, info: Info, input: Annotated[MarkOrderPaidInput, INPUT]) -> OrderPayload:
        """Says that an order of the gateway `manual` was paid, which adds its quota. Needs ORDER_REFUND: operators."""
        changed = await mark_order_paid(
            info.context.app,
            info.context.who,
            ids.given_uuid(input.id, "Order"),
            transaction_id=input.transaction_id,
        )
        return OrderPayload(order=Order(order=changed), errors=[])

    @mutation(OrderPayload)
    async def refund_order(self, info: Info, input: Annotated[RefundOrderInput, INPUT]) -> OrderPayload:
        """Pays back an order or a part of it, and takes back its quota pro rata. Needs ORDER_REFUND: operators.

        What is left of the quota may go below 0, and then nothing more is held of it.
        """
        changed = await refund_order(
            info.context.app,
            info.context.who,
            ids.given_uuid(input.id, "Order"),
            amount=input.amount,
            reason=input.reason,
            idempotency_key=input.idempotency_key,
        )
        return OrderPayload(order=Order(order=changed), errors=[])


# ---- changes as they happen


@object_type
class OrderChange:
    """A change of an order."""

    kind: ChangeKind = attribute("What happened.")
    id: strawberry.ID = attribute("The order's id.")
    order: Order | None = attribute("The order as it is now; null where it is gone.", default=None)


@strawberry.type(name="Subscription")
class OrderSubscriptions:
    """Changes of orders."""

    @streamed
    async def order_changed(
        self,
        info: Info,
        workspace_id: Annotated[
            strawberry.ID | None,
            argument(
                "The workspace; left out, the order's, else the token's, or the only one that your account belongs to."
            ),
        ] = None,
        order_id: Annotated[strawberry.ID | None, argument("Only this order: it comes first, as CURRENT.")] = None,
    ) -> AsyncGenerator[OrderChange, None]:
        """Streams changes of orders: made, paid, cancelled, refunded, disputed.

        Ends with an error when access ends, or when changes may have been missed: subscribe again. Needs ORDER_READ.
        """
        context = info.context
        key = ids.optional_uuid(order_id, "Order", ("orderId",))
        found = await context.load.order(key) if key is not None else None
        given = ids.optional_uuid(workspace_id, "Workspace", ("workspaceId",))
        own = found.workspace_id if found is not None and context.who.sees(found.workspace_id) else None
        if key is not None and own is None:
            raise _unknown()
        topic = Topic(
            workspace_id=workspace_followed(context, given, own),
            noun=Noun.ORDER,
            permission=Permission.ORDER_READ,
            key=str(key) if key is not None else None,
        )
        news = follow(context.app, context.who, topic)
        if key is not None and own != topic.workspace_id:
            raise _unknown()
        return seen(context, news, _order_change)


async def _order_change(context: Context, change: Change) -> OrderChange | None:
    key = UUID(change.key)
    found = await context.load.order(key)
    kind = change.kind if found is not None else ChangeKind.DELETED
    return OrderChange(kind=kind, id=ids.encode("Order", key), order=Order(order=found) if found is not None else None)


def _unknown() -> NotFound:
    return NotFound("There is no such order, or it is not one of yours.", path=("orderId",))

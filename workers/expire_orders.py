"""Cancels orders that were not paid in time, and goes on where a process has ended between an order and its gateway."""

from core import checkouts
from core.payment_events import retry_events
from storage.resources import Resources


async def expire_orders(resources: Resources) -> int:
    """Cancel what has expired, ask gateways again, and try events again that came too early; return how many."""
    expired = await checkouts.expire_orders(resources.app)
    mended = await checkouts.mend_orders(resources.app)
    return expired + mended + await retry_events(resources.app)

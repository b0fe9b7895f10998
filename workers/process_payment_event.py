"""Does what a payment gateway's event brings."""

from core.app import App
from core.jobs import ProcessPaymentEvent
from core.payment_events import process


async def process_payment_event(app: App, job: ProcessPaymentEvent) -> None:
    """Move the order that the event is about, once."""
    await process(app, job.event_id)

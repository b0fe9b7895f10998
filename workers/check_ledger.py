"""Checks that every balance is the sum of its changes, and reports those that are not."""

import logging

from storage.quotas import out_of_balance
from storage.resources import Resources

log = logging.getLogger(__name__)


async def check_ledger(resources: Resources) -> int:
    """Report each quota whose limit, used or reserved is not the sum of its entries; return how many there are."""
    async with resources.storage.read() as tx:
        wrong = await out_of_balance(tx.connection)
    for quota_id in wrong:
        log.error("the balance of quota %s is not the sum of its entries", quota_id)
    return len(wrong)

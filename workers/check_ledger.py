"""Checks that balances are the sums of their changes, or of what calls cost and hold; reports those that are not."""

import logging

from storage import budgets, quotas
from storage.resources import Resources

log = logging.getLogger(__name__)


async def check_ledger(resources: Resources) -> int:
    """Report quotas that are not the sums of their entries, and budgets that are not the sums of their holds.

    Return how many there are.
    """
    async with resources.storage.read() as tx:
        of_quotas = await quotas.out_of_balance(tx.connection)
        of_budgets = await budgets.out_of_balance(tx.connection)
    for quota_id in of_quotas:
        log.error("the balance of quota %s is not the sum of its entries", quota_id)
    for budget_id in of_budgets:
        log.error("the balance of budget %s is not the sum of what its calls cost and hold", budget_id)
    return len(of_quotas) + len(of_budgets)

"""Ceilings on what tokens may cost."""

from datetime import datetime
from decimal import Decimal

import strawberry

from core import entities
from core.entities import BudgetPeriod, Ceiling
from core.ledger import period_end
from graph.context import Info
from graph.types import attribute, input_type, object_type, resolved


@object_type
class Budget:
    """A ceiling on cost. A call that cannot be afforded is refused with BUDGET_EXCEEDED before it leaves."""

    budget: strawberry.Private[entities.Budget]

    @resolved
    def limit(self) -> Decimal:
        """The most that may be spent in a period."""
        return self.budget.ceiling.limit

    @resolved
    def currency(self) -> str:
        """The currency's ISO 4217 code."""
        return self.budget.ceiling.currency

    @resolved
    def period(self) -> BudgetPeriod:
        """When it begins anew, in UTC. A call counts in the period that it was admitted in."""
        return self.budget.ceiling.period

    @resolved
    def spent(self) -> Decimal:
        """What ended calls of this period have cost."""
        return self.budget.spent

    @resolved
    def reserved(self) -> Decimal:
        """What calls under way hold: the most that they can cost, the rest of which is freed at their end."""
        return self.budget.reserved

    @resolved
    def resets_at(self, info: Info) -> datetime | None:
        """When the next period begins; null: never."""
        return period_end(self.budget.ceiling.period, info.context.app.clock.now())


@input_type
class BudgetInput:
    """A ceiling on cost. Every model that is called under it needs a price in its currency."""

    limit: Decimal = attribute("The most that may be spent in a period: more than 0, at most 10 decimals.")
    currency: str = attribute("The currency's ISO 4217 code.")
    period: BudgetPeriod = attribute("When it begins anew, in UTC.")

    def entered(self) -> Ceiling:
        """Return what core takes."""
        return Ceiling(limit=self.limit, currency=self.currency, period=self.period)

"""Ceilings on cost: which ones a call is under, what it wants to hold of them, and what may be entered as one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid5

from core.access import Viewer
from core.currencies import CURRENCIES
from core.entities import BudgetPeriod, Ceiling, WorkspaceBudget
from core.errors import BudgetExceeded, InvalidInput
from core.metering import Dearest, dearest, spending
from core.plan import Step
from core.ports.invocation_log import Spend
from core.pricing import is_free, plain
from core.settings import MAX_BUDGET, MAX_BUDGET_DECIMALS, Settings, is_budget


@dataclass(frozen=True, slots=True, kw_only=True)
class Fund:
    """A budget that a call is under: the token's, or the workspace's by setting."""

    budget_id: UUID
    currency: str
    by_setting: WorkspaceBudget | None = None


def funds_of(viewer: Viewer, workspace_id: UUID, settings: Settings) -> tuple[Fund, ...]:
    """Return the budgets of a viewer's calls in a workspace: the token's, and what a setting gives each workspace."""
    funds = []
    allowance = viewer.allowance
    if allowance is not None and allowance.budget_id is not None and allowance.currency is not None:
        funds.append(Fund(budget_id=allowance.budget_id, currency=allowance.currency))
    if settings.workspace_budget is not None:
        limit, currency, period = settings.workspace_budget
        ceiling = Ceiling(limit=limit, currency=currency, period=BudgetPeriod(period))
        budget = workspace_budget(workspace_id, ceiling)
        funds.append(Fund(budget_id=budget.id, currency=ceiling.currency, by_setting=budget))
    return tuple(funds)


def workspace_budget(workspace_id: UUID, ceiling: Ceiling) -> WorkspaceBudget:
    """Return the budget that a setting gives a workspace; with another currency or period it is another one."""
    name = f"{ceiling.currency} {ceiling.period}"
    return WorkspaceBudget(id=uuid5(workspace_id, name), workspace_id=workspace_id, ceiling=ceiling)


def price_of(step: Step, fund: Fund) -> Dearest:
    """Return the most that an attempt can cost, in the currency of a budget.

    Raises:
        BudgetExceeded: its model has no price in that currency, or none for what such a call is counted by.
    """
    pricing = step.card.pricing
    expected = step.estimate.twice() if step.may_be_hedged else step.estimate
    is_known = pricing is not None and (pricing.currency == fund.currency or is_free(pricing))
    found = dearest(pricing, expected) if is_known else None
    if found is None:
        whose = "token" if fund.by_setting is None else "workspace"
        raise BudgetExceeded(
            f"The {whose} has a budget in {fund.currency}, and {step.key.provider}/{step.key.name} has no price in it: "
            "set one with `setModelPricing`, or call another model."
        )
    return found


def prices_of(step: Step, funds: Sequence[Fund]) -> Mapping[UUID, Dearest]:
    """Return the most that an attempt can cost, by the budget; see `price_of`."""
    return {fund.budget_id: price_of(step, fund) for fund in funds}


def spends_of(step: Step, funds: Sequence[Fund], prices: Mapping[UUID, Dearest]) -> list[Spend]:
    """Return what an attempt wants to hold of its budgets; of none where it can cost nothing."""
    spends = []
    for fund in funds:
        wanted = spending(prices[fund.budget_id], step.estimate)
        if wanted.wanted:
            spends.append(
                Spend(
                    budget_id=fund.budget_id,
                    minimum=wanted.minimum,
                    wanted=wanted.wanted,
                    input_tokens=step.estimate.input_likely,
                    by_setting=fund.by_setting,
                )
            )
    return spends


def checked_ceiling(given: Ceiling) -> Ceiling:
    """Return an entered ceiling if it can be one.

    Raises:
        InvalidInput: its limit is not positive, too large or too fine, or its currency is none.
    """
    if not is_budget(given.limit):
        raise InvalidInput(
            f"A budget is more than 0, at most {MAX_BUDGET:,}, with at most {MAX_BUDGET_DECIMALS} decimals; to stop a "
            "token, revoke it.",
            path=("budget", "limit"),
        )
    if given.currency not in CURRENCIES:
        raise InvalidInput("A currency is its ISO 4217 code, such as USD.", path=("budget", "currency"))
    return given


def told(ceiling: Ceiling) -> str:
    """Return a ceiling as people write it."""
    return f"{plain(ceiling.limit)} {ceiling.currency} {ceiling.period}"

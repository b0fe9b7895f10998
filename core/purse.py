"""What one call may spend: its holds of quotas and budgets, raised as it goes on, and what of them was used."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from uuid import UUID

from core.app import App
from core.budgets import Fund, prices_of, spends_of
from core.counting import OutputCount
from core.entities import Invocation, QuotaUnit
from core.errors import BudgetExceeded, QuotaExceeded, ServerUnavailable
from core.metering import SLICE, Dearest, charge, spent
from core.model_types import Usage
from core.plan import Step
from core.ports.invocation_log import Hold, Holds
from core.ports.once import OnceKey
from core.ports.rates import Taken

log = logging.getLogger(__name__)


class Purse:
    """The holds of one call: of a quota where hosted credentials serve it, and of each budget that it is under.

    `taken` is how it was counted by the limits a minute; None: it is under none.
    """

    def __init__(self, app: App, funds: Sequence[Fund]) -> None:
        self._app = app
        self.taken: Taken | None = None
        self._funds = funds
        self._step: Step | None = None
        self._quota: Hold | None = None
        self._had_quota = False
        self._had_budgets = False
        self._budgets: dict[UUID, Hold] = {}
        self._prices: Mapping[UUID, Dearest] = {}
        self._held_output: int | None = None

    async def admit(self, invocation: Invocation, step: Step, once: OnceKey | None) -> None:
        """Hold what a first attempt may use, and write the call down with it.

        Raises:
            QuotaExceeded: no quota has enough left; nothing was written.
            BudgetExceeded: a budget has not, or the model has no price in its currency; nothing was written.
            AlreadyAdmitted: its key stands for another call already.
        """
        prices = prices_of(step, self._funds)
        spends = spends_of(step, self._funds, prices)
        self._take(step, prices, await self._app.invocations.admit(invocation, step.wants(), once, spends))

    async def pay_for(self, invocation: Invocation, step: Step) -> None:
        """Hold what a further attempt may use; one at the same model is paid for by what is held already.

        Raises:
            QuotaExceeded: no quota has enough left.
            BudgetExceeded: a budget has not, or the model has no price in its currency.
        """
        if self._step is not None and step.key == self._step.key:
            return
        prices = prices_of(step, self._funds)
        spends, wants, holds = spends_of(step, self._funds, prices), step.wants(), Holds()
        # First noted: where nobody knows whether it was written, it is freed all the same.
        self._quota, self._had_quota = None, self._had_quota or bool(wants)
        self._had_budgets = self._had_budgets or bool(spends)
        if spends or wants:
            asking = replace(invocation, model=step.key, provider_type=step.provider_type, pricing=step.card.pricing)
            holds = await self._app.invocations.hold(asking, wants, spends)
        self._take(step, prices, holds)

    def ceiling(self, step: Step) -> int | None:
        """Return the most tokens of output that there is enough left for; None: as many as it likes."""
        return self._output_for(step, with_left=True)

    @property
    def has_funds(self) -> bool:
        """Tell whether the call is under a budget."""
        return bool(self._funds)

    @property
    def pays_for_output(self) -> bool:
        """Tell whether output has to be paid for as it comes."""
        of_quota = self._quota is not None and self._quota.unit is QuotaUnit.TOKENS
        return of_quota or any(self._prices[budget_id].per_output for budget_id in self._budgets)

    async def pay(self, invocation_id: UUID, output: OutputCount) -> None:
        """Hold more, a slice at a time, when so much output is there that what is held does not pay for it.

        Raises:
            QuotaExceeded: nothing is left of the quota.
            BudgetExceeded: nothing is left of a budget.
        """
        held, step = self._held_output, self._step
        if held is None or output.most <= held or output.counted() <= held:
            return
        assert step is not None, "output comes of an attempt"
        quota, tokens = self._quota, output.most
        if quota is not None and quota.unit is QuotaUnit.TOKENS:
            needed = step.estimate.input_bound + tokens
            self._quota = await self._raised(quota, invocation_id, needed, SLICE)
        for budget_id, hold in self._budgets.items():
            price = self._prices[budget_id]
            needed = price.cost(tokens)
            self._budgets[budget_id] = await self._raised(hold, invocation_id, needed, price.per_output * SLICE)
        self._held_output = self._output_for(step, with_left=False)

    async def tell(self, usage: Usage | None) -> None:
        """Count the call with the tokens that it has used in the end, where tokens are counted."""
        taken, used = self.taken, usage.total_tokens if usage is not None else 0
        if taken is not None and used != taken.tokens and any(rate.tokens is not None for rate in taken.rates):
            await self._app.rates.correct(taken, used)

    def charges(self, step: Step, usage: Usage | None) -> Mapping[UUID, int] | None:
        """Return what the holds of quotas have used, by their ids: what none names was used by nothing.

        None: there are none.
        """
        if not self._had_quota:
            return None
        quota, paid = self._quota, self._step
        if quota is None or quota.unit is None or paid is None or paid.key != step.key:
            return {}
        return {quota.id: charge(quota.unit, usage, step.credits)}

    def spent(self, step: Step, usage: Usage | None) -> Mapping[UUID, int] | None:
        """Return what the holds of budgets have used, in attos by their ids. None: there are none."""
        if not self._had_budgets:
            return None
        return {hold.id: spent(usage, step.card.pricing, hold.amount) for hold in self._budgets.values()}

    def _take(self, step: Step, prices: Mapping[UUID, Dearest], holds: Holds) -> None:
        self._step, self._prices, self._quota = step, prices, holds.quota
        self._had_quota = self._had_quota or holds.quota is not None
        self._had_budgets = self._had_budgets or bool(holds.budgets)
        self._budgets |= {hold.balance_id: hold for hold in holds.budgets}
        self._held_output = self._output_for(step, with_left=False)

    def _output_for(self, step: Step, *, with_left: bool) -> int | None:
        """Return the tokens of output that what is held pays for, and what there is left besides; None: any number."""
        found = []
        if (quota := self._quota) is not None and quota.unit is QuotaUnit.TOKENS:
            if not with_left:
                found.append(quota.amount - step.estimate.input_bound)
            elif quota.left is not None:
                found.append(quota.amount + quota.left - step.estimate.input_bound)
        for budget_id, hold in self._budgets.items():
            most = self._prices[budget_id].affordable(hold.amount + (hold.left or 0 if with_left else 0))
            if most is not None:
                found.append(most)
        return min(found, default=None)

    async def _raised(self, hold: Hold, invocation_id: UUID, needed: int, slice_: int) -> Hold:
        while needed > hold.amount:
            more = await self._grown(hold, invocation_id, slice_)
            if not more:
                raise self._used_up(hold)
            hold = replace(hold, amount=hold.amount + more)
        return hold

    async def _grown(self, hold: Hold, invocation_id: UUID, slice_: int) -> int:
        """Return how much more is held. No answer ends for trouble with that: what is above the hold is booked too."""
        try:
            more = await self._app.invocations.grow(hold, invocation_id, slice_)
        except ServerUnavailable as error:
            log.warning("invocation %s goes on without holding more: %s", invocation_id, error)
            return slice_
        return slice_ if more is None else more

    def _used_up(self, hold: Hold) -> QuotaExceeded | BudgetExceeded:
        if hold.unit is None:
            return BudgetExceeded(
                "The budget was used up in the middle of the answer: ask for less output, or take a cheaper model."
            )
        assert self._step is not None
        return QuotaExceeded(
            f"The hosted quota for {self._step.key.provider} was used up in the middle of the answer: order more, or "
            "add your own credential with `createCredential`."
        )

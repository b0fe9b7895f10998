"""What a call takes from quotas and budgets: before it, the amount to hold; after it, the amount to book."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal

from core.entities import QuotaUnit
from core.model_types import ModelType, Usage
from core.pricing import attos, cost
from core.provider import LongInputPrice, ModelCard, Pricing, PricingUnit

SLICE = 2048
"""How many tokens of output a stream holds at a time."""

OUTPUT_UNKNOWN = 4096
"""The ceiling of output for a model that names none, in a call that asks for none and is paid by its output."""

_ATTOS_OF_A_MILLIONTH = 12
"""The decimals of an attos that a millionth of a unit is worth."""

_COUNTED = frozenset({ModelType.LLM, ModelType.TEXT_EMBEDDING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a call may use, in tokens: a bound of its input, what its input is likely to be, a ceiling of its output.

    Output that `is_firm` cannot be lowered to what there is left; one that `is_hidden` is not all seen as it comes. Of
    what is not counted in tokens: bounds too.
    """

    input_bound: int
    input_likely: int
    output: int = 0
    streaming: bool = False
    is_firm: bool = False
    is_hidden: bool = False
    characters: int = 0
    seconds: int = 0
    requests: int = 1

    def twice(self) -> "Estimate":
        """Return the estimate of a call that may be made twice, one of which is called off before it has written."""
        return replace(
            self,
            input_bound=2 * self.input_bound,
            characters=2 * self.characters,
            seconds=2 * self.seconds,
            requests=2 * self.requests,
        )


NOTHING = Estimate(input_bound=0, input_likely=0)
"""What is expected of a call that is not counted in tokens."""


def expected(likely: Usage, bound: Usage | None = None) -> Estimate:
    """Return the estimate of a call whose usage is foreseen; it has no output that could be lowered.

    Without a bound it is foreseen at four bytes a token: four times that is one.
    """
    bound = bound or Usage(input_tokens=4 * likely.total_tokens, requests=likely.requests)
    return Estimate(
        input_bound=bound.input_tokens,
        input_likely=likely.input_tokens,
        output=bound.output_tokens,
        is_firm=True,
        characters=bound.characters,
        seconds=math.ceil(bound.seconds),
        requests=bound.requests,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What is to be held: all of `wanted`, or as much as there is from `minimum` on."""

    minimum: int
    wanted: int


def is_counted_in_tokens(card: ModelCard) -> bool:
    """Tell whether a quota of TOKENS can pay for a model: it is priced per token, or of a type that is."""
    return card.pricing.unit is PricingUnit.TOKEN if card.pricing is not None else card.type in _COUNTED


def demand(unit: QuotaUnit, estimate: Estimate, credits_a_call: int) -> Demand:
    """Return what a call holds of a quota of this unit."""
    match unit:
        case QuotaUnit.TIMES:
            return Demand(minimum=1, wanted=1)
        case QuotaUnit.CREDITS:
            return Demand(minimum=credits_a_call, wanted=credits_a_call)
        case QuotaUnit.TOKENS:
            output = min(estimate.output, SLICE) if estimate.streaming else estimate.output
            least = output if estimate.is_firm else min(1, output)
            return Demand(minimum=estimate.input_bound + least, wanted=estimate.input_bound + output)


def charge(unit: QuotaUnit, usage: Usage | None, credits_a_call: int) -> int:
    """Return what a call that used this is charged; None: it used nothing."""
    if usage is None:
        return 0
    match unit:
        case QuotaUnit.TIMES:
            return 1
        case QuotaUnit.CREDITS:
            return credits_a_call
        case QuotaUnit.TOKENS:
            return usage.total_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Dearest:
    """The most that a call can cost, in attos: so much in any case, and so much for each token of its output."""

    base: int
    per_output: int

    def cost(self, output_tokens: int) -> int:
        """Return the most that the call costs when it has written so much."""
        return self.base + self.per_output * output_tokens

    def affordable(self, attos: int) -> int | None:
        """Return how many tokens of output so much pays for; None: as many as one likes."""
        return (attos - self.base) // self.per_output if self.per_output else None


def dearest(pricing: Pricing | None, estimate: Estimate) -> Dearest | None:
    """Return the most that a call with this estimate can cost; None where a price that it needs is not known.

    Every token of input is taken for the dearest kind (fresh, cached or written to the cache) and for the dearer price
    of long input where the bound says that it may be that long. Output includes reasoning.
    """
    if pricing is None:
        return None
    match pricing.unit:
        case PricingUnit.TOKEN:
            return _dearest_tokens(pricing, estimate)
        case PricingUnit.CHARACTER:
            count = estimate.characters
        case PricingUnit.SECOND:
            count = estimate.seconds
        case PricingUnit.REQUEST:
            count = estimate.requests
    return Dearest(base=count * _each(pricing.input), per_output=0) if count else None


def spending(dearest: Dearest, estimate: Estimate) -> Demand:
    """Return what a call holds of a budget, in attos: a stream a slice of its output, unless some of it is hidden."""
    is_sliced = estimate.streaming and not estimate.is_hidden
    output = min(estimate.output, SLICE) if is_sliced else estimate.output
    least = output if estimate.is_firm else min(1, output)
    return Demand(minimum=dearest.cost(least), wanted=dearest.cost(output))


def spent(usage: Usage | None, pricing: Pricing | None, held: int) -> int:
    """Return what a call that used this cost, in attos; where its cost is not known, what was held for it."""
    if usage is None:
        return 0
    found = cost(usage, pricing)
    return attos(Decimal(found.amount)) if found is not None else held


def _dearest_tokens(pricing: Pricing, estimate: Estimate) -> Dearest | None:
    beyond = pricing.beyond if pricing.beyond and estimate.input_bound > pricing.beyond.above_input_tokens else None
    prices: list[Pricing | LongInputPrice] = [pricing] if beyond is None else [pricing, beyond]
    if not estimate.input_bound or (estimate.output and pricing.output is None):
        return None
    inputs = _known(
        kind
        for price in prices
        for kind in (price.input, price.cached_input, price.cache_write, price.hour_cache_write)
    )
    outputs = _known(price.output for price in prices)
    return Dearest(
        base=estimate.input_bound * max(_each(price) for price in inputs),
        per_output=max((_each(price) for price in outputs), default=0),
    )


def _known(prices: Iterable[Decimal | None]) -> list[Decimal]:
    return [price for price in prices if price is not None]


def _each(price_per_million: Decimal) -> int:
    """Return the price of one unit in attos."""
    return math.ceil(price_per_million.scaleb(_ATTOS_OF_A_MILLIONTH))


def output_ceiling(card: ModelCard, asked: int | None) -> int:
    """Return the most tokens that a call holds for output when at most this many are asked for, None: no limit."""
    found = known_ceiling(card, asked)
    return OUTPUT_UNKNOWN if found is None else found


def known_ceiling(card: ModelCard, asked: int | None) -> int | None:
    """Return the most tokens that a model can write in a call that asked for at most this many; None: nobody knows."""
    return min((one for one in (card.max_output_tokens or card.context_window, asked) if one), default=None)

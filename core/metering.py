"""What a hosted call takes from a quota: before it, the amount to hold; after it, the amount to book."""

from dataclasses import dataclass

from core.entities import QuotaUnit
from core.model_types import ModelType, Usage
from core.provider import ModelCard, PricingUnit

SLICE = 2048
"""How many tokens of output a stream holds at a time."""

OUTPUT_UNKNOWN = 4096
"""The ceiling of output that is held for a model that names none."""

_COUNTED = frozenset({ModelType.LLM, ModelType.TEXT_EMBEDDING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a call may use, in tokens: a bound of its input, what its input is likely to be, a ceiling of its output."""

    input_bound: int
    input_likely: int
    output: int = 0
    streaming: bool = False


NOTHING = Estimate(input_bound=0, input_likely=0)
"""What is expected of a call that is not counted in tokens."""


def expected(usage: Usage) -> Estimate:
    """Return the estimate of a call whose usage is foreseen at four bytes a token: a bound is four times that."""
    return Estimate(input_bound=4 * usage.total_tokens, input_likely=usage.total_tokens)


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
            least = estimate.input_bound + min(1, estimate.output)
            return Demand(minimum=least, wanted=estimate.input_bound + output)


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


def output_ceiling(card: ModelCard, asked: object) -> int:
    """Return the most tokens that a model can write in a call that asked for at most this many, None: for no limit."""
    limit = card.max_output_tokens or card.context_window or OUTPUT_UNKNOWN
    return min(asked, limit) if isinstance(asked, int) else limit

"""Usage × price, exactly."""

from decimal import Decimal

from core.model_types import Usage
from core.model_types.llm import Cost
from core.provider import Pricing, PricingUnit

_MILLION = Decimal(1_000_000)


def cost(usage: Usage, pricing: Pricing | None) -> Cost | None:
    """Return what the usage costs; None where a price that it needs is not known, never 0 in its place."""
    if pricing is None or (pricing.output is None and usage.output_tokens and pricing.unit is PricingUnit.TOKEN):
        return None
    match pricing.unit:
        case PricingUnit.TOKEN:
            amount = _tokens(usage, pricing)
        case PricingUnit.CHARACTER:
            amount = usage.characters * pricing.input
        case PricingUnit.SECOND:
            amount = Decimal(repr(usage.seconds)) * pricing.input
        case PricingUnit.REQUEST:
            amount = usage.requests * pricing.input
    return Cost(amount=plain(amount / _MILLION), currency=pricing.currency)


def plain(amount: Decimal) -> str:
    """Return an exact decimal as text without an exponent and without idle zeros."""
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _tokens(usage: Usage, pricing: Pricing) -> Decimal:
    """Price cached input, cache writes and the rest apart; one without a price of its own costs what input costs."""
    is_long = pricing.beyond is not None and usage.input_tokens > pricing.beyond.above_input_tokens
    price = pricing.beyond if is_long and pricing.beyond is not None else pricing
    uncached = max(0, usage.input_tokens - usage.cached_input_tokens - usage.cache_write_tokens)
    cached_price = price.cached_input if price.cached_input is not None else price.input
    write_price = price.cache_write if price.cache_write is not None else price.input
    output_price = price.output if price.output is not None else Decimal(0)
    return (
        uncached * price.input
        + usage.cached_input_tokens * cached_price
        + usage.cache_write_tokens * write_price
        + usage.output_tokens * output_price
    )

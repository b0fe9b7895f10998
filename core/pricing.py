"""Usage × price, exactly; money as whole attos, the billionths of billionths of a currency's unit."""

import math
import re
from decimal import Context, Decimal, localcontext

from core.errors import InvalidInput
from core.model_types import Usage
from core.model_types.llm import Cost
from core.provider import LongInputPrice, Pricing, PricingUnit

MAX_PRICE = 1_000_000_000
"""The highest price of a million units that is taken for one."""

MAX_DECIMALS = 10
_MILLION = Decimal(1_000_000)
_EXACT = Context(prec=80)
_CURRENCY = re.compile("[A-Z]{3}")
ATTOS = 10**18
"""How many attos a unit has: a price has ten decimals for a million units, so that every cost of units is whole."""


def check_pricing(pricing: Pricing) -> None:
    """Let an entered price pass.

    Raises:
        InvalidInput: it names no currency, an amount is negative, too large or too fine, or belongs to another unit.
    """
    if not _CURRENCY.fullmatch(pricing.currency):
        raise InvalidInput("A currency is its ISO 4217 code, such as USD.", path=("pricing", "currency"))
    amounts = {"input": pricing.input, "output": pricing.output, "cachedInput": pricing.cached_input}
    for name, amount in (amounts | {"cacheWrite": pricing.cache_write}).items():
        if amount is None:
            continue
        if name != "input" and pricing.unit is not PricingUnit.TOKEN:
            raise InvalidInput(f"`{name}` is a price of tokens; the unit is {pricing.unit}.", path=("pricing", name))
        exponent = amount.as_tuple().exponent
        if not 0 <= amount <= MAX_PRICE or not isinstance(exponent, int) or -exponent > MAX_DECIMALS:
            raise InvalidInput(
                f"A price is 0 to {MAX_PRICE:,} with at most {MAX_DECIMALS} decimals.", path=("pricing", name)
            )


def cost(usage: Usage, pricing: Pricing | None) -> Cost | None:
    """Return what the usage costs; None where a price that it needs is not known, never 0 in its place."""
    if pricing is None or (pricing.output is None and usage.output_tokens and pricing.unit is PricingUnit.TOKEN):
        return None
    if not _counted(usage, pricing.unit):
        return None
    with localcontext(_EXACT):
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


def is_free(pricing: Pricing) -> bool:
    """Tell whether all of its prices are 0, which is the same in every currency."""
    prices: list[Pricing | LongInputPrice] = [pricing] if pricing.beyond is None else [pricing, pricing.beyond]
    kinds = ("input", "output", "cached_input", "cache_write", "hour_cache_write")
    return not any(getattr(price, kind) for price in prices for kind in kinds)


def attos(amount: Decimal) -> int:
    """Return an amount in attos; what is finer is rounded up."""
    return math.ceil(_EXACT.multiply(amount, ATTOS))


def amount_of(attos: int) -> Decimal:
    """Return so many attos as an exact amount."""
    return Decimal(plain(Decimal(attos).scaleb(-18, _EXACT)))


def _counted(usage: Usage, unit: PricingUnit) -> bool:
    """Tell whether what is charged was counted; a call that used something else was not free."""
    counts = {
        PricingUnit.TOKEN: usage.total_tokens,
        PricingUnit.CHARACTER: usage.characters,
        PricingUnit.SECOND: usage.seconds,
    }
    return unit is PricingUnit.REQUEST or bool(counts[unit]) or not any(counts.values())


def plain(amount: Decimal) -> str:
    """Return an exact decimal as text without an exponent and without idle zeros."""
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _tokens(usage: Usage, pricing: Pricing) -> Decimal:
    """Price cached input, cache writes and the rest apart; one without a price of its own costs what input costs.

    Writes that are kept for an hour cost what other writes do, where they have no price of their own.

    What a provider says it charges for is priced as that and nothing else.
    """
    if usage.billed_input_tokens is not None:
        usage = Usage(input_tokens=usage.billed_input_tokens, output_tokens=usage.billed_output_tokens or 0)
    is_long = pricing.beyond is not None and usage.input_tokens > pricing.beyond.above_input_tokens
    price = pricing.beyond if is_long and pricing.beyond is not None else pricing
    uncached = max(0, usage.input_tokens - usage.cached_input_tokens - usage.cache_write_tokens)
    cached_price = price.cached_input if price.cached_input is not None else price.input
    write_price = price.cache_write if price.cache_write is not None else price.input
    hour_price = price.hour_cache_write if price.hour_cache_write is not None else write_price
    output_price = price.output if price.output is not None else Decimal(0)
    return (
        uncached * price.input
        + usage.cached_input_tokens * cached_price
        + (usage.cache_write_tokens - usage.hour_cache_write_tokens) * write_price
        + usage.hour_cache_write_tokens * hour_price
        + usage.output_tokens * output_price
    )

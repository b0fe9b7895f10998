"""Usage × price, exactly."""

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.model_types import MOST, ModelType, Usage
from core.model_types.llm import Cost
from core.pricing import MAX_DECIMALS, MAX_PRICE, cost, plain
from core.provider import LongInputPrice, Pricing, PricingUnit
from tests.catalogs import CATALOG

PRICE = Pricing(
    currency="USD",
    input=Decimal("2.5"),
    output=Decimal(10),
    cached_input=Decimal("0.25"),
    cache_write=Decimal("3.125"),
)


def test_writes_that_are_kept_for_an_hour_cost_their_own_price_where_there_is_one() -> None:
    usage = Usage(input_tokens=1000, cache_write_tokens=500, hour_cache_write_tokens=200)
    apart = Pricing(currency="USD", input=Decimal(4), cache_write=Decimal(5), hour_cache_write=Decimal(8))

    assert cost(usage, apart) == Cost(amount="0.0051", currency="USD")
    assert cost(usage, replace(apart, hour_cache_write=None)) == Cost(amount="0.0045", currency="USD")
    assert cost(usage.plus(usage), apart) == Cost(amount="0.0102", currency="USD")


def test_cached_input_cache_writes_and_the_rest_are_priced_apart() -> None:
    usage = Usage(input_tokens=1000, cached_input_tokens=600, cache_write_tokens=100, output_tokens=7)

    # 300 × 2.5 + 600 × 0.25 + 100 × 3.125 + 7 × 10 = 1282.5 millionths
    assert cost(usage, PRICE) == Cost(amount="0.0012825", currency="USD")


def test_cached_input_without_a_price_of_its_own_costs_what_input_costs() -> None:
    usage = Usage(input_tokens=1000, cached_input_tokens=600, cache_write_tokens=100)

    assert cost(usage, Pricing(currency="EUR", input=Decimal(1), output=Decimal(1))) == Cost(
        amount="0.001", currency="EUR"
    )


def test_what_a_provider_charges_for_is_priced_where_it_says_so() -> None:
    usage = Usage(
        input_tokens=69, cached_input_tokens=4, output_tokens=9, billed_input_tokens=7, billed_output_tokens=8
    )

    # 7 × 2.5 + 8 × 10 = 97.5 millionths
    assert cost(usage, PRICE) == Cost(amount="0.0000975", currency="USD")
    # and with a call that was not told apart: 107 × 2.5 + 8 × 10 = 347.5 millionths
    assert cost(usage.plus(Usage(input_tokens=100)), PRICE) == Cost(amount="0.0003475", currency="USD")
    assert usage.plus(usage).total_tokens == 156


def test_an_unknown_price_gives_nothing_rather_than_zero() -> None:
    assert cost(Usage(input_tokens=1), None) is None
    assert cost(Usage(input_tokens=1, output_tokens=1), Pricing(currency="USD", input=Decimal(1))) is None
    assert cost(Usage(input_tokens=1), Pricing(currency="USD", input=Decimal(1))) == Cost(
        amount="0.000001", currency="USD"
    )


def test_a_free_model_costs_nothing() -> None:
    assert cost(Usage(input_tokens=5), Pricing(currency="USD", input=Decimal(0), output=Decimal(0))) == Cost(
        amount="0", currency="USD"
    )


@pytest.mark.parametrize(
    ("unit", "amount"),
    [(PricingUnit.CHARACTER, "0.0006"), (PricingUnit.SECOND, "0.0000045"), (PricingUnit.REQUEST, "0.000006")],
)
def test_other_units_are_counted_as_they_are(unit: PricingUnit, amount: str) -> None:
    usage = Usage(characters=200, seconds=1.5, requests=2, input_tokens=99, output_tokens=99)

    assert cost(usage, Pricing(currency="USD", input=Decimal(3), unit=unit)) == Cost(amount=amount, currency="USD")


@pytest.mark.parametrize(
    ("amount", "text"), [("1E+3", "1000"), ("1E-9", "0.000000001"), ("0.500", "0.5"), ("10", "10"), ("0.00", "0")]
)
def test_amounts_are_plain_text(amount: str, text: str) -> None:
    assert plain(Decimal(amount)) == text


COUNTS = st.integers(0, MOST)


@given(COUNTS, COUNTS, COUNTS, st.decimals(0, MAX_PRICE, places=MAX_DECIMALS))
def test_the_cost_is_exact(uncached: int, cached: int, output: int, price: Decimal) -> None:
    pricing = Pricing(currency="USD", input=price, output=price * 2, cached_input=price / 4)

    found = cost(Usage(input_tokens=uncached + cached, cached_input_tokens=cached, output_tokens=output), pricing)

    parts = int(price.scaleb(MAX_DECIMALS)) * (4 * (uncached + 2 * output) + cached)
    assert found is not None
    assert "E" not in found.amount
    assert Fraction(found.amount) * 4 * 10 ** (MAX_DECIMALS + 6) == parts


def test_every_shipped_price_is_sound() -> None:
    charging = [manifest for manifest in CATALOG.manifests() if manifest.name != "echo"]
    cards = [card for manifest in charging for card in (*manifest.models, *manifest.base_models)]
    priced = [card for card in cards if card.pricing is not None]

    assert len(priced) > 12
    for card in priced:
        assert card.pricing is not None
        if card.type is ModelType.LLM:
            assert card.pricing.output is not None
            assert 0 < card.pricing.input <= card.pricing.output < 1000
        assert 0 <= card.pricing.input < 10_000
        assert card.pricing.cached_input is None or card.pricing.cached_input < card.pricing.input


def test_a_call_with_long_input_has_the_price_of_long_input_for_all_of_it() -> None:
    beyond = LongInputPrice(above_input_tokens=1000, input=Decimal(4), output=Decimal(30))
    pricing = Pricing(currency="USD", input=Decimal(2), output=Decimal(20), beyond=beyond)

    short = cost(Usage(input_tokens=1000, output_tokens=100), pricing)
    long = cost(Usage(input_tokens=1001, output_tokens=100), pricing)

    assert short == Cost(amount="0.004", currency="USD")
    assert long == Cost(amount="0.007004", currency="USD")


@pytest.mark.parametrize(
    ("unit", "usage", "amount"),
    [
        (PricingUnit.CHARACTER, Usage(characters=2_000), "0.03"),
        (PricingUnit.SECOND, Usage(seconds=12.5), "0.0001875"),
        (PricingUnit.REQUEST, Usage(requests=2), "0.00003"),
        (PricingUnit.TOKEN, Usage(), "0"),
        (PricingUnit.TOKEN, Usage(characters=2_000), None),
        (PricingUnit.TOKEN, Usage(seconds=12.5), None),
        (PricingUnit.SECOND, Usage(input_tokens=7, output_tokens=2), None),
        (PricingUnit.CHARACTER, Usage(input_tokens=7), None),
    ],
)
def test_what_was_not_counted_is_not_free(unit: PricingUnit, usage: Usage, amount: str | None) -> None:
    found = cost(usage, Pricing(currency="USD", input=Decimal(15), output=Decimal(15), unit=unit))

    assert (found.amount if found is not None else None) == amount

"""What calls hold and are charged of a quota, by its unit."""

from dataclasses import replace

import pytest

from core.entities import QuotaUnit
from core.metering import SLICE, Demand, Estimate, charge, demand
from core.model_types import Usage

CALL = Estimate(input_bound=100, input_likely=25, output=10_000)
STREAM = replace(CALL, streaming=True)


@pytest.mark.parametrize(
    ("unit", "estimate", "minimum", "wanted"),
    [
        (QuotaUnit.TIMES, CALL, 1, 1),
        (QuotaUnit.CREDITS, STREAM, 7, 7),
        (QuotaUnit.TOKENS, CALL, 101, 10_100),
        (QuotaUnit.TOKENS, replace(CALL, is_firm=True), 10_100, 10_100),
        (QuotaUnit.TOKENS, STREAM, 101, 100 + SLICE),
        (QuotaUnit.TOKENS, replace(STREAM, output=40), 101, 140),
        (QuotaUnit.TOKENS, replace(STREAM, is_firm=True), 100 + SLICE, 100 + SLICE),
        (QuotaUnit.TOKENS, replace(CALL, output=0), 100, 100),
    ],
)
def test_a_call_holds_what_its_quota_counts(unit: QuotaUnit, estimate: Estimate, minimum: int, wanted: int) -> None:
    assert demand(unit, estimate, 7) == Demand(minimum=minimum, wanted=wanted)


@pytest.mark.parametrize(("unit", "charged"), [(QuotaUnit.TIMES, 1), (QuotaUnit.CREDITS, 7), (QuotaUnit.TOKENS, 8)])
def test_a_call_is_charged_what_it_used_and_nothing_for_nothing(unit: QuotaUnit, charged: int) -> None:
    used = Usage(input_tokens=3, output_tokens=5, cached_input_tokens=2, reasoning_tokens=4, requests=2)

    assert charge(unit, used, 7) == charged
    assert charge(unit, None, 7) == 0

"""Money: bounds of cost that hold for whatever is used, exact amounts, and balances that are kept in attos."""

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.budgets import checked_ceiling
from core.entities import BudgetPeriod, Ceiling
from core.errors import InvalidInput
from core.ledger import Balance, Held, reserved, settled
from core.metering import Estimate, dearest, spending, spent
from core.model_types import Usage, rerank, speech2text, tts
from core.model_types.rerank import RerankRequest
from core.model_types.speech2text import Audio, TranscriptionRequest
from core.model_types.tts import SpeechRequest
from core.pricing import ATTOS, amount_of, attos, cost
from core.provider import LongInputPrice, Pricing, PricingUnit

PRICES = st.decimals(min_value=0, max_value=1000, places=4)
SOME = st.none() | PRICES


@st.composite
def prices(draw: st.DrawFn) -> Pricing:
    """Draw a price by the token, with any of its kinds, and maybe another one for long input."""
    beyond = draw(
        st.none()
        | st.builds(
            LongInputPrice,
            above_input_tokens=st.integers(0, 3000),
            input=PRICES,
            output=PRICES,
            cached_input=SOME,
            cache_write=SOME,
            hour_cache_write=SOME,
        )
    )
    return Pricing(
        currency="USD", input=draw(PRICES), output=draw(PRICES), cached_input=draw(SOME), cache_write=draw(SOME),
        hour_cache_write=draw(SOME), beyond=beyond,
    )  # fmt: skip


@st.composite
def uses(draw: st.DrawFn) -> Usage:
    """Draw what a call used, of its input some cached and some written to the cache."""
    read, written = draw(st.integers(0, 2000)), draw(st.integers(0, 2000))
    return Usage(
        input_tokens=read + written + draw(st.integers(0, 2000)),
        cached_input_tokens=read,
        cache_write_tokens=written,
        hour_cache_write_tokens=draw(st.integers(0, written)),
        output_tokens=draw(st.integers(0, 5000)),
    )


@settings(max_examples=200)
@given(pricing=prices(), usage=uses(), more=st.integers(0, 2000))
def test_no_use_within_the_estimate_costs_more_than_the_bound(pricing: Pricing, usage: Usage, more: int) -> None:
    estimate = Estimate(
        input_bound=max(1, usage.input_tokens + more), input_likely=0, output=usage.output_tokens + more
    )

    bound = dearest(pricing, estimate)

    assert bound is not None
    assert spent(usage, pricing, held=0) <= bound.cost(usage.output_tokens) <= spending(bound, estimate).wanted


@settings(max_examples=200)
@given(st.lists(st.tuples(prices(), uses()), max_size=8))
def test_what_is_spent_is_the_exact_sum_of_costs(calls: list[tuple[Pricing, Usage]]) -> None:
    balance, total = Balance(limit=0), Decimal(0)

    for pricing, usage in calls:
        found = cost(usage, pricing)
        assert found is not None
        total += Decimal(found.amount)
        for change in settled(balance, Held(amount=0), spent(usage, pricing, held=0)):
            balance = balance.after(change)

    assert amount_of(balance.used) == total


@settings(max_examples=200)
@given(
    limit=st.integers(0, 10**24),
    asked=st.lists(st.tuples(st.integers(0, 10**23), st.integers(0, 10**23)), max_size=20),
)
def test_in_money_too_nothing_is_held_beyond_the_limit(limit: int, asked: list[tuple[int, int]]) -> None:
    balance = Balance(limit=limit)

    for minimum, more in asked:
        granted = reserved(balance, minimum, minimum + more)
        if granted is None:
            assert balance.room is not None
            assert balance.room < max(minimum, 1)
            continue
        assert minimum <= granted <= minimum + more
        balance = Balance(limit=limit, used=balance.used, reserved=balance.reserved + granted)

    assert balance.used + balance.reserved <= limit


@given(st.decimals(min_value=0, max_value=10**12, places=18))
def test_amounts_go_into_attos_and_back(amount: Decimal) -> None:
    assert amount_of(attos(amount)) == amount


def test_what_is_finer_than_an_atto_is_rounded_up() -> None:
    assert attos(Decimal("1e-19")) == 1
    assert attos(Decimal(3)) == 3 * ATTOS


def test_a_stream_holds_a_slice_unless_some_of_its_output_is_not_seen() -> None:
    pricing = Pricing(currency="USD", input=Decimal(1), output=Decimal(2))
    estimate = Estimate(input_bound=100, input_likely=25, output=10_000, streaming=True)
    hidden = Estimate(input_bound=100, input_likely=25, output=10_000, streaming=True, is_hidden=True)
    bound = dearest(pricing, estimate)
    assert bound is not None

    assert spending(bound, estimate).wanted == (100 + 2 * 2048) * ATTOS // 1_000_000
    assert spending(bound, hidden).wanted == (100 + 2 * 10_000) * ATTOS // 1_000_000
    assert spending(bound, estimate).minimum == spending(bound, hidden).minimum == 102 * ATTOS // 1_000_000


def test_a_price_that_is_needed_and_not_known_gives_no_bound() -> None:
    chat = Estimate(input_bound=10, input_likely=5, output=10)
    no_output = Pricing(currency="USD", input=Decimal(1))

    assert dearest(None, chat) is None
    assert dearest(no_output, chat) is None
    assert dearest(no_output, Estimate(input_bound=10, input_likely=5)) is not None
    for unit in (PricingUnit.CHARACTER, PricingUnit.SECOND):
        assert dearest(Pricing(currency="USD", input=Decimal(1), unit=unit), chat) is None


def test_a_call_whose_cost_is_not_known_in_the_end_costs_what_it_held() -> None:
    by_token = Pricing(currency="USD", input=Decimal(1), output=Decimal(2))

    assert spent(Usage(characters=5), by_token, held=7) == 7
    assert spent(None, by_token, held=7) == 0


def test_the_bounds_of_speech_recordings_and_rankings() -> None:
    speech = tts.bound_usage(SpeechRequest(text="grüße"))
    ranking = rerank.bound_usage(RerankRequest(query="q" * 100, documents=("d" * 400,) * 150))
    wav = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0" + (8000).to_bytes(4, "little") + (16000).to_bytes(4, "little")
    told = TranscriptionRequest(audio=Audio(content=wav + bytes(44 - 32 + 32_000), mime_type="audio/wav", filename="a"))
    packed = TranscriptionRequest(audio=Audio(content=bytes(16_000), mime_type="audio/mpeg", filename="a"))

    assert speech.characters == 5
    assert ranking.requests == 2
    assert speech2text.bound_usage(told).seconds == 2.0
    assert speech2text.bound_usage(packed).seconds == 16 * speech2text.seconds_of(packed.audio)


@pytest.mark.parametrize(
    ("limit", "currency", "path"),
    [("0", "USD", "limit"), ("-1", "USD", "limit"), ("1000000000001", "USD", "limit"), ("0.00000000001", "USD", "limit"),
     ("1", "usd", "currency"), ("1", "QQQ", "currency"), ("1", "", "currency")],
)  # fmt: skip
def test_a_ceiling_that_can_be_none_is_refused(limit: str, currency: str, path: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        checked_ceiling(Ceiling(limit=Decimal(limit), currency=currency, period=BudgetPeriod.DAY))

    assert refused.value.path == ("budget", path)

"""A second member is asked when the first is late; who speaks first wins, and both are recorded and charged."""

from decimal import Decimal
from typing import Any

import pytest

from tests.end_to_end.test_invoke import AUDIO, EMBED, MODERATE, RERANK, TRANSCRIBE, heard
from tests.end_to_end.test_pools import HELLO, KEY, MODEL, members, pooled
from tests.fake_provider import FakeProvider
from tests.product import COMPLETE, Product, chat, check_sequence, model, text_of

PRICE = "mutation ($input: SetModelPricingInput!) { setModelPricing(input: $input) { errors { code message path } } }"
ENOUGH = 10
LATE_S = 50.0
"""Later than any answer that a busy machine delays, and soon cut short by the one that overtakes it."""

PRICES = {
    "LLM": {"currency": "USD", "input": "1000000", "output": "10"},
    "TEXT_EMBEDDING": {"currency": "USD", "input": "1000000"},
    "RERANK": {"currency": "USD", "input": "1000000", "unit": "REQUEST"},
    "SPEECH2TEXT": {"currency": "USD", "input": "1000000", "unit": "SECOND"},
    "MODERATION": {"currency": "USD", "input": "1000000", "unit": "REQUEST"},
    "TTS": {"currency": "USD", "input": "1000000", "unit": "CHARACTER"},
}
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "TEXT_EMBEDDING": (EMBED, {"texts": ["abcd"] * 4, "purpose": "DOCUMENT"}),
    "RERANK": (RERANK, {"query": "four", "documents": ["a", "four"]}),
    "SPEECH2TEXT": (TRANSCRIBE, {"audio": AUDIO}),
    "MODERATION": (MODERATE, {"text": "be nice"}),
}


async def late(product: Product, provider: FakeProvider, kind: str) -> Any:
    """Make a pool of a priced model that asks a second member when the first is late; return the pool."""
    pool = await pooled(product, provider, "text", "text", kind=kind, hedgePercentile=99)
    key = {**KEY, "type": kind}
    found = (await product.data(MODEL, key=key))["workspace"]["model"]
    await product.changed(PRICE, id=found["id"], pricing=PRICES[kind])
    return pool


async def overtaken(product: Product, provider: FakeProvider, call: Any) -> Any:
    """Call until enough times are known, then until a late first member is overtaken; return what that call gave."""
    for _ in range(ENOUGH + 2):
        await call()
    provider.answers("text", key="sk-0:text", first_delay_s=LATE_S)
    while True:
        before = len(provider.requests)
        given = await call()
        if provider.requests[before].key == "sk-0:text":
            return given


def check_record(record: Any) -> None:
    assert [attempt["error"] and attempt["error"]["code"] for attempt in record["attempts"]] == ["CANCELLED", None]
    assert (record["status"], record["credentialName"]) == ("SUCCEEDED", "m1")
    assert (record["usage"]["requests"], record["usage"]["estimated"]) == (2, True)


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_late_completion_is_overtaken(product: Product, provider: FakeProvider, *, streaming: bool) -> None:
    pool = await late(product, provider, "LLM")

    async def call() -> Any:
        if streaming:
            return await product.stream(model=model("pooled"))
        return await product.changed(COMPLETE, **chat(model=model("pooled")))

    given = await overtaken(product, provider, call)

    record = await product.last_invocation()
    check_record(record)
    if streaming:
        check_sequence(given)
        assert (given[1]["__typename"], given[1]["failed"]["error"]["code"]) == ("CompletionRerouted", "CANCELLED")
        assert text_of(given) == HELLO
    else:
        assert given["message"]["text"] == HELLO
    usage = record["usage"]
    assert Decimal(record["cost"]["amount"]) == usage["inputTokens"] + usage["outputTokens"] * Decimal("0.00001")
    standing = await members(product, pool)
    assert [(one["health"], one["inFlight"], one["failed"]) for one in standing] == [("HEALTHY", 0, 0)] * 2


@pytest.mark.parametrize(
    ("kind", "amount"), [("TEXT_EMBEDDING", 20), ("RERANK", 2), ("SPEECH2TEXT", 4), ("MODERATION", 2)]
)
async def test_a_late_answer_of_another_type_is_overtaken(
    product: Product, provider: FakeProvider, kind: str, amount: int
) -> None:
    await late(product, provider, kind)
    query, given = CALLS[kind]

    await overtaken(product, provider, lambda: product.changed(query, model=model("pooled"), **given))

    record = await product.last_invocation()
    check_record(record)
    assert record["cost"]["amount"] == str(amount)


async def test_late_speech_is_overtaken(product: Product, provider: FakeProvider) -> None:
    await late(product, provider, "TTS")

    async def call() -> Any:
        return [event async for event in heard(product, model=model("pooled"), text="abc", voice="v")]

    events = await overtaken(product, provider, call)

    check_record(await product.last_invocation())
    assert events[-1]["__typename"] == "SpeechFinished"
    assert (events[-1]["usage"]["characters"], events[-1]["cost"]["amount"]) == (6, "6")


async def test_whole_answers_and_first_tokens_are_late_by_times_of_their_own(
    product: Product, provider: FakeProvider
) -> None:
    await late(product, provider, "LLM")
    for _ in range(ENOUGH + 2):
        await product.stream(model=model("pooled"))
    provider.answers("text", first_delay_s=0.3)

    await product.changed(COMPLETE, **chat(model=model("pooled")))

    assert len((await product.last_invocation())["attempts"]) == 1

"""Budgets and limits a minute as callers see them: calls of every type, whatever becomes of them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from core.counting import input_upper_bound
from core.settings import SettingsError
from graph import ids
from tests import make
from tests.conftest import settings_for, sqlite_in
from tests.end_to_end import hosted
from tests.end_to_end.hosted import grant, hosting
from tests.end_to_end.test_completion import settled
from tests.end_to_end.test_hosted_calls import LONG, OTHERS
from tests.end_to_end.test_invoke import heard
from tests.fake_provider import FakeProvider
from tests.product import COMPLETE, LLM, Client, Product, chat, check_sequence, completion, model, text_of
from tests.waiting import LIMIT_S
from workers.check_ledger import check_ledger
from workers.sweep_holds import sweep_holds

CREATE = """mutation ($input: CreateApiTokenInput!) { createApiToken(input: $input) {
  apiToken { id } secret errors { code message } } }"""
BUDGET = "{ viewer { token { budget { spent reserved limit } } } }"
PRICE = """mutation ($input: SetModelPricingInput!) { setModelPricing(input: $input) {
  model { id } errors { code message path } } }"""
MODEL = """query ($key: ModelKeyInput!) { workspace { id model(key: $key) { id } } }"""
BOUND = input_upper_bound(make.chat("hi"))
MILLION = 1_000_000


@pytest.fixture
async def product(
    sqlite_template: Path, redis_url: str, tmp_path: Path, provider: FakeProvider
) -> AsyncIterator[Product]:
    """Return a running product that hosts the fake provider."""
    async with hosting(sqlite_in(tmp_path, sqlite_template), redis_url, tmp_path, provider) as started:
        yield started


async def price(product: Product, name: str, kind: str = "LLM", unit: str = "TOKEN", amount: int = 1) -> None:
    """Price a million units of a model at so many dollars, its output at twice as much."""
    found = await product.data(MODEL, key={"provider": LLM, "name": name, "type": kind})
    pricing: dict[str, Any] = {"currency": "USD", "input": str(amount), "unit": unit}
    if unit == "TOKEN":
        pricing["output"] = str(2 * amount)
    await product.changed(PRICE, id=found["workspace"]["model"]["id"], pricing=pricing)


async def thrifty(product: Product, limit: str | None = None, **given: Any) -> Client:
    """Return who asks with a new token of the workspace, which has these limits."""
    if limit is not None:
        given["budget"] = {"limit": limit, "currency": "USD", "period": "MONTH"}
    workspace = (await product.data("{ workspace { id } }"))["workspace"]["id"]
    made = await product.changed(CREATE, workspaceId=workspace, name="thrifty", role="OWNER", **given)
    return Client(url=product.url, token=made["secret"])


async def spent(client: Client) -> tuple[Any, Any]:
    """Return what is spent and reserved of the budget of who asks, in millionths of a dollar."""
    found = (await client.data(BUDGET))["viewer"]["token"]["budget"]
    return Decimal(found["spent"]) * MILLION, Decimal(found["reserved"]) * MILLION


def millionths(amount: int) -> str:
    return format(Decimal(amount) / MILLION, "f")


async def code(client: Client, name: str) -> str | None:
    """Call a hosted model of whatever type; return the code of its error."""
    if name == "voice":
        events = [event async for event in heard(client, model=model(name), text="Hello", voice="alloy")]  # type: ignore[arg-type]
        codes = [event["error"]["code"] for event in events if event["__typename"] == "SpeechFailed"]
    else:
        query, given = OTHERS.get(name, (COMPLETE, chat()))
        (payload,) = (await client.data(query, input={"model": model(name), **given})).values()
        codes = [error["code"] for error in payload["errors"]]
    return codes[0] if codes else None


async def test_calls_of_every_type_are_under_the_budget(product: Product) -> None:
    await grant(product, "TIMES", None)
    client = await thrifty(product, "1")
    units = {"words": "SECOND", "voice": "CHARACTER", "order": "REQUEST"}

    for kind, name in hosted.TYPES.items():
        assert await code(client, name) == "BUDGET_EXCEEDED", "it has no price"
        await price(product, name, kind, units.get(name, "TOKEN"))
        before, _ = await spent(client)
        assert await code(client, name) is None
        after, reserved = await spent(client)
        assert (after > before, reserved) == (True, 0), name

    poor = await thrifty(product, "0.000000001")
    assert {await code(poor, name) for name in hosted.TYPES.values()} == {"BUDGET_EXCEEDED"}
    assert await spent(poor) == (0, 0)


async def test_the_output_is_lowered_to_what_is_left_and_a_stream_ends_where_that_is_used_up(
    product: Product, provider: FakeProvider
) -> None:
    await grant(product, "TIMES", None)
    await price(product, "llm")
    client = await thrifty(product, millionths(BOUND + 2 * 40))
    provider.answers(text=LONG, pieces=200, halts_after=100)

    events = await client.stream(model=model("llm"))

    assert provider.calls[0].json["max_tokens"] == 40
    check_sequence(events)
    assert events[-1]["error"]["code"] == "BUDGET_EXCEEDED"
    assert 40 * 4 < len(text_of(events)) < len(LONG)
    used = events[-1]["spent"]
    assert await spent(client) == (used["inputTokens"] + 2 * used["outputTokens"], 0)
    again = await client.stream(model=model("llm"))
    assert [event["error"]["code"] for event in again] == ["BUDGET_EXCEEDED"]


async def test_a_stream_holds_more_in_slices_while_there_is_more(product: Product, provider: FakeProvider) -> None:
    await grant(product, "TIMES", None)
    await price(product, "llm")
    client = await thrifty(product, millionths(10_000))
    provider.answers(text="0123456 " * 1500, pieces=1500)

    events = await client.stream(model=model("llm"))

    assert events[-1]["__typename"] == "CompletionFinished"
    assert await spent(client) == (11 + 2 * 1500, 0)


async def test_options_that_ask_for_more_output_are_held_for(product: Product, provider: FakeProvider) -> None:
    await grant(product, "TIMES", None)
    await price(product, "llm")
    client = await thrifty(product, millionths(BOUND + 2 * 1000))
    asked = chat(model=model("llm"), parameters={"max_tokens": 10})

    served = (await client.data(COMPLETE, input=asked))["complete"]["errors"]
    many = (await client.data(COMPLETE, input=asked | {"providerOptions": {"n": 200}}))["complete"]["errors"]
    more = (await client.data(COMPLETE, input=asked | {"providerOptions": {"max_tokens": 2000}}))["complete"]["errors"]

    assert served == []
    assert [error["code"] for error in (*many, *more)] == ["BUDGET_EXCEEDED"] * 2
    assert len(provider.calls) == 1


async def test_of_parallel_calls_exactly_those_with_room_are_served(product: Product) -> None:
    await grant(product, "TIMES", None)
    await price(product, "order", "RERANK", "REQUEST", MILLION)
    client = await thrifty(product, "7.5")

    codes = await asyncio.gather(*(code(client, "order") for _ in range(40)))

    assert (codes.count(None), codes.count("BUDGET_EXCEEDED")) == (7, 33)
    assert await spent(client) == (7 * MILLION, 0)


async def test_a_failure_costs_nothing_and_a_dearer_fallback_holds_the_difference_or_is_passed_over(
    product: Product, provider: FakeProvider
) -> None:
    await grant(product, "TIMES", None)
    for name, amount in (("llm", 1), ("other", 100), ("third", 2)):
        await price(product, name, amount=amount)
    client = await thrifty(product, millionths(2 * BOUND + 2 * 2 * 400))
    provider.answers("server_error", model="llm")

    failed = await client.stream(model=model("llm"))
    nothing = await spent(client)
    refused = await client.stream(model=model("llm"), fallbacks=[model("other")])
    served = await client.stream(model=model("llm"), fallbacks=[model("other"), model("third")])

    assert failed[-1]["error"]["code"] == "UPSTREAM_UNAVAILABLE"
    assert nothing == (0, 0)
    assert refused[-1]["error"]["code"] == "BUDGET_EXCEEDED"
    assert served[-1]["__typename"] == "CompletionFinished"
    assert [call.model for call in provider.calls] == ["llm", "llm", "llm", "third"]
    usage = served[-1]["usage"]
    assert await spent(client) == (2 * (usage["inputTokens"] + 2 * usage["outputTokens"]), 0)


async def test_a_model_that_the_budget_cannot_pay_for_gives_way_to_the_fallbacks(
    product: Product, provider: FakeProvider
) -> None:
    quota = await grant(product, "TIMES", None)
    await price(product, "llm", amount=100)
    await price(product, "third")
    client = await thrifty(product, millionths(BOUND + 2 * 400), requestsPerMinute=2)
    asked = chat(model=model("llm"), fallbacks=[model("other"), model("third")], idempotencyKey="once")

    refused = (await client.data(COMPLETE, input=asked | {"fallbacks": [model("other")]}))["complete"]
    unpriced = (await client.data(COMPLETE, input=chat(model=model("other"), fallbacks=[model("llm")])))["complete"]
    streamed = await client.stream(**asked)
    whole = (await client.data(COMPLETE, input=asked))["complete"]

    assert [(error["code"], "setModelPricing" in error["message"]) for error in refused["errors"]] == [
        ("BUDGET_EXCEEDED", False)
    ]
    assert [(error["code"], "setModelPricing" in error["message"]) for error in unpriced["errors"]] == [
        ("BUDGET_EXCEEDED", True)
    ]
    assert (streamed[0]["__typename"], streamed[0]["model"]["name"]) == ("CompletionStarted", "third")
    assert streamed[-1]["__typename"] == "CompletionFinished"
    assert whole["errors"] == [], "it is the same call again"
    assert [call.model for call in provider.calls] == ["third"]
    usage = streamed[-1]["usage"]
    assert await spent(client) == (usage["inputTokens"] + 2 * usage["outputTokens"], 0)
    assert await hosted.balance(product, quota) == (1, 0, ["GRANT", "RESERVE", "SETTLE"])


async def test_what_a_dead_process_held_is_booked_by_what_it_had_said(product: Product, provider: FakeProvider) -> None:
    await grant(product, "TIMES", None)
    await price(product, "llm")
    client = await thrifty(product, "1")
    provider.answers(text=LONG, pieces=20, halts_after=10)
    begun = asyncio.Event()

    async def streamed() -> list[Any]:
        events = []
        async with client.socket() as ws:
            async for event in completion(ws, chat(model=model("llm"))):
                events.append(event)
                if text_of(events):  # what is paid for is read once it is in the log
                    begun.set()
        return events

    streaming = asyncio.create_task(streamed())
    await asyncio.wait_for(begun.wait(), LIMIT_S)
    async with hosted.late_worker(product.app.settings) as worker:
        assert await sweep_holds(worker) == 1
        assert await check_ledger(worker) == 0
    swept = await spent(client)
    provider.go_on()
    events = await streaming

    assert swept[0] > 0
    assert swept[1] == 0
    assert events[-1]["__typename"] == "CompletionFinished"
    assert await spent(client) == (11 + 2 * 20, 0)


async def test_a_completion_that_is_cancelled_pays_for_what_it_has_said(
    product: Product, provider: FakeProvider
) -> None:
    await grant(product, "TIMES", None)
    await price(product, "llm")
    client = await thrifty(product, "1")
    provider.answers("endless")
    async with client.socket() as ws, aclosing(completion(ws, chat(model=model("llm")))) as events:
        for _ in range(5):
            await anext(events)

    record = await settled(product, "CANCELLED")

    assert await spent(client) == (record["usage"]["inputTokens"] + 2 * record["usage"]["outputTokens"], 0)


@pytest.mark.parametrize(("unit", "amount", "waits"), [("TOKEN", 1, True), ("REQUEST", 1, False), ("TOKEN", 0, False)])
async def test_only_what_tokens_pay_for_waits_for_the_log(
    product: Product, provider: FakeProvider, unit: str, amount: int, *, waits: bool
) -> None:
    """Where nothing depends on how much was delivered, readers need not wait for it to be written down."""
    await grant(product, "TIMES", None)
    await price(product, "llm", unit=unit, amount=amount)
    client = await thrifty(product, "9")
    provider.answers("endless")

    async with client.socket() as ws:
        started = await anext(events := completion(ws, chat(model=model("llm"))))
        invocation_id = ids.key_of(started["invocationId"], "Invocation")
        assert invocation_id is not None
        stream = product.app.recorder.find(invocation_id)
        assert stream is not None
        held_back = stream.is_held_back
        await events.aclose()

    assert held_back is waits


# ---- limits a minute


async def test_calls_beyond_the_limit_are_told_when_there_is_room(product: Product) -> None:
    await grant(product, "TIMES", None)
    client = await thrifty(product, requestsPerMinute=2)

    codes = await asyncio.gather(*(code(client, "order") for _ in range(6)))
    refused = await client.stream(model=model("llm"), idempotencyKey="once")
    payload = (await client.data(COMPLETE, input=chat(model=model("llm"))))["complete"]

    assert (codes.count(None), codes.count("RATE_LIMITED")) == (2, 4)
    (error,) = payload["errors"]
    assert (error["code"], refused[0]["error"]["code"]) == ("RATE_LIMITED", "RATE_LIMITED")
    assert 0 < error["retryAfter"] <= 61
    assert await code(product, "order") is None, "another token is under no limit"
    again = await product.stream(model=model("llm"), idempotencyKey="once")
    assert again[-1]["__typename"] == "CompletionFinished"


async def test_a_refused_call_takes_none_of_the_limit(product: Product) -> None:
    await grant(product, "TIMES", None)
    await price(product, "order", "RERANK", "REQUEST", MILLION)
    client = await thrifty(product, "1", requestsPerMinute=2)

    codes = [await code(client, name) for name in ("llm", "llm", "llm", "order", "order", "order")]
    missing = (await client.data(COMPLETE, input=chat(model=model("nobody"))))["complete"]["errors"][0]["code"]

    assert codes == [*["BUDGET_EXCEEDED"] * 3, None, *["BUDGET_EXCEEDED"] * 2]
    assert missing == "MODEL_NOT_FOUND"


async def test_tokens_are_corrected_at_the_end_of_a_call(product: Product, provider: FakeProvider) -> None:
    await grant(product, "TIMES", None)
    client = await thrifty(product, tokensPerMinute=700)
    provider.answers(text="0123", pieces=1)
    served = [await code(client, "llm") for _ in range(8)]
    provider.answers(text="0123" * 900, pieces=900)

    long = await client.stream(model=model("llm"))
    refused = await code(client, "llm")

    assert served == [None] * 8
    assert long[-1]["__typename"] == "CompletionFinished"
    assert refused == "RATE_LIMITED"


async def test_settings_limit_each_workspace(
    sqlite_template: Path, redis_url: str, tmp_path: Path, provider: FakeProvider
) -> None:
    given = {"WORKSPACE_REQUESTS_PER_MINUTE": "9", "WORKSPACE_BUDGET": "3 USD MONTH"}
    async with hosting(sqlite_in(tmp_path, sqlite_template), redis_url, tmp_path, provider, **given) as product:
        await grant(product, "TIMES", None)
        unpriced = await code(product, "order")
        await price(product, "order", "RERANK", "REQUEST", MILLION)
        client = await thrifty(product, "2")

        codes = [await code(one, "order") for one in (client, client, client, product, product)]
        free = [await code(product, "vectors") for _ in range(2)]
        await price(product, "vectors", "TEXT_EMBEDDING", amount=0)
        limited = [await code(product, "vectors") for _ in range(7)]

        assert unpriced == "BUDGET_EXCEEDED"
        assert codes == [None, None, "BUDGET_EXCEEDED", None, "BUDGET_EXCEEDED"]
        assert free == ["BUDGET_EXCEEDED"] * 2
        assert limited == [*[None] * 6, "RATE_LIMITED"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("WORKSPACE_BUDGET", "100 USD", "such as `100 USD MONTH`"),
        ("WORKSPACE_BUDGET", "0 USD DAY", "more than 0"),
        ("WORKSPACE_BUDGET", "NaN USD DAY", "more than 0"),
        ("WORKSPACE_BUDGET", "5 USD YEAR", "one of DAY, WEEK, MONTH, TOTAL"),
        ("WORKSPACE_BUDGET", "5 dollars DAY", "ISO 4217"),
        ("WORKSPACE_REQUESTS_PER_MINUTE", "0", "from 1 to"),
        ("WORKSPACE_TOKENS_PER_MINUTE", "1.5", "from 1 to"),
    ],
)
def test_wrong_settings_are_told_at_start(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as refused:
        settings_for(f"sqlite+aiosqlite:///{tmp_path}/modelyard.db", "redis://localhost", tmp_path, **{name: text})

    assert f"MODELYARD_{name}" in str(refused.value)

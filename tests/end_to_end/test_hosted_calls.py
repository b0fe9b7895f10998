"""What hosted calls hold and are charged, whatever becomes of them, as their callers see it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from core.completion import start
from core.counting import input_upper_bound
from core.model_types import MOST
from core.plan import CompletionRequest, ModelReference
from core.secret import hash_secret
from tests import make
from tests.conftest import sqlite_in
from tests.end_to_end import hosted
from tests.end_to_end.hosted import balance, grant, hosting
from tests.end_to_end.test_completion import settled
from tests.end_to_end.test_invoke import AUDIO, CREATE, EMBED, MODERATE, RERANK, TRANSCRIBE, heard
from tests.fake_provider import FakeProvider, Scenario
from tests.product import COMPLETE, INVOCATIONS, LLM, Product, chat, check_sequence, completion, model, text_of
from tests.waiting import LIMIT_S, wait_for
from workers.sweep_holds import sweep_holds

LONG = "0123456 " * 200
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "vectors": (EMBED, {"texts": ["abc", "de"]}),
    "order": (RERANK, {"query": "q", "documents": ["a", "b"]}),
    "words": (TRANSCRIBE, {"audio": AUDIO}),
    "judge": (MODERATE, {"text": "hello"}),
}
PREFER = """mutation ($input: SetPreferredProviderTypeInput!) { setPreferredProviderType(input: $input) {
  errors { code message } } }"""
HI = make.chat("hi")
BOUND = input_upper_bound(HI)


@pytest.fixture
async def product(
    sqlite_template: Path, redis_url: str, tmp_path: Path, provider: FakeProvider
) -> AsyncIterator[Product]:
    async with hosting(sqlite_in(tmp_path, sqlite_template), redis_url, tmp_path, provider) as started:
        yield started


async def _call(product: Product, name: str) -> list[str]:
    """Call a hosted model of whatever type; return the codes of its errors."""
    if name == "voice":
        events = [event async for event in heard(product, model=model(name), text="Hello", voice="alloy")]
        return [event["error"]["code"] for event in events if event["__typename"] == "SpeechFailed"]
    query, given = OTHERS.get(name, (COMPLETE, chat()))
    (payload,) = (await product.data(query, input={"model": model(name), **given})).values()
    return [error["code"] for error in payload["errors"]]


@pytest.mark.parametrize(("unit", "charged"), [("TIMES", {}), ("CREDITS", {"llm": 3, "vectors": 2})])
async def test_calls_of_every_type_draw_times_and_credits(product: Product, unit: str, charged: dict[str, int]) -> None:
    for name in hosted.TYPES.values():
        quota = await grant(product, unit, charged.get(name, 1), note=name)

        assert await _call(product, name) == []
        assert await _call(product, name) == ["QUOTA_EXCEEDED"]

        assert await balance(product, quota) == (charged.get(name, 1), 0, ["GRANT", "RESERVE", "SETTLE"])
        await product.changed(hosted.ARCHIVE, id=quota)


async def test_tokens_pay_for_models_that_are_priced_by_them_and_for_no_others(product: Product) -> None:
    quota = await grant(product, "TOKENS", 1_000_000)

    answered = {name: await _call(product, name) for name in hosted.TYPES.values()}

    others = {"order", "words", "voice", "judge"}
    assert {name for name, codes in answered.items() if codes} == others
    assert {code for name in others for code in answered[name]} == {"MODEL_NOT_PERMITTED"}
    assert await balance(product, quota) == (11 + 5 + 5, 0, ["GRANT", "RESERVE", "SETTLE", "RESERVE", "SETTLE"])


async def test_the_output_is_lowered_to_what_is_left_and_a_stream_ends_where_that_is_used_up(
    product: Product, provider: FakeProvider
) -> None:
    quota = await grant(product, "TOKENS", BOUND + 40)
    provider.answers(text=LONG, pieces=200, halts_after=100)

    events = await product.stream(model=model("llm"))

    assert provider.calls[0].json["max_tokens"] == 40
    check_sequence(events)
    assert events[-1]["error"]["code"] == "QUOTA_EXCEEDED"
    said = text_of(events)
    assert 40 * 4 < len(said) < len(LONG)
    spent = events[-1]["spent"]
    assert spent["outputTokens"] == len(said) // 4
    used, reserved, kinds = await balance(product, quota)
    assert (used, reserved) == (spent["inputTokens"] + spent["outputTokens"], 0)
    assert kinds == ["GRANT", "RESERVE", "SETTLE"]
    record = await product.last_invocation()
    assert (record["status"], record["usage"]["totalTokens"]) == ("FAILED", used)


async def test_a_stream_holds_more_in_slices_while_there_is_more(product: Product, provider: FakeProvider) -> None:
    quota = await grant(product, "TOKENS", 5000)
    provider.answers(text="0123456 " * 1500, pieces=1500)

    events = await product.stream(model=model("llm"))

    assert events[-1]["__typename"] == "CompletionFinished"
    assert await balance(product, quota) == (11 + 1500, 0, ["GRANT", "RESERVE", "RESERVE", "SETTLE"])


async def test_a_stream_of_short_tokens_is_held_for_before_it_is_used(product: Product, provider: FakeProvider) -> None:
    quota = await grant(product, "TOKENS", 5000)
    provider.answers(text="0 " * 3000, pieces=3000)

    events = await product.stream(model=model("llm"))

    assert events[-1]["__typename"] == "CompletionFinished"
    assert events[-1]["usage"]["outputTokens"] == 3000
    used, reserved, kinds = await balance(product, quota)
    assert (used, reserved) == (11 + 3000, 0)
    assert kinds == ["GRANT", "RESERVE", "RESERVE", "SETTLE"]


async def test_a_model_that_names_no_limit_is_given_the_one_that_is_held_for(
    product: Product, provider: FakeProvider
) -> None:
    await grant(product, "TOKENS", 100_000)

    for parameters in ({}, {"max_tokens": 9000}):
        await product.changed(COMPLETE, **chat(model=model("llm"), parameters=parameters))
        await product.stream(model=model("llm"), parameters=parameters)

    assert [call.json["max_tokens"] for call in provider.calls] == [4096, 4096, 9000, 9000]


async def test_usage_above_the_hold_is_booked_in_full_and_then_blocks(product: Product, provider: FakeProvider) -> None:
    quota = await grant(product, "TOKENS", BOUND + 20)
    provider.answers(text=LONG, pieces=200)

    answered = await product.changed(COMPLETE, **chat(model=model("llm")))
    again = await product.stream(model=model("llm"))

    assert provider.calls[0].json["max_tokens"] == 20
    assert answered["message"]["text"] == LONG
    assert [event["error"]["code"] for event in again] == ["QUOTA_EXCEEDED"]
    assert await balance(product, quota) == (211, 0, ["GRANT", "RESERVE", "SETTLE"])
    assert len(provider.calls) == 1


@pytest.mark.parametrize(
    ("sent", "used"),
    [({"prompt_tokens": 10**19, "completion_tokens": 5}, MOST + 5), ({"prompt_tokens": 7, "completion_tokens": -9}, 7)],
)
async def test_what_no_call_can_use_is_booked_as_what_one_can(
    product: Product, provider: FakeProvider, sent: dict[str, int], used: int
) -> None:
    quota = await grant(product, "TOKENS", 100_000)
    message = {"message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
    provider.answers(Scenario(body=json.dumps({"choices": [message], "usage": sent}).encode()))

    answered = await product.changed(COMPLETE, **chat(model=model("llm")))

    assert answered["message"]["text"] == "Hello"
    counted = answered["invocation"]["usage"]
    assert (answered["invocation"]["status"], counted["inputTokens"] + counted["outputTokens"]) == ("SUCCEEDED", used)
    assert await balance(product, quota) == (used, 0, ["GRANT", "RESERVE", "SETTLE"])


async def test_a_cut_answer_is_charged_for_what_came_after_the_last_count(
    product: Product, provider: FakeProvider
) -> None:
    quota = await grant(product, "TOKENS", 100_000)
    sent = {"prompt_tokens": 11, "completion_tokens": 1, "total_tokens": 12}
    chunks = [{"choices": [{"index": 0, "delta": {"content": "0123 " * 8}}], "usage": sent}]
    chunks += [{"choices": [{"index": 0, "delta": {"content": "0123 " * 8}}]}] * 4
    events = tuple(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)
    provider.answers(Scenario(text="", events=events, ending="cut"))

    streamed = await product.stream(model=model("llm"))

    assert (streamed[-1]["error"]["code"], len(text_of(streamed))) == ("UPSTREAM_PROTOCOL", 200)
    spent = streamed[-1]["spent"]
    assert (spent["inputTokens"], spent["outputTokens"], spent["estimated"]) == (11, 50, True)
    assert await balance(product, quota) == (61, 0, ["GRANT", "RESERVE", "SETTLE"])


async def test_a_failure_before_the_first_delta_frees_all(product: Product, provider: FakeProvider) -> None:
    quota = await grant(product, "TOKENS", 1000)
    provider.answers("server_error")

    events = await product.stream(model=model("llm"))

    assert events[-1]["error"]["code"] == "UPSTREAM_UNAVAILABLE"
    assert await balance(product, quota) == (0, 0, ["GRANT", "RESERVE", "RELEASE"])


async def test_what_was_produced_is_charged_when_the_reader_has_left(product: Product, provider: FakeProvider) -> None:
    quota = await grant(product, "TOKENS", 100_000)
    provider.answers("endless")
    async with product.socket() as ws:
        events = completion(ws, chat(model=model("llm")))
        before = [await anext(events) for _ in range(5)]

    record = await settled(product, "CANCELLED")

    used, reserved, _ = await balance(product, quota)
    assert (used, reserved) == (record["usage"]["totalTokens"], 0)
    assert record["usage"]["outputTokens"] >= len(text_of(before)) // 4


async def test_quotas_are_spent_in_their_order_where_they_allow_the_model(product: Product) -> None:
    trial = await grant(product, "TIMES", 1)
    free = await grant(product, "TIMES", 1, type="FREE")
    paid = await grant(product, "TIMES", 1, type="PAID", restrictedTo=["llm"])
    spent = []

    for name in ("other", "llm", "llm"):
        await product.changed(COMPLETE, **chat(model=model(name)))
        spent.append([(await balance(product, quota))[0] for quota in (paid, free, trial)])
    refused = await product.stream(model=model("llm"))

    assert spent == [[0, 1, 0], [1, 1, 0], [1, 1, 1]]
    assert [event["error"]["code"] for event in refused] == ["QUOTA_EXCEEDED"]


async def test_each_attempt_has_a_hold_of_its_own_quota(product: Product, provider: FakeProvider) -> None:
    first = await grant(product, "TIMES", 5, type="PAID", restrictedTo=["llm"])
    second = await grant(product, "TOKENS", 1000, type="FREE", restrictedTo=["other"])
    provider.answers("server_error", model="llm")

    events = await product.stream(model=model("llm"), fallbacks=[model("third"), model("other")])

    assert [event["__typename"] for event in events[:2]] == ["CompletionStarted", "CompletionRerouted"]
    assert events[-1]["__typename"] == "CompletionFinished"
    assert await balance(product, first) == (0, 0, ["GRANT", "RESERVE", "RELEASE"])
    assert await balance(product, second) == (16, 0, ["GRANT", "RESERVE", "SETTLE"])


async def test_a_fallback_pays_by_what_the_attempt_before_it_has_freed(
    product: Product, provider: FakeProvider
) -> None:
    quota = await grant(product, "TIMES", 1)
    provider.answers("server_error", model="llm")

    events = await product.stream(model=model("llm"), fallbacks=[model("other")])

    assert events[-1]["__typename"] == "CompletionFinished"
    used, reserved, kinds = await balance(product, quota)
    assert (used, reserved, sorted(kinds)) == (1, 0, ["GRANT", "RELEASE", "RESERVE", "RESERVE", "SETTLE"])


async def test_a_fallback_without_room_is_passed_over(product: Product, provider: FakeProvider) -> None:
    await grant(product, "TIMES", 5, type="PAID", restrictedTo=["llm", "third"])
    await grant(product, "TOKENS", BOUND, type="FREE", restrictedTo=["other"])
    provider.answers("server_error", model="llm")

    served = await product.stream(model=model("llm"), fallbacks=[model("other"), model("third")])
    refused = await product.stream(model=model("llm"), fallbacks=[model("other")])

    assert served[-1]["__typename"] == "CompletionFinished"
    assert refused[-1]["error"]["code"] == "UPSTREAM_UNAVAILABLE"
    assert [call.model for call in provider.calls] == ["llm", "third", "llm"]


async def test_a_fallback_serves_once_the_quota_of_the_first_model_is_used_up(
    product: Product, provider: FakeProvider
) -> None:
    first = await grant(product, "TIMES", 1, type="PAID", restrictedTo=["llm"])
    second = await grant(product, "TIMES", 5, type="FREE", restrictedTo=["other"])

    served = [await product.stream(model=model("llm"), fallbacks=[model("other")]) for _ in range(2)]
    (refused,) = await product.stream(model=model("llm"))

    assert [events[0]["model"]["name"] for events in served] == ["llm", "other"]
    assert [events[-1]["__typename"] for events in served] == ["CompletionFinished"] * 2
    assert refused["error"]["code"] == "QUOTA_EXCEEDED"
    assert [(await balance(product, quota))[:2] for quota in (first, second)] == [(1, 0), (1, 0)]


async def test_own_credentials_serve_a_fallback_whose_quota_is_used_up(
    sqlite_template: Path, redis_url: str, tmp_path: Path, provider: FakeProvider
) -> None:
    both = tmp_path / "both.toml"
    hosts = f'[providers.openai]\nvalues = {{ api_key = "sk-hosted", base_url = "{provider.url}" }}\n'
    both.write_text(Path(hosted.hosted_file(tmp_path, provider)).read_text() + hosts)
    url = sqlite_in(tmp_path, sqlite_template)
    async with hosting(url, redis_url, tmp_path, provider, HOSTED=str(both)) as product:
        await grant(product, "TIMES", None, type="FREE")
        quota = await grant(product, "TIMES", 1, provider="openai")
        values = [{"field": "api_key", "value": "sk-own"}, {"field": "base_url", "value": provider.url}]
        await product.changed(CREATE, provider="openai", values=values)
        await product.changed(PREFER, provider="openai", type="SYSTEM")
        asked: dict[str, Any] = {"model": model("llm"), "fallbacks": [model("gpt-4o-mini", "openai")]}
        provider.answers("server_error", model="llm")

        served = [await product.stream(**asked) for _ in range(2)]

        assert [events[-1]["__typename"] for events in served] == ["CompletionFinished"] * 2
        assert [call.key for call in provider.calls if call.model != "llm"] == ["sk-hosted", "sk-own"]
        assert (await balance(product, quota))[:2] == (1, 0)


async def test_an_owner_that_was_taken_for_dead_books_the_difference_once(
    product: Product, provider: FakeProvider
) -> None:
    quota = await grant(product, "TOKENS", 10_000)
    provider.answers(text=LONG * 12, pieces=20, halts_after=10)  # more than is held to begin with

    async with product.socket() as ws, aclosing(completion(ws, chat(model=model("llm")))) as source:
        events = [await anext(source), await anext(source)]
        assert text_of(events), "what is paid for is read once it is in the log"
        async with hosted.late_worker(product.app.settings) as worker:
            assert await sweep_holds(worker) == 1
        swept, reserved, kinds = await balance(product, quota)
        assert (reserved, kinds[-1]) == (0, "SETTLE")
        assert swept not in {0, 31}
        provider.go_on()
        events += [event async for event in source]

    assert events[-1]["__typename"] == "CompletionFinished"
    assert await balance(product, quota) == (31, 0, [*kinds, "LATE_SETTLE"])


def _is_being_admitted() -> bool:
    """Tell whether a call is past the point from which it goes on without its caller."""
    return any(getattr(task.get_coro(), "__name__", "") == "_into" for task in asyncio.all_tasks())


async def test_a_call_whose_caller_leaves_while_it_is_admitted_is_ended_and_freed(
    database_url: str, redis_url: str, tmp_path: Path, provider: FakeProvider
) -> None:
    async with hosting(database_url, redis_url, tmp_path, provider) as product:
        quota = await grant(product, "TIMES", 5)
        provider.answers("endless")
        viewer = await product.app.identity.viewer(hash_secret(product.token))
        assert viewer is not None
        request = CompletionRequest(chat=HI, model=ModelReference(provider=LLM, name="llm"))
        async with product.app.storage.transaction() as tx:
            for held in await tx.quotas.of_workspace(next(iter(viewer.memberships))):
                await tx.quotas.locked(held.id)
            starting = asyncio.create_task(start(product.app, viewer, request, streaming=True))
            await wait_for(_is_being_admitted)
            starting.cancel()
            await asyncio.wait([starting])

        assert starting.cancelled()
        async with asyncio.timeout(LIMIT_S):
            while [call["status"] for call in await _calls(product)] != ["CANCELLED"]:
                await asyncio.sleep(0.05)
        used, reserved, kinds = await balance(product, quota)
        assert (reserved, kinds[:2]) == (0, ["GRANT", "RESERVE"])
        assert used <= 1


async def _calls(product: Product) -> Any:
    return (await product.data(INVOCATIONS))["workspace"]["invocations"]["nodes"]


async def test_speech_that_nobody_waits_for_from_the_start_is_ended(product: Product, provider: FakeProvider) -> None:
    from core.asking import Asked
    from core.model_types.tts import SpeechRequest
    from core.speech import speak

    quota = await grant(product, "TIMES", 5)
    provider.answers(Scenario(never_answers=True))
    viewer = await product.app.identity.viewer(hash_secret(product.token))
    assert viewer is not None

    async with aclosing(
        speak(
            product.app,
            viewer,
            Asked(model=ModelReference(provider=LLM, name="voice")),
            SpeechRequest(text="x", voice="alloy"),
        )
    ) as events:
        await anext(events)

    await settled(product, "CANCELLED")
    assert await balance(product, quota) == (0, 0, ["GRANT", "RESERVE", "RELEASE"])

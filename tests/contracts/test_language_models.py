"""Every provider of language models in every scenario: what comes of it is the same, whatever the dialect."""

import asyncio
import json
from contextlib import aclosing

import pytest

from core.errors import (
    ContentFiltered,
    ContextLengthExceeded,
    ModelyardError,
    UpstreamAuthentication,
    UpstreamBadRequest,
    UpstreamError,
    UpstreamModelNotFound,
    UpstreamOverloaded,
    UpstreamPermission,
    UpstreamProtocol,
    UpstreamQuotaExhausted,
    UpstreamRateLimited,
    UpstreamUnavailable,
)
from core.model_types import ModelType
from core.model_types.llm import FinishReason, TextPiece
from core.wire.http import Http
from tests.contracts.adapters import ADAPTERS, KEY, NOBODY, REQUEST, Adapter, completed, streamed
from tests.fake_provider import SCENARIOS, FakeProvider
from tests.waiting import wait_for

every_adapter = pytest.mark.parametrize("adapter", ADAPTERS, ids=str)

WELL = {
    "text": FinishReason.STOP,
    "tool": FinishReason.TOOL_CALLS,
    "tools": FinishReason.TOOL_CALLS,
    "structured": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "filtered_late": FinishReason.CONTENT_FILTER,
    "no_usage": FinishReason.STOP,
}
REFUSED: dict[str, type[ModelyardError]] = {
    "unauthorized": UpstreamAuthentication,
    "forbidden": UpstreamPermission,
    "not_found": UpstreamModelNotFound,
    "bad_request": UpstreamBadRequest,
    "context_too_long": ContextLengthExceeded,
    "rate_limited": UpstreamRateLimited,
    "rate_limited_silently": UpstreamRateLimited,
    "quota_exhausted": UpstreamQuotaExhausted,
    "server_error": UpstreamUnavailable,
    "overloaded": UpstreamOverloaded,
    "busy": UpstreamOverloaded,
    "redirect": UpstreamBadRequest,
    "html": UpstreamProtocol,
    "html_error": UpstreamUnavailable,
    "wrong_type": UpstreamProtocol,
    "json_error": UpstreamModelNotFound,
    "hangs_up": UpstreamUnavailable,
}
BROKEN: dict[str, tuple[type[ModelyardError], ...]] = {
    "malformed": (UpstreamProtocol,),
    "truncated": (UpstreamProtocol,),
    "cut": (UpstreamProtocol,),
    "huge_line": (UpstreamProtocol,),
    "error_in_stream": (UpstreamUnavailable, UpstreamOverloaded),
}


@every_adapter
@pytest.mark.parametrize("scenario", WELL)
async def test_what_goes_well_is_the_same_streamed_and_whole(
    scenario: str, adapter: Adapter, provider: FakeProvider, http: Http
) -> None:
    unasked = {} if adapter.asks_usage or scenario == "no_usage" else {"usage": "last_chunk"}
    provider.answers(scenario, **unasked)
    made = adapter.build(http)

    stream, stream_error = await streamed(made, adapter.call(provider))
    whole, whole_error = await completed(made, adapter.call(provider))

    assert (stream_error, whole_error) == (None, None)
    expected = SCENARIOS[scenario]
    for outcome in (stream, whole):
        assert outcome.text == expected.text
        knows = adapter.filters or scenario != "filtered_late"
        assert outcome.finish_reason is (WELL[scenario] if knows else FinishReason.OTHER)
        called = [(call["name"], json.loads(call["arguments"])) for call in outcome.tool_calls]
        assert called == [(name, json.loads(arguments)) for name, arguments in expected.tool_calls]
        if scenario == "no_usage":
            assert outcome.usage is None
        else:
            assert outcome.usage is not None
            assert outcome.usage.input_tokens == 11
            assert outcome.usage.cached_input_tokens in {0, 4}
            assert outcome.usage.output_tokens > 0
    assert stream.usage == whole.usage


@every_adapter
async def test_reasoning_is_kept_apart(adapter: Adapter, provider: FakeProvider, http: Http) -> None:
    provider.answers("reasoning")
    made = adapter.build(http)

    stream, _ = await streamed(made, adapter.call(provider))
    whole, _ = await completed(made, adapter.call(provider))

    for outcome in (stream, whole):
        assert outcome.reasoning == SCENARIOS["reasoning"].reasoning
        assert outcome.text == SCENARIOS["reasoning"].text


@every_adapter
@pytest.mark.parametrize("scenario", REFUSED)
async def test_a_refusal_has_its_true_meaning(
    scenario: str, adapter: Adapter, provider: FakeProvider, http: Http
) -> None:
    provider.answers(scenario)
    made = adapter.build(http)

    for ask in (streamed, completed):
        outcome, error = await ask(made, adapter.call(provider))

        assert type(error) is REFUSED[scenario], error
        assert outcome.text == ""
        assert KEY not in error.message
        assert error.retry_after == (7.0 if scenario == "rate_limited" else None)


@every_adapter
async def test_a_filter_is_an_error_or_the_reason_to_finish(
    adapter: Adapter, provider: FakeProvider, http: Http
) -> None:
    provider.answers("content_filtered")
    made = adapter.build(http)

    for ask in (streamed, completed):
        outcome, error = await ask(made, adapter.call(provider))

        assert isinstance(error, ContentFiltered) or outcome.finish_reason is FinishReason.CONTENT_FILTER


@every_adapter
@pytest.mark.parametrize("scenario", BROKEN)
async def test_what_breaks_in_a_stream_is_told_after_what_came_before_it(
    scenario: str, adapter: Adapter, provider: FakeProvider, http: Http
) -> None:
    provider.answers(scenario)

    outcome, error = await streamed(adapter.build(http), adapter.call(provider))

    assert type(error) in BROKEN[scenario], error
    assert outcome.text == SCENARIOS[scenario].text
    assert outcome.finish_reason is None


@every_adapter
async def test_a_stream_without_its_last_word_is_not_complete_or_has_its_finish(
    adapter: Adapter, provider: FakeProvider, http: Http
) -> None:
    provider.answers("no_done")

    outcome, error = await streamed(adapter.build(http), adapter.call(provider))

    assert outcome.text == SCENARIOS["no_done"].text
    assert isinstance(error, UpstreamProtocol) or outcome.finish_reason is FinishReason.STOP


@every_adapter
@pytest.mark.parametrize("scenario", ["stall", "silent"])
async def test_silence_holds_nothing_open_once_the_caller_leaves(
    scenario: str, adapter: Adapter, provider: FakeProvider, http: Http
) -> None:
    provider.answers(scenario)
    made = adapter.build(http)
    assert made.llm is not None
    llm, heard = made.llm, ""
    whole = SCENARIOS["stall"].text if scenario == "stall" else ""

    async def listen() -> None:
        nonlocal heard
        async with aclosing(llm.stream(adapter.call(provider), REQUEST)) as batches:
            async for batch in batches:
                heard += "".join(piece.text for piece in batch if isinstance(piece, TextPiece))

    listening = asyncio.create_task(listen())
    await wait_for(lambda: listening.done() or (provider.answering and len(heard) >= len(whole)))
    listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening

    assert heard == whole
    await asyncio.to_thread(provider.wait_until_quiet)


@every_adapter
async def test_a_late_first_word_is_waited_for(adapter: Adapter, provider: FakeProvider, http: Http) -> None:
    provider.answers("slow_first_token", first_delay_s=0.2)

    outcome, error = await streamed(adapter.build(http), adapter.call(provider))

    assert error is None
    assert outcome.text == SCENARIOS["slow_first_token"].text


@every_adapter
async def test_a_server_that_does_not_stream_is_read_whole(
    adapter: Adapter, provider: FakeProvider, http: Http
) -> None:
    provider.answers("not_streaming")

    outcome, error = await streamed(adapter.build(http), adapter.call(provider))

    assert error is None
    assert outcome.text == SCENARIOS["not_streaming"].text


@every_adapter
async def test_a_credential_is_accepted_by_a_free_call(adapter: Adapter, provider: FakeProvider, http: Http) -> None:
    await adapter.build(http).validate(adapter.call(provider).values, None, None)

    assert provider.requests != []
    assert provider.calls == []


@every_adapter
async def test_a_wrong_key_is_refused_without_being_repeated(
    adapter: Adapter, provider: FakeProvider, http: Http
) -> None:
    provider.answers("unauthorized")

    with pytest.raises(UpstreamAuthentication) as refused:
        await adapter.build(http).validate(adapter.call(provider).values, None, None)

    assert KEY not in refused.value.message


@every_adapter
@pytest.mark.parametrize("scenario", ["server_error", "html", "rate_limited"])
async def test_what_tells_nothing_of_a_key_is_no_refusal_of_it(
    scenario: str, adapter: Adapter, provider: FakeProvider, http: Http
) -> None:
    provider.answers(scenario)

    with pytest.raises((UpstreamUnavailable, UpstreamProtocol, UpstreamRateLimited)):
        await adapter.build(http).validate(adapter.call(provider).values, None, None)


@pytest.mark.parametrize("adapter", [one for one in ADAPTERS if one.build(NOBODY).listing is not None], ids=str)
async def test_models_are_listed_with_what_the_list_tells(adapter: Adapter, provider: FakeProvider, http: Http) -> None:
    listing = adapter.build(http).listing
    assert listing is not None

    found = await listing.list_models(adapter.call(provider).values)

    language = [model for model in found if model.type is ModelType.LLM]
    assert language != []
    assert all(model.name and not model.gone and model.context_window for model in language)
    assert provider.calls == []


@pytest.mark.parametrize("adapter", [one for one in ADAPTERS if one.build(NOBODY).listing is not None], ids=str)
@pytest.mark.parametrize("scenario", ["unauthorized", "server_error", "html", "rate_limited"])
async def test_a_list_that_is_not_given_is_an_error(
    scenario: str, adapter: Adapter, provider: FakeProvider, http: Http
) -> None:
    provider.answers(scenario)
    listing = adapter.build(http).listing
    assert listing is not None

    with pytest.raises(UpstreamError):
        await listing.list_models(adapter.call(provider).values)

"""Providers that speak OpenAI chat completions, over HTTP, against a server that misbehaves."""

import asyncio
import json
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from core.errors import (
    ContentFiltered,
    ContextLengthExceeded,
    InvalidInput,
    ModelyardError,
    UpstreamAuthentication,
    UpstreamBadRequest,
    UpstreamModelNotFound,
    UpstreamOverloaded,
    UpstreamPermission,
    UpstreamProtocol,
    UpstreamQuotaExhausted,
    UpstreamRateLimited,
    UpstreamUnavailable,
)
from core.model_types import ModelType
from core.model_types.llm import (
    ChatRequest,
    ContinuationPiece,
    FinishReason,
    Message,
    Piece,
    Role,
    Text,
    TextPiece,
    UsagePiece,
)
from core.provider import Call, Manifest, ModelCard, Provider, Value
from core.providers import openai, openai_compatible
from core.secret import Secret
from core.wire.http import UNREACHABLE, Http
from tests.fake_provider import SCENARIOS, FakeProvider, Scenario
from tests.waiting import wait_for
from tests.wire.recordings import Outcome, outcome_of

KEY = "sk-test-0123456789abcdefghij"
HELLO = "Hello from the fake provider."
REQUEST = ChatRequest(messages=(Message(role=Role.USER, content=(Text("hi"),)),))


def manifest(**options: Any) -> Manifest:
    return Manifest(
        name="p", label="", description="", model_types=(), methods=frozenset(), dialect="openai_chat", options=options
    )


def values(provider: FakeProvider, **more: Value) -> Mapping[str, Value]:
    return {"base_url": provider.url, "api_key": Secret(KEY), **more}


def call(values: Mapping[str, Value], model: str = "m") -> Call:
    return Call(model=model, card=ModelCard(name=model, label=model, type=ModelType.LLM), values=values)


async def stream(
    made: Provider, values: Mapping[str, Value], request: ChatRequest = REQUEST
) -> tuple[list[Piece], ModelyardError | None]:
    assert made.llm is not None
    pieces: list[Piece] = []
    try:
        async with aclosing(made.llm.stream(call(values), request)) as batches:
            async for batch in batches:
                pieces += batch
    except ModelyardError as error:
        return pieces, error
    return pieces, None


async def both(made: Provider, values: Mapping[str, Value]) -> tuple[Outcome, Outcome]:
    """Return what comes streamed and what comes whole."""
    assert made.llm is not None
    pieces, error = await stream(made, values)
    assert error is None
    return outcome_of(pieces), outcome_of(await made.llm.complete(call(values), REQUEST))


@pytest.fixture
def compatible(http: Http) -> Provider:
    return openai_compatible.build(manifest(), http)


# ---- what goes well


@pytest.mark.parametrize("scenario", ["text", "reasoning", "tool", "tools", "structured", "length", "filtered_late"])
async def test_an_answer_is_the_same_streamed_and_whole(
    scenario: str, provider: FakeProvider, compatible: Provider
) -> None:
    provider.answers(scenario)

    streamed, whole = await both(compatible, values(provider))

    assert streamed == whole
    assert streamed.text == SCENARIOS[scenario].text
    assert streamed.reasoning == SCENARIOS[scenario].reasoning
    assert [(made["name"], made["arguments"]) for made in streamed.tool_calls] == list(SCENARIOS[scenario].tool_calls)
    assert streamed.usage is not None


@pytest.mark.parametrize("scenario", ["reasoning", "text"])
async def test_reasoning_goes_back_to_its_provider_alone(
    scenario: str, provider: FakeProvider, compatible: Provider, http: Http
) -> None:
    provider.answers(scenario)
    pieces, _ = await stream(compatible, values(provider))
    assert compatible.llm is not None
    whole = await compatible.llm.complete(call(values(provider)), REQUEST)
    found = [piece.continuation for piece in (*pieces, *whole) if isinstance(piece, ContinuationPiece)]

    if scenario == "text":
        assert found == []
        return
    assert len(found) == 2
    assert found[0] == found[1]
    said = Message(role=Role.ASSISTANT, content=(Text("Hello."),), continuation=found[0])
    again = ChatRequest(messages=(*REQUEST.messages, said, *REQUEST.messages))
    await stream(compatible, values(provider), again)
    await stream(openai_compatible.build(replace(manifest(), name="other"), http), values(provider), again)

    plain = {"role": "assistant", "content": "Hello."}
    sent = [request.json["messages"][1] for request in provider.calls[-2:]]
    assert sent == [{**plain, "reasoning_content": SCENARIOS[scenario].reasoning}, plain]


async def test_the_request_carries_the_key_the_model_and_a_wish_for_usage(
    provider: FakeProvider, compatible: Provider
) -> None:
    await stream(compatible, values(provider))

    sent = provider.calls[0]
    assert sent.key == KEY
    assert sent.headers["content-type"] == "application/json"
    assert sent.json == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_a_server_may_need_no_key_and_know_the_model_by_another_name(
    provider: FakeProvider, compatible: Provider
) -> None:
    await stream(compatible, {"base_url": provider.url, "upstream_model": "local-model"})

    assert "authorization" not in provider.calls[0].headers
    assert provider.calls[0].model == "local-model"


@pytest.mark.parametrize("text", ["X-Tenant: t1\nX-Trace: on", '{"X-Tenant": "t1", "X-Trace": "on"}'])
async def test_extra_headers_are_sent(text: str, provider: FakeProvider, compatible: Provider) -> None:
    await stream(compatible, values(provider, extra_headers=Secret(text)))

    assert provider.calls[0].headers["x-tenant"] == "t1"
    assert provider.calls[0].headers["x-trace"] == "on"


@pytest.mark.parametrize("text", ["no colon", "Host: other", "X-A: b\x00", "{", '{"a": 1}', "X-Ä: b"])
async def test_extra_headers_that_cannot_be_sent_are_refused(
    text: str, provider: FakeProvider, compatible: Provider
) -> None:
    _, error = await stream(compatible, values(provider, extra_headers=Secret(text)))

    assert isinstance(error, InvalidInput)
    assert error.path == ("extra_headers",)
    assert provider.requests == []


async def test_text_comes_while_it_is_written(provider: FakeProvider, compatible: Provider) -> None:
    provider.answers(pieces=3, delay_s=0.05)
    assert compatible.llm is not None

    texts = []
    async with aclosing(compatible.llm.stream(call(values(provider)), REQUEST)) as batches:
        async for batch in batches:
            texts += [piece.text for piece in batch if isinstance(piece, TextPiece)]

    assert len(texts) == 3
    assert "".join(texts) == HELLO


async def test_connections_are_used_again(provider: FakeProvider, compatible: Provider) -> None:
    for _ in range(5):
        await stream(compatible, values(provider))

    assert provider.open_connections == 1


# ---- usage


async def test_a_server_that_refuses_stream_options_is_asked_once_more_and_remembered(
    provider: FakeProvider, compatible: Provider
) -> None:
    provider.answers("rejects_stream_options")

    first, _ = await stream(compatible, values(provider))
    second, _ = await stream(compatible, values(provider))

    assert outcome_of(first).text == outcome_of(second).text == HELLO
    assert ["stream_options" in sent.json for sent in provider.calls] == [True, False, False]


@pytest.mark.parametrize("off", ["form", "manifest"])
async def test_stream_options_are_not_sent_where_they_are_switched_off(
    off: str, provider: FakeProvider, http: Http
) -> None:
    made = openai_compatible.build(manifest(stream_options=off != "manifest"), http)
    switch = {"supports_stream_options": "false"} if off == "form" else {}

    pieces, error = await stream(made, values(provider, **switch))

    assert error is None
    assert "stream_options" not in provider.calls[0].json
    assert not any(isinstance(piece, UsagePiece) for piece in pieces)


async def test_usage_on_the_last_chunk_is_read(provider: FakeProvider, compatible: Provider) -> None:
    provider.answers("usage_on_last_chunk")

    pieces, _ = await stream(compatible, values(provider))

    usage = outcome_of(pieces).usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.cached_input_tokens) == (11, 5, 4)


# ---- refusals and misbehaviour


@pytest.mark.parametrize(
    ("scenario", "expected", "words"),
    [
        ("unauthorized", UpstreamAuthentication, "does not accept the key"),
        ("forbidden", UpstreamPermission, "Project may not use this model."),
        ("not_found", UpstreamModelNotFound, "does not know this model"),
        ("no_route", UpstreamModelNotFound, "not at this address"),
        ("bad_request", UpstreamBadRequest, "Unsupported value: 'temperature'."),
        ("context_too_long", ContextLengthExceeded, "longer than the model takes"),
        ("content_filtered", ContentFiltered, "content filter"),
        ("rate_limited", UpstreamRateLimited, "limits the rate"),
        ("quota_exhausted", UpstreamQuotaExhausted, "out of money"),
        ("server_error", UpstreamUnavailable, "failed"),
        ("overloaded", UpstreamOverloaded, "no capacity"),
        ("redirect", UpstreamBadRequest, "redirect (307)"),
        ("html", UpstreamProtocol, "web page"),
        ("html_error", UpstreamUnavailable, "web page"),
        ("json_error", UpstreamModelNotFound, "No such thing."),
        ("hangs_up", UpstreamUnavailable, "without an answer"),
    ],
)
async def test_a_failure_is_the_same_streamed_and_whole(
    scenario: str, expected: type[ModelyardError], words: str, provider: FakeProvider, compatible: Provider
) -> None:
    provider.answers(scenario)
    assert compatible.llm is not None

    pieces, streamed = await stream(compatible, values(provider))
    with pytest.raises(ModelyardError) as whole:
        await compatible.llm.complete(call(values(provider)), REQUEST)

    assert pieces == []
    assert type(streamed) is type(whole.value) is expected
    assert words in str(streamed)
    assert words in str(whole.value)
    assert KEY not in str(streamed) + str(whole.value)
    assert len(provider.calls) == 2


@pytest.mark.parametrize(("scenario", "seconds"), [("rate_limited", 7.0), ("rate_limited_silently", None)])
async def test_a_limit_tells_how_long_to_wait(
    scenario: str, seconds: float | None, provider: FakeProvider, compatible: Provider
) -> None:
    provider.answers(scenario)

    _, error = await stream(compatible, values(provider))

    assert isinstance(error, UpstreamRateLimited)
    assert error.retry_after == seconds


@pytest.mark.parametrize(
    ("scenario", "expected", "words"),
    [
        ("truncated", UpstreamProtocol, "before it was complete"),
        ("cut", UpstreamProtocol, "broke off"),
        ("malformed", UpstreamProtocol, "cannot be read"),
        ("error_in_stream", UpstreamUnavailable, "Out of memory."),
        ("huge_line", UpstreamProtocol, "more than 4096 KiB"),
    ],
)
async def test_a_failure_in_the_middle_keeps_what_came_before_and_closes_the_connection(
    scenario: str, expected: type[ModelyardError], words: str, provider: FakeProvider, compatible: Provider
) -> None:
    provider.answers(scenario)

    pieces, error = await stream(compatible, values(provider))

    assert outcome_of(pieces).text == HELLO
    assert type(error) is expected
    assert words in str(error)
    await asyncio.to_thread(provider.wait_until_quiet)


async def test_an_answer_of_another_kind_is_named(provider: FakeProvider, compatible: Provider) -> None:
    provider.answers("wrong_type")

    _, error = await stream(compatible, values(provider))

    assert isinstance(error, UpstreamProtocol)
    assert "'image/png'" in error.message


async def test_a_server_that_does_not_know_how_to_stream_is_taken_whole(
    provider: FakeProvider, compatible: Provider
) -> None:
    provider.answers("not_streaming")

    pieces, error = await stream(compatible, values(provider))

    assert error is None
    assert outcome_of(pieces).text == HELLO
    assert outcome_of(pieces).finish_reason is FinishReason.STOP


@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream"])
async def test_a_stream_under_a_vague_type_is_read(kind: str, provider: FakeProvider, compatible: Provider) -> None:
    provider.answers(content_type=kind)

    pieces, error = await stream(compatible, values(provider))

    assert error is None
    assert outcome_of(pieces).text == HELLO


async def test_a_server_that_is_not_there_cannot_be_reached(compatible: Provider) -> None:
    _, error = await stream(compatible, {"base_url": "http://127.0.0.1:9/v1"})

    assert isinstance(error, UpstreamUnavailable)
    assert error.message == UNREACHABLE


async def test_no_base_url_is_said(compatible: Provider) -> None:
    _, error = await stream(compatible, {})

    assert isinstance(error, InvalidInput)


@pytest.mark.parametrize("key", ["sk-a\nb", "sk-schlüssel", "sk-\x00"])
async def test_a_key_that_no_header_carries_is_refused_before_it_is_sent(
    key: str, provider: FakeProvider, compatible: Provider
) -> None:
    _, error = await stream(compatible, values(provider, api_key=Secret(key)))

    assert isinstance(error, UpstreamAuthentication)
    assert key not in error.message
    assert provider.requests == []


@pytest.mark.parametrize("key", [f"  {KEY}\n", f"Bearer {KEY}"])
async def test_a_key_is_sent_without_what_was_pasted_around_it(
    key: str, provider: FakeProvider, compatible: Provider
) -> None:
    await stream(compatible, values(provider, api_key=Secret(key)))

    assert provider.calls[0].headers["authorization"] == f"Bearer {KEY}"


async def test_a_stream_that_is_closed_early_leaves_nothing_open(provider: FakeProvider, compatible: Provider) -> None:
    provider.answers("endless")
    assert compatible.llm is not None

    for _ in range(20):
        async with aclosing(compatible.llm.stream(call(values(provider)), REQUEST)) as batches:
            async for _ in batches:
                break

    await wait_for(lambda: provider.open_connections == 0)
    assert len(provider.calls) == 20
    assert provider.answering == 0


async def test_a_stream_that_is_cancelled_leaves_nothing_open(provider: FakeProvider, compatible: Provider) -> None:
    provider.answers("stall")

    tasks = [asyncio.create_task(stream(compatible, values(provider))) for _ in range(20)]
    await wait_for(lambda: provider.answering == 20)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    await wait_for(lambda: provider.open_connections == 0)
    assert provider.answering == 0


# ---- OpenAI itself


async def test_openai_gets_its_own_names_and_headers(provider: FakeProvider, http: Http) -> None:
    made = openai.build(manifest(), http)
    request = ChatRequest(messages=REQUEST.messages, parameters={"max_tokens": 5})

    await stream(made, values(provider, organization="org-1", project="proj_1"), request)

    sent = provider.calls[0]
    assert sent.headers["openai-organization"] == "org-1"
    assert sent.headers["openai-project"] == "proj_1"
    assert sent.json["max_completion_tokens"] == 5
    assert sent.json["stream_options"] == {"include_usage": True, "include_obfuscation": False}


async def test_an_openai_stream_without_its_marker_is_truncated(provider: FakeProvider, http: Http) -> None:
    provider.answers("no_done")

    _, strict = await stream(openai.build(manifest(), http), values(provider))
    _, lenient = await stream(openai_compatible.build(manifest(), http), values(provider))

    assert isinstance(strict, UpstreamProtocol)
    assert lenient is None


async def test_openai_without_a_key_is_refused_before_anything_is_sent(provider: FakeProvider, http: Http) -> None:
    with pytest.raises(UpstreamAuthentication, match="missing"):
        await openai.build(manifest(), http).validate({"base_url": provider.url}, None, None)

    assert provider.requests == []


def test_a_manifest_with_an_unknown_option_is_refused(http: Http) -> None:
    with pytest.raises(ValueError, match="max_token_parameter"):
        openai_compatible.build(manifest(max_token_parameter="x"), http)


async def test_a_manifest_alone_makes_a_provider(provider: FakeProvider, http: Http) -> None:
    made = openai_compatible.build(manifest(base_url=provider.url), http)

    pieces, _ = await stream(made, {"api_key": Secret(KEY)})

    assert outcome_of(pieces).text == HELLO


# ---- validation


async def test_a_credential_that_lists_models_is_valid_at_no_cost(provider: FakeProvider, compatible: Provider) -> None:
    await compatible.validate(values(provider), None, None)

    assert [(sent.method, sent.path, sent.key) for sent in provider.requests] == [("GET", "/v1/models", KEY)]


@pytest.mark.parametrize(
    ("scenario", "expected"),
    [
        ("unauthorized", UpstreamAuthentication),
        ("forbidden", UpstreamPermission),
        ("rate_limited", UpstreamRateLimited),
        ("server_error", UpstreamUnavailable),
        ("redirect", UpstreamBadRequest),
        ("hangs_up", UpstreamUnavailable),
        ("no_route", UpstreamProtocol),
        ("html", UpstreamProtocol),
    ],
)
async def test_a_credential_that_does_not_work_says_why(
    scenario: str, expected: type[ModelyardError], provider: FakeProvider, compatible: Provider
) -> None:
    provider.answers(scenario)

    with pytest.raises(ModelyardError) as refused:
        await compatible.validate(values(provider), None, None)

    assert type(refused.value) is expected
    assert KEY not in refused.value.message


@pytest.mark.parametrize("status", [401, 403])
async def test_a_restricted_key_that_may_not_list_models_is_valid(
    status: int, provider: FakeProvider, compatible: Provider
) -> None:
    message = "You have insufficient permissions for this operation. Missing scopes: api.model.read."
    body = json.dumps({"error": {"message": message, "type": "invalid_request_error"}}).encode()
    provider.answers(status=status, body=body)

    await compatible.validate(values(provider), None, None)

    assert len(provider.requests) == 1


async def test_a_missing_version_is_suggested_and_never_added_in_silence(
    provider: FakeProvider, compatible: Provider
) -> None:
    provider.answers_at("/models", Scenario(status=404, body=b'{"detail":"Not Found"}'))
    root = provider.url.removesuffix("/v1")

    with pytest.raises(UpstreamBadRequest, match=f"one does at {root}/v1: enter that URL"):
        await compatible.validate({"base_url": root, "api_key": Secret(KEY)}, None, None)

    assert [sent.path for sent in provider.requests] == ["/models", "/v1/models"]


async def test_a_server_without_a_list_of_models_tells_how_to_save_it(
    provider: FakeProvider, compatible: Provider
) -> None:
    provider.answers("no_route")

    with pytest.raises(UpstreamProtocol, match="without verification"):
        await compatible.validate(values(provider), None, None)

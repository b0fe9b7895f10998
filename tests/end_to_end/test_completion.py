"""A completion as its caller sees it: every way in, every way to end."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.fake_provider import FakeProvider
from tests.product import (
    COMPLETE,
    COMPLETION,
    NO_TLS,
    SET_DEFAULT,
    Product,
    chat,
    check_sequence,
    completion,
    model,
    text_of,
)
from tests.waiting import LIMIT_S, wait_for

HELLO = "Hello from the fake provider."
EMBED = "mutation ($input: EmbedInput!) { embed(input: $input) { embeddings errors { code } } }"
ECHO = {"provider": "echo", "name": "echo"}


async def names(product: Product, provider: FakeProvider, *scenarios: str, **more: str) -> None:
    """Add a model for each scenario, named after it."""
    for scenario in scenarios:
        await product.add_model(scenario, provider.url, **more)


async def settled(product: Product, status: str) -> Any:
    """Return the newest record once it has this status."""
    deadline = asyncio.get_running_loop().time() + LIMIT_S
    while (record := await product.last_invocation())["status"] != status:
        assert asyncio.get_running_loop().time() < deadline, record
        await asyncio.sleep(0.02)
    return record


async def test_a_newcomer_streams_from_echo_without_a_key(product: Product) -> None:
    events = await product.stream("one two three", model=ECHO)

    check_sequence(events)
    assert events[0]["__typename"] == "CompletionStarted"
    assert text_of(events) == "one two three"
    assert events[-1]["message"]["text"] == "one two three"
    assert events[-1]["usage"]["outputTokens"] == 3
    record = await product.last_invocation()
    assert (record["status"], record["usage"]["totalTokens"]) == ("SUCCEEDED", 6)


@pytest.mark.parametrize("accept", ["text/event-stream", "multipart/mixed;subscriptionSpec=1.0"])
async def test_every_transport_gives_the_same_events(product: Product, provider: FakeProvider, accept: str) -> None:
    await names(product, provider, "tools")

    over_socket = await product.stream(model=model("tools"))
    over_http = await product.stream_events(accept=accept, model=model("tools"))

    def plain(events: list[Any]) -> Any:
        text = text_of(events)
        return text, [event | {"invocationId": ""} for event in events if event["__typename"] == "ToolCallDelta"]

    check_sequence(over_http)
    assert [call["name"] for call in over_http[-1]["message"]["toolCalls"]] == ["get_weather", "get_time"]
    assert over_http[-1]["finishReason"] == "TOOL_CALLS"
    assert plain(over_http)[0] == plain(over_socket)[0] == "I will look."
    assert over_http[-1]["message"] == over_socket[-1]["message"]


async def test_complete_gives_the_same_answer_in_one(product: Product, provider: FakeProvider) -> None:
    await names(product, provider, "text")
    await product.changed(SET_DEFAULT, defaults=[{"type": "LLM", "model": model("text")}])

    payload = await product.changed(COMPLETE, **chat())

    assert payload["message"]["text"] == HELLO
    assert payload["finishReason"] == "STOP"
    assert payload["invocation"]["status"] == "SUCCEEDED"
    assert provider.calls[-1].streams is False


async def test_reasoning_and_structured_output(product: Product, provider: FakeProvider) -> None:
    await names(product, provider, "reasoning", "structured")

    thought = await product.stream(model=model("reasoning"))
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    structured = await product.stream(model=model("structured"), responseFormat={"jsonSchema": schema})

    assert thought[-1]["message"]["reasoning"] == "Let me think about this."
    assert json.loads(text_of(structured)) == {"city": "Paris", "country": "France"}
    assert provider.calls[-1].json["response_format"]["type"] == "json_schema"


async def test_usage_is_asked_for_and_counted_here_where_there_is_none(
    product: Product, provider: FakeProvider
) -> None:
    await names(product, provider, "text", "no_usage")

    reported = await product.stream(model=model("text"))
    counted = await product.stream(model=model("no_usage"))

    assert provider.calls[0].json["stream_options"]["include_usage"] is True
    assert reported[-1]["usage"]["estimated"] is False
    assert counted[-1]["usage"]["estimated"] is True
    assert counted[-1]["usage"]["outputTokens"] > 0
    assert counted[-1]["cost"] is None


@pytest.mark.parametrize(
    ("scenario", "code", "deltas"),
    [
        ("unauthorized", "UPSTREAM_AUTHENTICATION", False),
        ("forbidden", "UPSTREAM_PERMISSION", False),
        ("not_found", "UPSTREAM_MODEL_NOT_FOUND", False),
        ("bad_request", "UPSTREAM_BAD_REQUEST", False),
        ("context_too_long", "CONTEXT_LENGTH_EXCEEDED", False),
        ("content_filtered", "CONTENT_FILTERED", False),
        ("rate_limited", "UPSTREAM_RATE_LIMITED", False),
        ("quota_exhausted", "UPSTREAM_QUOTA_EXHAUSTED", False),
        ("server_error", "UPSTREAM_UNAVAILABLE", False),
        ("overloaded", "UPSTREAM_OVERLOADED", False),
        ("html", "UPSTREAM_PROTOCOL", False),
        ("redirect", "UPSTREAM_BAD_REQUEST", False),
        ("huge_line", "UPSTREAM_PROTOCOL", True),
        ("malformed", "UPSTREAM_PROTOCOL", True),
        ("hangs_up", "UPSTREAM_UNAVAILABLE", False),
        ("truncated", "UPSTREAM_PROTOCOL", True),
        ("cut", "UPSTREAM_PROTOCOL", True),
    ],
)
async def test_a_provider_that_fails_ends_the_stream_once(
    product: Product, provider: FakeProvider, scenario: str, code: str, deltas: bool
) -> None:
    await check_failure(product, provider, scenario, code, deltas=deltas)


@pytest.mark.parametrize("first_byte_s", ["1"])
async def test_a_provider_that_does_not_begin_in_time_ends_the_stream_once(
    product: Product, provider: FakeProvider
) -> None:
    await check_failure(product, provider, "silent", "UPSTREAM_TIMEOUT", deltas=False)


@pytest.mark.parametrize("idle_s", ["1"])
async def test_a_provider_that_does_not_go_on_in_time_ends_the_stream_once(
    product: Product, provider: FakeProvider
) -> None:
    await check_failure(product, provider, "stall", "UPSTREAM_TIMEOUT", deltas=True)


async def check_failure(product: Product, provider: FakeProvider, scenario: str, code: str, *, deltas: bool) -> None:
    """Check that a stream of this scenario ends once by this code, and that its record says so."""
    await names(product, provider, scenario)

    events = await product.stream(model=model(scenario))

    check_sequence(events)
    assert events[-1]["__typename"] == "CompletionFailed"
    assert events[-1]["error"]["code"] == code
    assert bool(text_of(events)) is deltas
    record = await settled(product, "FAILED")
    assert record["error"]["code"] == code
    assert record["endedAt"] is not None
    assert [attempt["error"]["code"] for attempt in record["attempts"]] == [code]
    await asyncio.to_thread(provider.wait_until_quiet)


async def test_a_wait_that_the_provider_wishes_is_passed_on(product: Product, provider: FakeProvider) -> None:
    await names(product, provider, "rate_limited")

    events = await product.stream(model=model("rate_limited"))

    assert events[-1]["error"] | {"message": ""} == {
        "code": "UPSTREAM_RATE_LIMITED",
        "message": "",
        "path": [],
        "retryable": True,
        "retryAfter": 7.0,
    }


async def test_a_fallback_serves_where_the_first_fails_before_the_first_token(
    product: Product, provider: FakeProvider
) -> None:
    await names(product, provider, "server_error", "text")

    events = await product.stream(model=model("server_error"), fallbacks=[model("text")])

    check_sequence(events)
    assert [event["__typename"] for event in events[:2]] == ["CompletionStarted", "CompletionRerouted"]
    assert text_of(events) == HELLO
    record = await settled(product, "SUCCEEDED")
    assert [attempt["error"] and attempt["error"]["code"] for attempt in record["attempts"]] == [
        "UPSTREAM_UNAVAILABLE",
        None,
    ]


async def test_a_bad_request_is_not_tried_elsewhere(product: Product, provider: FakeProvider) -> None:
    await names(product, provider, "bad_request", "text")

    events = await product.stream(model=model("bad_request"), fallbacks=[model("text")])

    assert events[-1]["error"]["code"] == "UPSTREAM_BAD_REQUEST"
    assert len(provider.calls) == 1


@pytest.mark.parametrize(
    ("given", "code", "path"),
    [
        ({}, "MODEL_NOT_FOUND", []),
        ({"model": model("no-such")}, "MODEL_NOT_FOUND", ["model", "name"]),
        ({"model": model("x", "nobody")}, "MODEL_NOT_FOUND", ["model", "provider"]),
        ({"model": ECHO, "parameters": {"temperature": 1}}, "INVALID_INPUT", ["parameters", "temperature"]),
        ({"model": ECHO, "parameters": {"delay_ms": -1}}, "INVALID_INPUT", ["parameters", "delay_ms"]),
        ({"model": ECHO, "parameters": {"delay_ms": True}}, "INVALID_INPUT", ["parameters", "delay_ms"]),
        ({"model": ECHO, "parameters": {"delay_ms": 1.5}}, "INVALID_INPUT", ["parameters", "delay_ms"]),
        ({"model": {"provider": "echo", "name": "echo-reasoning"}, "messages": [{"role": "USER", "content": [
            {"image": {"url": "https://example.org/a.png"}}]}]}, "CAPABILITY_UNSUPPORTED", ["messages", "0", "content"]),
        ({"model": ECHO, "messages": []}, "INVALID_INPUT", ["messages"]),
        ({"model": ECHO, "credentialId": "nonsense"}, "NOT_FOUND", ["credentialId"]),
        ({"model": ECHO, "workspaceId": "nonsense"}, "NOT_FOUND", ["workspaceId"]),
    ],
)  # fmt: skip
async def test_what_is_wrong_with_the_input_is_said_before_anybody_is_called(
    product: Product, given: dict[str, Any], code: str, path: list[str]
) -> None:
    (event,) = await product.stream(**given)
    payload = (await product.data(COMPLETE, input=chat(**given)))["complete"]

    assert event["__typename"] == "CompletionFailed"
    assert (event["invocationId"], event["sequence"]) == (None, 0)
    assert (event["error"]["code"], event["error"]["path"]) == (code, path)
    assert [(error["code"], error["path"]) for error in payload["errors"]] == [(code, path)]
    assert payload["invocation"] is None
    assert (await product.data("{workspace{invocations{nodes{id}}}}"))["workspace"]["invocations"]["nodes"] == []


async def test_a_reader_who_leaves_for_good_closes_the_provider(product: Product, provider: FakeProvider) -> None:
    await names(product, provider, "endless")

    async with product.socket() as ws:
        events = completion(ws, chat(model=model("endless")))
        for _ in range(5):
            await anext(events)
        await events.aclose()
        await ws.send(json.dumps({"id": "1", "type": "complete"}))
        await wait_for(lambda: provider.answering == 0)

    record = await settled(product, "CANCELLED")
    assert record["usage"]["estimated"] is True
    assert record["usage"]["outputTokens"] > 0


@pytest.mark.parametrize(
    ("operation", "accept"), [("complete", "application/json"), ("complete", "text/event-stream"), ("embed", "*/*")]
)
async def test_who_hangs_up_before_a_whole_answer_has_left(
    product: Product, provider: FakeProvider, operation: str, accept: str
) -> None:
    await product.add_model("mine", provider.url)
    await product.add_model("mine", provider.url, kind="TEXT_EMBEDDING")
    provider.answers("silent")
    given = chat(model=model("mine")) if operation == "complete" else {"model": model("mine"), "texts": ["hi"]}
    query = COMPLETE if operation == "complete" else EMBED

    async with httpx.AsyncClient(trust_env=False, verify=NO_TLS) as client:
        body = {"query": query, "variables": {"input": given}}
        headers = {**product.headers(), "accept": accept}
        call = asyncio.ensure_future(client.post(f"{product.url}/graphql", json=body, headers=headers))
        await wait_for(lambda: provider.answering == 1)
        call.cancel()
        await asyncio.wait({call})

    await wait_for(lambda: provider.answering == 0)
    await settled(product, "CANCELLED")


async def test_cancelling_ends_every_reader_with_the_reason(product: Product, provider: FakeProvider) -> None:
    await names(product, provider, "endless")

    async with product.socket() as ws:
        events = []
        async for event in completion(ws, chat(model=model("endless"))):
            events.append(event)
            if len(events) == 3:
                cancelled = await product.changed(
                    "mutation($input:CancelInvocationInput!){cancelInvocation(input:$input)"
                    "{invocation{status} errors{code}}}",
                    id=event["invocationId"],
                )

    check_sequence(events)
    assert events[-1]["error"]["code"] == "CANCELLED"
    assert cancelled["invocation"]["status"] == "CANCELLED"
    await asyncio.to_thread(provider.wait_until_quiet)


async def test_a_revoked_token_loses_its_running_stream(product: Product, provider: FakeProvider) -> None:
    await names(product, provider, "endless")
    made = await product.changed(
        "mutation($input:CreateApiTokenInput!){createApiToken(input:$input){secret apiToken{id} errors{code message}}}",
        name="to be revoked", role="MEMBER", workspaceId=(await product.data("{workspace{id}}"))["workspace"]["id"],
    )  # fmt: skip

    async with product.socket(token=made["secret"]) as ws:
        source = completion(ws, chat(model=model("endless")))
        events = [await anext(source) for _ in range(3)]
        await product.changed(
            "mutation($input:RevokeApiTokenInput!){revokeApiToken(input:$input){apiToken{revokedAt} errors{code}}}",
            id=made["apiToken"]["id"],
        )
        events += [event async for event in source]

    assert events[-1]["__typename"] in {"CompletionInterrupted", "CompletionFailed"}
    if events[-1]["__typename"] == "CompletionInterrupted":
        assert events[-1]["reason"] == "UNAUTHORIZED"
    await settled(product, "CANCELLED")
    refused = await product.ask("{viewer{isOperator}}", token=made["secret"])
    assert refused["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"


async def test_a_thousand_abandoned_streams_leave_nothing(product: Product, provider: FakeProvider) -> None:
    await names(product, provider, "endless")

    async def abandon(number: int) -> None:
        if number % 2:
            async with product.socket() as ws:
                async for _ in completion(ws, chat(model=model("endless"))):
                    break
                ws.transport.abort()
            return
        body = {"query": COMPLETION, "variables": {"input": chat(model=model("endless"))}}
        headers = {**product.headers(), "accept": "text/event-stream"}
        async with (
            httpx.AsyncClient(timeout=LIMIT_S, trust_env=False, verify=NO_TLS) as client,
            client.stream("POST", f"{product.url}/graphql", json=body, headers=headers) as answer,
        ):
            async for line in answer.aiter_lines():
                if "TextDelta" in line:
                    break

    for start in range(0, 1000, 50):
        await asyncio.gather(*(abandon(start + number) for number in range(50)))

    await wait_for(lambda: provider.answering == 0 and not product.app.running.all())
    counts = await product.data("{workspace{invocations(first:1){totalCount nodes{status}}}}")
    assert counts["workspace"]["invocations"]["totalCount"] == 1000
    assert counts["workspace"]["invocations"]["nodes"][0]["status"] == "CANCELLED"

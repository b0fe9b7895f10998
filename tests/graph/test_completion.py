"""A completion through the translation: by subscription and by mutation, with the built-in provider."""

from typing import Any

import pytest

from core.errors import NotFound
from graph import ids
from tests.graph.world import World, codes

ECHO = {"provider": "echo", "name": "echo"}
STREAM = """subscription ($input: CompletionInput!) { completion(input: $input) {
  __typename invocationId sequence
  ... on CompletionStarted { model { provider name type } providerType credentialName }
  ... on TextDelta { text }
  ... on ReasoningDelta { text }
  ... on ToolCallDelta { index id name arguments }
  ... on CompletionFinished { finishReason message { text reasoning toolCalls { name } } used: usage { inputTokens outputTokens totalTokens }
    cost { amount } invocation { id status model { name } duration attempts { error { code } } } }
  ... on CompletionFailed { error { code message path retryable retryAfter } spent: usage { outputTokens } invocation { status } }
  ... on CompletionInterrupted { reason resumeAfter }
} }"""
COMPLETE = """mutation ($input: CompletionInput!) { complete(input: $input) {
  message { text toolCalls { id name arguments } } finishReason invocation { status usage { totalTokens } tags endUser }
  errors { code message path } } }"""


def asked(text: str = "one two three", **more: Any) -> dict[str, Any]:
    return {"model": ECHO, "messages": [{"role": "USER", "text": text}], **more}


async def collect(world: World, principal: str, given: dict[str, Any]) -> list[Any]:
    found = [payload async for payload in world.events(principal, STREAM, input=given)]
    assert all("errors" not in payload for payload in found), found
    return [payload["data"]["completion"] for payload in found]


async def test_a_completion_is_streamed_from_its_start_to_its_record(world: World) -> None:
    events = await collect(world, "member", asked())

    kinds = [event["__typename"] for event in events]
    assert kinds == ["CompletionStarted", "TextDelta", "TextDelta", "TextDelta", "CompletionFinished"]
    assert [event["sequence"] for event in events] == [0, 1, 2, 3, 4]
    assert "".join(event["text"] for event in events[1:4]) == "one two three"
    first, last = events[0], events[-1]
    assert first["model"] == {"provider": "echo", "name": "echo", "type": "LLM"}
    assert (first["providerType"], first["credentialName"]) == ("CUSTOM", None)
    assert last["finishReason"] == "STOP"
    assert last["message"] == {"text": "one two three", "reasoning": None, "toolCalls": []}
    assert last["used"] == {"inputTokens": 3, "outputTokens": 3, "totalTokens": 6}
    assert last["invocation"]["status"] == "SUCCEEDED"
    assert last["invocation"]["attempts"] == [{"error": None}]
    assert {event["invocationId"] for event in events} == {last["invocation"]["id"]}


async def test_reasoning_and_tool_calls_are_streamed(world: World) -> None:
    tool = {"name": "look_up", "parameters": {"type": "object"}}

    reasoned = await collect(world, "member", asked(model={"provider": "echo", "name": "echo-reasoning"}))
    called = await collect(world, "member", asked(tools=[tool], toolChoice={"tool": "look_up"}))

    assert reasoned[1]["__typename"] == "ReasoningDelta"
    assert reasoned[-1]["message"]["reasoning"] == reasoned[1]["text"]
    deltas = [event for event in called if event["__typename"] == "ToolCallDelta"]
    assert (deltas[0]["index"], deltas[0]["name"]) == (0, "look_up")
    assert "".join(delta["arguments"] for delta in deltas) == "{}"
    assert called[-1]["finishReason"] == "TOOL_CALLS"
    assert called[-1]["message"]["toolCalls"] == [{"name": "look_up"}]


async def test_the_name_of_a_credential_is_streamed_to_those_who_may_read_it(world: World) -> None:
    await world.change(
        "owner",
        "mutation ($input: CreateCredentialInput!) { createCredential(input: $input) { errors { code } } }",
        provider="echo",
        name="the key",
        values=[{"field": "prefix", "value": "so"}],
    )

    shown = await collect(world, "owner", asked())
    hidden = await collect(world, "member", asked())

    assert shown[0]["credentialName"] == "the key"
    assert hidden[0]["credentialName"] is None
    assert hidden[-1]["message"]["text"] == "so one two three"


@pytest.mark.parametrize(
    ("given", "code", "path"),
    [
        ({"model": {"provider": "echo", "name": "nothing"}}, "MODEL_NOT_FOUND", ["model", "name"]),
        ({"model": {"provider": "nobody", "name": "echo"}}, "MODEL_NOT_FOUND", ["model", "provider"]),
        ({"model": None}, "MODEL_NOT_FOUND", []),
        ({"model": {"provider": "openai_compatible", "name": "x"}}, "MODEL_NOT_FOUND", ["model", "name"]),
        ({"messages": []}, "INVALID_INPUT", ["messages"]),
        ({"parameters": {"nope": 1}}, "INVALID_INPUT", ["parameters", "nope"]),
        ({"workspaceId": ids.encode("Workspace", "0" * 32)}, "NOT_FOUND", []),
        ({"workspaceId": "garbage"}, "NOT_FOUND", ["workspaceId"]),
        ({"credentialId": "garbage"}, "NOT_FOUND", ["credentialId"]),
    ],
)
async def test_a_refusal_is_one_event_without_an_invocation(
    world: World, given: dict[str, Any], code: str, path: list[str]
) -> None:
    (event,) = await collect(world, "member", asked(**given))
    payload = (await world.data("member", COMPLETE, input=asked(**given)))["complete"]

    assert event["__typename"] == "CompletionFailed"
    assert (event["sequence"], event["invocationId"], event["invocation"], event["spent"]) == (0, None, None, None)
    assert (event["error"]["code"], event["error"]["path"]) == (code, path)
    assert [(error["code"], error["path"]) for error in payload["errors"]] == [(code, path)]
    assert (payload["message"], payload["finishReason"], payload["invocation"]) == (None, None, None)
    recorded = await world.data("member", "{ workspace { invocations { totalCount } } }")
    assert recorded["workspace"]["invocations"]["totalCount"] == 0


async def test_a_foreign_workspace_is_as_unknown_as_one_that_never_was(world: World) -> None:
    foreign = await collect(world, "stranger", asked(workspaceId=ids.encode("Workspace", world.home.id)))
    unknown = await collect(world, "stranger", asked(workspaceId=ids.encode("Workspace", "0" * 32)))

    assert foreign == unknown
    assert foreign[0]["error"]["code"] == NotFound.code


async def test_nobody_without_a_token_begins_a_completion(world: World) -> None:
    from graph.documents import Refused
    from graph.masking import formatted

    with pytest.raises(Refused) as refused:
        await anext(world.events("anonymous", STREAM, input=asked()))

    assert [formatted(error)["extensions"]["code"] for error in refused.value.errors] == ["UNAUTHENTICATED"]


async def test_a_completion_that_is_not_streamed_answers_with_its_record(world: World) -> None:
    given = asked(tags=[{"name": "team", "value": "blue"}], endUser="somebody")

    payload = await world.change("member", COMPLETE, **given)

    assert payload["message"] == {"text": "one two three", "toolCalls": []}
    assert payload["finishReason"] == "STOP"
    assert payload["invocation"] == {
        "status": "SUCCEEDED",
        "usage": {"totalTokens": 6},
        "tags": {"team": "blue"},
        "endUser": "somebody",
    }


async def test_a_document_makes_at_most_one_call(world: World) -> None:
    query = """mutation ($input: CompletionInput!) {
      a: complete(input: $input) { finishReason } b: complete(input: $input) { finishReason } }"""

    answer = await world.ask("member", query, input=asked())

    assert [code for _, code in codes(answer)] == ["OPERATION_TOO_LARGE"]
    recorded = await world.data("member", "{ workspace { invocations { totalCount } } }")
    assert recorded["workspace"]["invocations"]["totalCount"] == 0


CANCEL = """mutation ($input: CancelInvocationInput!) { cancelInvocation(input: $input) {
  invocation { id status } errors { code path } } }"""


@pytest.mark.parametrize("principal", ["member", "admin"])
async def test_a_running_completion_is_cancelled_by_who_began_it_or_an_admin(world: World, principal: str) -> None:
    events = []

    async for payload in world.events("member", STREAM, input=asked(parameters={"delay_ms": 5000})):
        events.append(payload["data"]["completion"])
        if len(events) == 2:
            answer = await world.change(principal, CANCEL, id=events[0]["invocationId"])
            assert answer["invocation"]["status"] == "CANCELLED"

    assert events[-1]["__typename"] == "CompletionFailed"
    assert events[-1]["error"]["code"] == "CANCELLED"
    assert events[-1]["invocation"] == {"status": "CANCELLED"}


@pytest.mark.parametrize("principal", ["editor", "service", "stranger", "operator"])
async def test_nobody_else_cancels_a_completion(world: World, principal: str) -> None:
    made = await collect(world, "member", asked())

    error = await world.refused(principal, CANCEL, id=made[0]["invocationId"])

    assert error == {"code": "NOT_FOUND", "path": ["id"]}


COUNT = """query ($input: CompletionInput!) { countTokens(input: $input) {
  inputTokens upperBound errors { code path } } }"""


async def test_tokens_are_counted_without_a_call(world: World) -> None:
    text = "é" * 200_000

    small = (await world.data("member", COUNT, input=asked("one two three")))["countTokens"]
    large = (await world.data("member", COUNT, input=asked(text)))["countTokens"]
    calls = await world.data("owner", "{ workspace { invocations { totalCount } } }")

    assert small["errors"] == large["errors"] == []
    assert 3 <= small["inputTokens"] <= small["upperBound"]
    assert small["upperBound"] >= len("one two three")
    assert 100_000 <= large["inputTokens"] <= large["upperBound"]
    assert large["upperBound"] >= 400_000
    assert calls == {"workspace": {"invocations": {"totalCount": 0}}}


async def test_media_are_estimated_and_bounded_by_nothing(world: World) -> None:
    made = await world.change(
        "owner",
        "mutation ($input: AddModelInput!) { addModel(input: $input) { model { id } errors { message } } }",
        model={"provider": "openai_compatible", "name": "sees", "type": "LLM"},
        credential={
            "new": {
                "values": [
                    {"field": "base_url", "value": "http://127.0.0.1:9/v1"},
                    {"field": "supports_vision", "value": "true"},
                ]
            }
        },
        verify=False,
    )
    assert made["model"]
    content = [{"text": "what is it?"}, {"image": {"url": "https://example.com/a.png"}}]

    counted = await world.data(
        "member",
        COUNT,
        input={
            "model": {"provider": "openai_compatible", "name": "sees"},
            "messages": [{"role": "USER", "content": content}],
        },
    )

    assert counted["countTokens"]["errors"] == []
    assert counted["countTokens"]["upperBound"] is None
    assert counted["countTokens"]["inputTokens"] > 500


async def test_images_are_bounded_where_their_provider_says_by_what(world: World) -> None:
    made = await world.change(
        "owner",
        "mutation ($input: CreateCredentialInput!) { createCredential(input: $input) { errors { message } } }",
        provider="openai",
        values=[{"field": "api_key", "value": "sk-0123456789abcdef"}],
        verify=False,
    )
    content = [{"text": "what is it?"}, {"image": {"url": "https://example.com/a.png"}}]
    given = {"model": {"provider": "openai", "name": "gpt-4o"}, "messages": [{"role": "USER", "content": content}]}

    counted = (await world.data("member", COUNT, input=given))["countTokens"]

    assert (made["errors"], counted["errors"]) == ([], [])
    assert 1445 + 11 <= counted["upperBound"] <= 1445 + 11 + 200
    assert counted["inputTokens"] <= counted["upperBound"]


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"model": {"provider": "echo", "name": "gone"}}, "MODEL_NOT_FOUND"),
        ({"parameters": {"temperature": "hot"}}, "INVALID_INPUT"),
        ({"messages": []}, "INVALID_INPUT"),
    ],
)
async def test_what_a_call_would_be_refused_for_is_not_counted(world: World, given: dict[str, Any], code: str) -> None:
    counted = (await world.data("member", COUNT, input=asked(**given)))["countTokens"]

    assert (counted["inputTokens"], counted["upperBound"]) == (None, None)
    assert [error["code"] for error in counted["errors"]] == [code]


@pytest.mark.parametrize("url", ["http://169.254.169.254/a.png", "https://10.0.0.1/a.png", "http://localhost/a.png"])
async def test_media_on_a_private_address_are_refused_by_their_place(world: World, url: str) -> None:
    content = [{"text": "What is this?"}, {"image": {"url": url}}]

    (event,) = await collect(world, "member", asked(messages=[{"role": "USER", "content": content}]))

    assert event["error"]["code"] == "INVALID_INPUT"
    assert event["error"]["path"] == ["messages", "0", "content", "1", "image", "url"]
    assert event["invocationId"] is None


@pytest.mark.parametrize("url", ["https://example.com/a.png", "http://example.com:8080/a.png"])
async def test_media_that_anybody_may_see_are_passed_on(world: World, url: str) -> None:
    content = [{"text": "What is this?"}, {"image": {"url": url}}]

    events = await collect(world, "member", asked(messages=[{"role": "USER", "content": content}]))

    assert events[-1]["__typename"] == "CompletionFinished"

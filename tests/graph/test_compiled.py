"""A compiled selection says to the byte what graphql-core says, and knows what to leave to it."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from graphql import GraphQLInterfaceType
from graphql.execution import execute_subscription_event
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import graph.execution
import graph.llm
from core.app import App
from core.errors import ErrorCode, Problem
from core.ids import uuid7
from core.model_types import ModelType, Usage, llm
from graph.compiled import Compiled, compile_selection
from graph.completion_events import EVENT_STRUCTS
from graph.context import Context
from graph.execution import Engine
from graph.schema import schema
from tests import make

INPUT = {"messages": [{"role": "USER", "text": "hi"}]}
OWN_FIELDS: Mapping[str, Sequence[str]] = {
    "CompletionStarted": ["model { provider type }", "model { n: name __typename }", "providerType", "credentialName"],
    "CompletionRerouted": [
        "failed { model { name } credentialName startedAt duration error { code path } }",
        "model { provider ...Key }",
        "credentialName",
    ],
    "TextDelta": ["text"],
    "ReasoningDelta": ["text"],
    "ToolCallDelta": ["index", "id", "name", "arguments"],
    "CompletionFinished": [
        "finishReason",
        "message { text reasoning toolCalls { id name arguments } continuation }",
        "message { __typename toolCalls { n: name @skip(if: $no) id @include(if: $no) } }",
        "usage { inputTokens outputTokens totalTokens cachedInputTokens seconds requests estimated }",
        "cost { amount currency }",
    ],
    "CompletionFailed": ["error { code message retryable retryAfter path }", "usage { inputTokens seconds }"],
    "CompletionInterrupted": ["reason", "resumeAfter", "retryAfter"],
}
CONDITIONS = ["", "@skip(if: $yes)", "@skip(if: $no)", "@include(if: $yes)", "@include(if: $no) @skip(if: false)"]
FRAGMENTS = """
fragment Key on ModelKey { name type }
fragment Common on CompletionEvent { __typename sequence ...More }
fragment More on CompletionEvent { place: sequence ... on TextDelta { TextDelta_0: text } }
"""

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
maybe = st.none() | texts
counts = st.integers(0, 2**40)
invocation_ids = st.none() | st.just(str(uuid7()))
keys = st.builds(make.key, texts, texts, st.sampled_from(ModelType))
problems = st.builds(
    Problem,
    code=st.sampled_from(ErrorCode),
    message=texts,
    path=st.lists(texts, max_size=2).map(tuple),
    retryable=st.booleans(),
    retry_after=st.none() | st.floats(0, 100),
)
usages = st.builds(Usage, input_tokens=counts, output_tokens=counts, estimated=st.booleans(), seconds=st.floats(0, 9))
attempts = st.builds(
    llm.Attempt,
    model=keys,
    credential_name=maybe,
    started_at=st.floats(0, 2e9),
    duration=st.none() | st.floats(0, 100),
    error=st.none() | problems,
)
messages = st.builds(
    llm.AssistantMessage,
    text=texts,
    reasoning=maybe,
    tool_calls=st.lists(st.builds(llm.ToolCall, id=texts, name=texts, arguments=texts), max_size=2).map(tuple),
    continuation=maybe,
)
numbered = {"invocation_id": invocation_ids, "sequence": st.integers(-1, 2**31 - 1)}
events = st.one_of(
    st.builds(
        llm.CompletionStarted,
        **numbered,
        model=keys,
        provider_type=st.sampled_from(llm.ProviderType),
        credential_name=maybe,
    ),
    st.builds(llm.CompletionRerouted, **numbered, failed=attempts, model=keys, credential_name=maybe),
    st.builds(llm.TextDelta, **numbered, text=texts),
    st.builds(llm.ReasoningDelta, **numbered, text=texts),
    st.builds(llm.ToolCallDelta, **numbered, index=st.integers(0, 9), id=maybe, name=maybe, arguments=texts),
    st.builds(
        llm.CompletionFinished,
        **numbered,
        finish_reason=st.sampled_from(llm.FinishReason),
        message=messages,
        usage=usages,
        cost=st.none() | st.builds(llm.Cost, amount=st.sampled_from(["0", "1.50", "1E-7"]), currency=st.just("EUR")),
    ),
    st.builds(llm.CompletionFailed, **numbered, error=problems, usage=st.none() | usages),
    st.builds(
        llm.CompletionInterrupted,
        **numbered,
        reason=st.sampled_from(llm.InterruptReason),
        resume_after=st.none() | st.integers(0, 9),
        retry_after=st.none() | st.floats(0, 9),
    ),
)


def _own(kind: str) -> st.SearchStrategy[str]:
    """Return selections of one field of a type, under a key that is the field's alone, so that they merge."""
    numbers = st.integers(0, len(OWN_FIELDS[kind]) - 1)

    def written(number: int, condition: str) -> str:
        name, _, rest = OWN_FIELDS[kind][number].partition(" ")
        key = f"{kind}_{name}" if number or kind != "TextDelta" else f"{kind}_0"
        return f"{key}: {name} {condition} {rest}"

    return st.builds(written, numbers, st.sampled_from(CONDITIONS))


common = st.sampled_from(["__typename", "kind: __typename", "sequence", "invocationId", "i: invocationId", "...Common"])


def _fragment(kind: str) -> st.SearchStrategy[str]:
    inner = st.lists(common | _own(kind), min_size=1, max_size=4)
    return st.builds(
        lambda parts, condition: f"... on {kind} {condition} {{ {' '.join(parts)} }}",
        inner,
        st.sampled_from(CONDITIONS),
    )


selections = st.lists(
    st.builds(lambda part, condition: f"{part} {condition}", common, st.sampled_from(CONDITIONS))
    | st.sampled_from(sorted(OWN_FIELDS)).flatmap(_fragment)
    | st.lists(common, min_size=1, max_size=2).map(lambda parts: f"... on CompletionEvent {{ {' '.join(parts)} }}"),
    min_size=1,
    max_size=6,
).map(" ".join)


def document(selection: str, key: str = "completion") -> str:
    """Return a subscription that selects this on the events."""
    use = "yes: __typename @include(if: $yes) no: __typename @include(if: $no) ... on CompletionRerouted { model { ...Key } } ...Common"
    field = "completion" if key == "completion" else f"{key}: completion"
    return (
        "subscription ($input: CompletionInput!, $yes: Boolean! = true, $no: Boolean!) "
        f"{{ {field}(input: $input) {{ {selection} {use} }} }} {FRAGMENTS}"
    )


@dataclass(slots=True)
class Fed:
    """An engine whose completions are given by the test."""

    batches: list[list[Any]] = field(default_factory=list)
    compiled: bool = True
    executed: int = 0
    closed: int = 0
    engine: Engine = field(default_factory=lambda: Engine(schema))

    async def source(self, context: Context, given: object, tap: object) -> AsyncGenerator[Sequence[Any], None]:
        try:
            for batch in self.batches:
                yield batch
        finally:
            self.closed += 1

    async def payloads(self, query: str, **variables: Any) -> list[bytes]:
        """Return the payloads of all events."""
        app = cast("App", SimpleNamespace())
        context = Context(app, make.viewer())
        prepared = self.engine.prepare(query, None, context)
        given = {"input": INPUT, **variables}
        stream = await self.engine.subscribe(prepared, given, context)
        async with aclosing(stream):
            return [payload async for batch in stream for payload in batch]


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> Fed:
    """Return the engine, counting the events that graphql-core executes."""
    found = Fed()
    run = execute_subscription_event

    def counted(executor: Any) -> Any:
        found.executed += 1
        return run(executor)

    def compiled(*arguments: Any) -> Compiled:
        return compile_selection(*arguments) if found.compiled else Compiled({})

    monkeypatch.setattr(graph.llm, "event_source", found.source)
    monkeypatch.setattr(graph.execution, "execute_subscription_event", counted)
    monkeypatch.setattr(graph.execution, "compile_selection", compiled)
    return found


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    selection=selections,
    given_events=st.lists(events, min_size=1, max_size=5),
    key=st.sampled_from(["completion", "c"]),
)
def test_both_ways_give_the_same_bytes(fed: Fed, selection: str, given_events: list[Any], key: str) -> None:
    query = document(selection, key)
    fed.batches, fed.executed = [given_events], 0

    async def both() -> tuple[list[bytes], list[bytes]]:
        fed.compiled = True
        fast = await fed.payloads(query, no=False)
        assert fed.executed == 0, "an event went through graphql-core"
        fed.compiled = False
        slow = await fed.payloads(query, no=False)
        assert fed.executed == len(given_events)
        return fast, slow

    fast, slow = asyncio.run(both())
    assert fast == slow
    assert all(set(json.loads(payload)) == {"data"} for payload in fast)


async def test_conditions_by_variables_are_compiled_apart(fed: Fed) -> None:
    query = document("... on TextDelta { text @include(if: $no) }")
    fed.batches = [[llm.TextDelta(invocation_id=None, sequence=1, text="a")]]

    (without,), (with_text,) = [await fed.payloads(query, no=no) for no in (False, True)]

    assert "text" not in json.loads(without)["data"]["completion"]
    assert json.loads(with_text)["data"]["completion"]["text"] == "a"
    assert fed.executed == 0


async def test_the_ways_that_are_kept_of_one_document_are_bounded(fed: Fed) -> None:
    names = [f"v{number}" for number in range(6)]
    fields = " ".join(f"{name}: sequence @include(if: ${name})" for name in names)
    declared = ", ".join(f"${name}: Boolean!" for name in names)
    query = f"subscription ($input: CompletionInput!, {declared}) {{ completion(input: $input) {{ {fields} }} }}"
    fed.batches = [[llm.TextDelta(invocation_id=None, sequence=7, text="a")]]

    for mask in range(64):
        chosen = {name: bool(mask >> number & 1) for number, name in enumerate(names)}
        (payload,) = await fed.payloads(query, **chosen)
        assert json.loads(payload)["data"]["completion"] == {name: 7 for name in names if chosen[name]}

    prepared = fed.engine.prepare(query, None, Context(cast("App", SimpleNamespace()), make.viewer()))
    assert len(prepared.checked.compiled) == 16


async def test_a_type_with_a_resolved_field_goes_through_graphql_core_and_others_do_not(fed: Fed) -> None:
    query = document("... on CompletionFailed { invocation { id } }")
    problem = Problem(code=ErrorCode.CANCELLED, message="over")
    fed.batches = [
        [
            llm.TextDelta(invocation_id=None, sequence=0, text="a"),
            llm.CompletionFailed(invocation_id=None, sequence=1, error=problem),
        ]
    ]

    payloads = [json.loads(payload) for payload in await fed.payloads(query, no=False)]

    assert [payload["data"]["completion"]["sequence"] for payload in payloads] == [0, 1]
    assert payloads[1]["data"]["completion"]["invocation"] is None
    assert fed.executed == 1


async def test_a_value_that_breaks_its_type_is_the_same_error_both_ways(fed: Fed) -> None:
    query = document("... on CompletionFinished { usage { seconds } }")
    finished = llm.CompletionFinished(
        invocation_id=None,
        sequence=0,
        finish_reason=llm.FinishReason.STOP,
        message=llm.AssistantMessage(),
        usage=Usage(seconds=float("nan")),
    )
    fed.batches = [[finished, llm.TextDelta(invocation_id=None, sequence=1, text="on")]]

    fast = await fed.payloads(query, no=False)
    fed.compiled = False
    slow = await fed.payloads(query, no=False)

    assert fast == slow
    assert json.loads(fast[0])["errors"][0]["path"] == ["completion", "usage", "seconds"]
    assert json.loads(fast[1])["data"]["completion"]["sequence"] == 1


async def test_leaving_in_the_middle_closes_the_source(fed: Fed) -> None:
    delta = llm.TextDelta(invocation_id=None, sequence=0, text="a")
    fed.batches = [[delta], [delta], [delta]]
    context = Context(cast("App", SimpleNamespace()), make.viewer())
    for compiled in (True, False):
        fed.compiled, fed.closed = compiled, 0
        prepared = fed.engine.prepare(document("sequence"), None, context)
        stream = await fed.engine.subscribe(prepared, {"input": INPUT, "no": False}, context)
        await anext(stream)
        await stream.aclose()
        assert fed.closed == 1


async def test_a_source_that_breaks_is_a_masked_last_payload(fed: Fed, caplog: pytest.LogCaptureFixture) -> None:
    async def breaks(context: Context, given: object, tap: object) -> AsyncGenerator[Sequence[Any], None]:
        yield [llm.TextDelta(invocation_id=None, sequence=0, text="a")]
        raise ValueError("postgresql://user:canary@host")

    fed_source = graph.llm.event_source
    graph.llm.event_source = breaks
    try:
        first, last = await fed.payloads(document("sequence"), no=False)
    finally:
        graph.llm.event_source = fed_source

    assert json.loads(first)["data"]["completion"]["sequence"] == 0
    (error,) = json.loads(last)["errors"]
    assert error["extensions"]["code"] == "INTERNAL"
    assert b"canary" not in last
    assert error["extensions"]["errorId"] in caplog.text


def test_every_type_of_event_has_its_struct_and_is_tried() -> None:
    interface = schema._schema.type_map["CompletionEvent"]
    assert isinstance(interface, GraphQLInterfaceType)
    implementations = {one.name for one in schema._schema.get_implementations(interface).objects}
    assert set(EVENT_STRUCTS) == set(OWN_FIELDS) == implementations

"""Bodies of chat completion servers, as they are and as they should not be, to pieces."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import (
    ModelyardError,
    UpstreamModelNotFound,
    UpstreamOverloaded,
    UpstreamProtocol,
    UpstreamUnavailable,
)
from core.model_types import Usage
from core.model_types.llm import (
    ContinuationPiece,
    FinishPiece,
    FinishReason,
    Message,
    Piece,
    ReasoningPiece,
    Role,
    Text,
    TextPiece,
    ToolCallPiece,
    UsagePiece,
)
from core.wire.dialects.openai_chat.answer import StreamDecoder, decode_answer
from core.wire.dialects.openai_chat.thoughts import thoughts_of
from tests.wire.recordings import outcome_of

BODIES = Path(__file__).parents[2] / "wire" / "openai_chat"
DONE = b"data: [DONE]\n\n"
STOP = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def delta(finish: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def call(
    *, index: int | None = None, id_: str | None = None, name: str | None = None, arguments: Any = None
) -> dict[str, Any]:
    fragment: dict[str, Any] = {"function": {"name": name, "arguments": arguments}}
    return {**fragment, **({} if index is None else {"index": index}), **({} if id_ is None else {"id": id_})}


def decode(
    body: bytes, *, done_required: bool = False, piece_bytes: int = 10**9
) -> tuple[list[Piece], ModelyardError | None]:
    ids = iter(range(100))
    decoder = StreamDecoder(done_required=done_required, new_id=lambda: f"made-{next(ids)}")
    pieces: list[Piece] = []
    for start in range(0, len(body), piece_bytes):
        pieces += decoder.feed(body[start : start + piece_bytes])
        if decoder.complete or decoder.failure:
            return pieces, decoder.failure
    pieces += decoder.end()
    return pieces, decoder.failure


def well(body: bytes) -> list[Piece]:
    pieces, failure = decode(body)
    assert failure is None
    return pieces


def test_text_of_one_read_is_one_piece() -> None:
    body = sse(delta(role="assistant", content=""), delta(content="Hel"), delta(content="lo"), delta("stop")) + DONE

    assert well(body) == [TextPiece("Hello"), FinishPiece(FinishReason.STOP)]


def test_text_of_several_reads_comes_as_it_comes() -> None:
    decoder = StreamDecoder()

    assert decoder.feed(sse(delta(content="Hel"))) == [TextPiece("Hel")]
    assert decoder.feed(b"data: {") == []
    assert not decoder.complete
    assert decoder.feed(sse(delta("stop", content="lo"))[7:] + DONE) == [
        TextPiece("lo"),
        FinishPiece(FinishReason.STOP),
    ]
    assert decoder.complete


def test_text_reasoning_and_tool_calls_keep_their_order_within_a_read() -> None:
    body = sse(
        delta(reasoning_content="hm"),
        delta(reasoning_content="m"),
        delta(content="a"),
        delta(reasoning="so"),
        delta(content="b"),
        delta(tool_calls=[call(index=0, id_="c", name="f", arguments="")]),
        delta(tool_calls=[call(index=0, arguments="{}")]),
        delta(content="c"),
        delta("tool_calls"),
    )

    assert well(body + DONE) == [
        ReasoningPiece("hmm"),
        TextPiece("a"),
        ReasoningPiece("so"),
        TextPiece("b"),
        ToolCallPiece(0, "c", "f", "{}"),
        TextPiece("c"),
        FinishPiece(FinishReason.TOOL_CALLS),
    ]


def test_reasoning_and_text_of_one_delta_come_in_this_order() -> None:
    body = sse(delta("stop", reasoning="r", content="t")) + DONE

    assert well(body)[:2] == [ReasoningPiece("r"), TextPiece("t")]


def test_blocks_of_reasoning_are_put_together_to_go_back_as_they_were() -> None:
    def block(number: int, **fields: Any) -> dict[str, Any]:
        return {"type": "reasoning.text", "index": number, "format": "f", **fields}

    sealed = {"type": "reasoning.encrypted", "data": "opaque", "index": 1, "id": None}
    decoder = StreamDecoder(provider="openrouter")
    body = sse(
        delta(reasoning="Hm", reasoning_details=[block(0, text="Hm")]),
        delta(reasoning=", so", reasoning_details=[block(0, text=", so", signature=None)]),
        delta(content="", reasoning_details=[block(0, text="", signature="signed")]),
        delta(content="", reasoning_details=[sealed]),
        delta(content="", reasoning_details=[sealed, "nonsense"]),
        delta(content="", reasoning_details="nonsense"),
        delta(content="Yes."),
        delta("stop"),
    )

    pieces = decoder.feed(body + DONE)

    (continuation,) = (piece.continuation for piece in pieces if isinstance(piece, ContinuationPiece))
    said = Message(role=Role.ASSISTANT, content=(Text("Yes."),), continuation=continuation)
    whole = block(0, text="Hm, so", signature="signed")
    assert thoughts_of(said, "openrouter", 0) == {"reasoning": "Hm, so", "reasoning_details": [whole, sealed, sealed]}
    assert thoughts_of(said, "another", 0) == {}
    assert outcome_of(pieces).text == "Yes."


def test_thinking_parts_are_reasoning() -> None:
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "yes"}]

    assert well(sse(delta(content=parts), STOP) + DONE)[:2] == [ReasoningPiece("hm"), TextPiece("yes")]


def test_a_refusal_is_text() -> None:
    assert well(sse(delta(refusal="I will not."), STOP) + DONE)[0] == TextPiece("I will not.")


def test_other_choices_do_not_count() -> None:
    other = {"choices": [{"index": 1, "delta": {"content": "no"}, "finish_reason": "length"}]}

    assert well(sse(other, delta(content="yes"), other, STOP) + DONE) == [
        TextPiece("yes"),
        FinishPiece(FinishReason.STOP),
    ]


# ---- tool calls


@pytest.mark.parametrize(
    ("fragments", "calls"),
    [
        (  # as OpenAI sends them
            [call(index=0, id_="a", name="f", arguments=""), call(index=0, arguments='{"x":'), call(index=0, arguments="1}"), call(index=1, id_="b", name="g", arguments="{}")],
            [("a", "f", '{"x":1}'), ("b", "g", "{}")],
        ),
        (  # whole calls, without an index
            [call(id_="a", name="f", arguments='{"x":1}'), call(id_="b", name="g", arguments="{}")],
            [("a", "f", '{"x":1}'), ("b", "g", "{}")],
        ),
        (  # without an index or an id
            [call(name="f", arguments='{"x":'), call(arguments="1}"), call(name="g", arguments="{}")],
            [("made-0", "f", '{"x":1}'), ("made-1", "g", "{}")],
        ),
        (  # without an id
            [call(index=0, name="f", arguments="{}"), call(index=1, name="f", arguments="{}")],
            [("made-0", "f", "{}"), ("made-1", "f", "{}")],
        ),
        (  # all numbered 0
            [call(index=0, id_="a", name="f", arguments="{}"), call(index=0, id_="b", name="g", arguments="{}")],
            [("a", "f", "{}"), ("b", "g", "{}")],
        ),
        (  # id and name repeated with each fragment
            [call(index=0, id_="a", name="f", arguments='{"x":'), call(index=0, id_="a", name="f", arguments="1}")],
            [("a", "f", '{"x":1}')],
        ),
        (  # indexes that do not begin at 0, and interleave
            [call(index=5, id_="a", name="f", arguments="{"), call(index=2, id_="b", name="g", arguments="["), call(index=5, arguments="}"), call(index=2, arguments="]")],
            [("a", "f", "{}"), ("b", "g", "[]")],
        ),
        (  # arguments as an object
            [call(index=0, id_="a", name="f", arguments={"x": 1})],
            [("a", "f", '{"x":1}')],
        ),
        (  # the name last
            [call(index=0, arguments="{"), call(index=0, id_="a", name="f", arguments="}")],
            [("a", "f", "{}")],
        ),
        (  # a call that never gets a name is none
            [call(index=0, id_="a", name="f", arguments="{}"), call(index=1, id_="b", arguments="{}")],
            [("a", "f", "{}")],
        ),
        (  # empty ids and names on later fragments
            [call(index=0, id_="a", name="f", arguments="{"), call(index=0, id_="", name="", arguments="}")],
            [("a", "f", "{}")],
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("together", [True, False])
def test_tool_calls_are_put_together_whatever_a_server_leaves_out(
    fragments: list[dict[str, Any]], calls: list[tuple[str, str, str]], *, together: bool
) -> None:
    events = [delta(tool_calls=fragments)] if together else [delta(tool_calls=[fragment]) for fragment in fragments]

    outcome = outcome_of(well(sse(*events, STOP) + DONE))

    assert [(made["id"], made["name"], made["arguments"]) for made in outcome.tool_calls] == calls
    assert outcome.finish_reason is FinishReason.TOOL_CALLS


def test_ids_that_are_made_up_differ() -> None:
    body = sse(delta(tool_calls=[call(name="f"), call(name="g")]), STOP) + DONE

    decoder = StreamDecoder()
    ids = {piece.id for piece in decoder.feed(body) if isinstance(piece, ToolCallPiece)}

    assert len(ids) == 2


# ---- the end


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ("stop", FinishReason.STOP),
        ("length", FinishReason.LENGTH),
        ("tool_calls", FinishReason.TOOL_CALLS),
        ("function_call", FinishReason.TOOL_CALLS),
        ("content_filter", FinishReason.CONTENT_FILTER),
        ("STOP", FinishReason.STOP),
        ("insufficient_system_resource", FinishReason.OTHER),
    ],
)
def test_a_finish_reason_gets_our_name(sent: str, reason: FinishReason) -> None:
    assert well(sse(delta(content="x"), delta(sent)) + DONE)[-1] == FinishPiece(reason)


def test_a_reason_that_is_repeated_comes_once() -> None:
    assert well(sse(delta(content="x"), delta("length"), delta("stop")) + DONE) == [
        TextPiece("x"),
        FinishPiece(FinishReason.LENGTH),
    ]


@pytest.mark.parametrize("unfinished", ["", None])
def test_a_stream_with_its_marker_and_no_reason_ends_with_another_reason(unfinished: str | None) -> None:
    assert well(sse(delta(unfinished, content="x")) + DONE)[-1] == FinishPiece(FinishReason.OTHER)


def test_a_reason_without_the_marker_is_an_end_where_the_marker_is_not_required() -> None:
    body = sse(delta(content="x"), STOP)

    assert decode(body) == ([TextPiece("x"), FinishPiece(FinishReason.STOP)], None)
    pieces, failure = decode(body, done_required=True)
    assert len(pieces) == 2
    assert isinstance(failure, UpstreamProtocol)


@pytest.mark.parametrize(
    "end", [b"data: [DONE]", b"data: [DONE]\n", b"data:[DONE]\n\n", b"data: [DONE]\r\n\r\n", b"data: [DONE] \n\n"]
)
def test_the_marker_is_known_in_every_form(end: bytes) -> None:
    assert decode(sse(delta(content="x"), STOP) + end, done_required=True)[1] is None


@pytest.mark.parametrize(
    "body", [b"", b"data: {}\n\n", sse(delta(content="x")), sse(delta(content="x")) + b'data: {"choices": [{"de']
)
def test_an_end_without_marker_and_reason_is_a_truncated_stream(body: bytes) -> None:
    _, failure = decode(body)

    assert isinstance(failure, UpstreamProtocol)
    assert "before it was complete" in failure.message


def test_a_marker_without_any_answer_is_a_failure() -> None:
    assert isinstance(decode(DONE)[1], UpstreamProtocol)


def test_nothing_after_the_marker_counts() -> None:
    assert well(sse(delta(content="x"), STOP) + DONE + sse(delta(content="y"))) == [
        TextPiece("x"),
        FinishPiece(FinishReason.STOP),
    ]


# ---- usage

USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 5,
    "total_tokens": 15,
    "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 3},
}
COUNTED = Usage(
    input_tokens=10, output_tokens=5, cached_input_tokens=4, cache_write_tokens=2, reasoning_tokens=3, requests=1
)


@pytest.mark.parametrize(
    "events",
    [
        [delta(content="x"), STOP, {"choices": [], "usage": USAGE}],
        [delta(content="x"), {**STOP, "usage": USAGE}],
        [{**delta(content="x"), "usage": {"prompt_tokens": 10, "completion_tokens": 1}}, {**STOP, "usage": USAGE}],
        [delta(content="x"), STOP, {"usage": USAGE}],
        [delta(content="x"), {**STOP, "x_groq": {"usage": USAGE}}],
    ],
)
def test_usage_is_read_wherever_it_stands_and_the_last_counts(events: list[dict[str, Any]]) -> None:
    assert outcome_of(well(sse(*events) + DONE)).usage == COUNTED


@pytest.mark.parametrize(
    ("sent", "counted"),
    [
        ({"prompt_tokens": 7}, Usage(input_tokens=7)),
        ({"prompt_tokens": 7, "total_tokens": 9}, Usage(input_tokens=7, output_tokens=2)),
        ({"prompt_tokens": 7.0, "completion_tokens": 2.0}, Usage(input_tokens=7, output_tokens=2)),
        ({"prompt_tokens": 7, "completion_tokens": 1, "prompt_cache_hit_tokens": 3}, Usage(input_tokens=7, output_tokens=1, cached_input_tokens=3)),
        ({"prompt_tokens": 7, "completion_tokens": 1, "num_cached_tokens": 3}, Usage(input_tokens=7, output_tokens=1, cached_input_tokens=3)),
        ({"prompt_tokens": -1, "completion_tokens": 1, "prompt_tokens_details": None}, Usage(output_tokens=1)),
        ({}, None),
        (None, None),
    ],
)  # fmt: skip
def test_usage_is_read_in_the_forms_of_compatible_servers(sent: Any, counted: Usage | None) -> None:
    body = sse(delta(content="x"), {**STOP, "usage": sent}) + DONE

    assert outcome_of(well(body)).usage == counted


# ---- failures in the middle


@pytest.mark.parametrize(
    ("event", "failure", "words"),
    [
        (b'data: {"error": {"message": "No room.", "type": "overloaded_error"}}\n\n', UpstreamOverloaded, "No room."),
        (b'event: error\ndata: {"error": "No room."}\n\n', UpstreamUnavailable, "No room."),
        (b'data: {"object": "error", "message": "No room.", "code": 503}\n\n', UpstreamOverloaded, "No room."),
        (b'data: {"detail": "No room."}\n\n', UpstreamUnavailable, "No room."),
        (b'data: {"choices": [{"delta": {"content": \n\n', UpstreamProtocol, "cannot be read"),
        (b"data: hello\n\n", UpstreamProtocol, "cannot be read"),
        (b'data: {"choices": 5}\n\n', UpstreamProtocol, "cannot be read"),
        (b"data: \xff\xfe\n\n", UpstreamProtocol, "cannot be read"),
        (b'data: {"error": ' + b"[" * 100_000 + b"\n\n", UpstreamProtocol, "cannot be read"),
        (b"data: " + b"x" * (10 * 1024 * 1024), UpstreamProtocol, "more than 4096 KiB"),
    ],
)
def test_what_came_before_a_failure_is_kept(event: bytes, failure: type[ModelyardError], words: str) -> None:
    pieces, error = decode(sse(delta(content="so far")) + event, piece_bytes=65536)

    assert pieces == [TextPiece("so far")]
    assert type(error) is failure
    assert words in str(error)


def test_usage_that_stands_with_an_error_is_kept() -> None:
    event = {"choices": [], "usage": USAGE, "error": {"message": "m", "code": 400}}

    pieces, error = decode(sse(delta(content="x"), event))

    assert pieces == [TextPiece("x"), UsagePiece(COUNTED)]
    assert error is not None


@pytest.mark.parametrize(
    "event",
    [b": keep-alive\n\n", b"data: {}\n\n", b'data: {"id": "x"}\n\n', b'data: {"choices": []}\n\n', b"event: ping\ndata: {}\n\n", b'data: {"choices": [], "prompt_filter_results": []}\n\n', b"data: \n\n", b'data: {"choices": [{}], "error": null}\n\n'],
)  # fmt: skip
def test_what_says_nothing_is_passed_over(event: bytes) -> None:
    assert well(event + sse(delta(content="x")) + event + sse(STOP) + event + DONE) == [
        TextPiece("x"),
        FinishPiece(FinishReason.STOP),
    ]


def test_an_error_in_the_middle_does_not_repeat_a_secret() -> None:
    secret = "local-secret-4711"
    event = {"error": {"message": f"the key {secret} has expired", "code": 401}}
    decoder = StreamDecoder(secrets=[secret])

    decoder.feed(sse(event))

    assert secret not in str(decoder.failure)
    with pytest.raises(ModelyardError) as failed:
        decode_answer(json.dumps(event).encode(), secrets=[secret])
    assert secret not in str(failed.value)


# ---- own bodies, however they are cut


@pytest.mark.parametrize("name", sorted(path.name for path in BODIES.glob("*.sse")))
def test_a_body_decodes_to_what_stands_beside_it(name: str) -> None:
    body = (BODIES / name).read_bytes()
    expected = json.loads((BODIES / name).with_suffix(".json").read_text())

    for piece_bytes in (1, 7, 1000):
        outcome = outcome_of(decode(body, piece_bytes=piece_bytes)[0])
        assert outcome.text == expected["text"]
        assert outcome.reasoning == expected["reasoning"]
        assert [(made["name"], json.loads(made["arguments"])) for made in outcome.tool_calls] == [
            (made["name"], made["arguments"]) for made in expected["tool_calls"]
        ]
        assert outcome.finish_reason == expected["finish_reason"]
        assert (outcome.usage.output_tokens if outcome.usage else None) == expected["output_tokens"]


WRITTEN = st.lists(
    st.sampled_from(
        [
            delta(content="é😊"),
            delta(content="\r\n\n"),
            delta(reasoning="r"),
            delta(tool_calls=[call(index=0, id_="a", name="f", arguments="[1")]),
            delta(tool_calls=[call(index=0, arguments="]")]),
            {"choices": [], "usage": USAGE},
        ]
    ),
    max_size=8,
)


@settings(max_examples=150)
@given(WRITTEN, st.sampled_from([b"\n", b"\r\n", b"\r"]), st.data())
def test_any_cutting_gives_the_same_answer(events: list[dict[str, Any]], end: bytes, data: st.DataObject) -> None:
    body = (sse(*events, STOP) + DONE).replace(b"\n", end)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=10)))
    ids = iter(range(100))
    decoder = StreamDecoder(new_id=lambda: f"made-{next(ids)}")

    pieces: list[Piece] = []
    for start, stop in zip([0, *cuts], [*cuts, len(body)], strict=True):
        pieces += decoder.feed(body[start:stop])

    assert decoder.complete
    assert decoder.failure is None
    assert outcome_of(pieces) == outcome_of(decode(body)[0])


@settings(max_examples=150)
@given(st.binary(max_size=200), st.integers(1, 50))
def test_any_bytes_end_in_pieces_or_a_failure(noise: bytes, piece_bytes: int) -> None:
    pieces, failure = decode(sse(delta(content="x")) + noise, piece_bytes=piece_bytes)

    assert pieces[0] == TextPiece("x")
    assert failure is not None


# ---- whole answers


def whole(**message: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": USAGE}


def unary(value: Any) -> Sequence[Piece]:
    return decode_answer(json.dumps(value).encode(), new_id=lambda: "made")


def test_a_whole_answer_gives_the_same_pieces_as_a_stream() -> None:
    assert unary(whole(content="t", reasoning_content="r", tool_calls=[call(id_="a", name="f", arguments="{}")])) == [
        ReasoningPiece("r"),
        TextPiece("t"),
        ToolCallPiece(0, "a", "f", "{}"),
        FinishPiece(FinishReason.TOOL_CALLS),
        UsagePiece(COUNTED),
    ]


def test_a_whole_answer_without_a_reason_gets_one() -> None:
    assert unary({"choices": [{"message": {"content": "t"}}]}) == [TextPiece("t"), FinishPiece(FinishReason.OTHER)]


@pytest.mark.parametrize(
    ("value", "failure"),
    [
        ({"error": {"message": "m", "code": "model_not_found"}}, UpstreamModelNotFound),
        ({"detail": "m"}, UpstreamUnavailable),
        ({"choices": []}, UpstreamProtocol),
        ({}, UpstreamProtocol),
        ([], UpstreamProtocol),
        ("text", UpstreamProtocol),
        ({"choices": [{"message": 5}]}, UpstreamProtocol),
    ],
)
def test_a_success_that_is_no_answer_is_a_failure(value: Any, failure: type[ModelyardError]) -> None:
    with pytest.raises(failure):
        unary(value)

"""A journal gives back what was put in, from any number on, and says what the model wrote."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from core.journal import PIECE_BYTES, Journal
from core.model_types.llm import (
    CompletionEvent,
    CompletionStarted,
    ProviderType,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
)
from tests import make

TEXT = st.text(max_size=20)
KINDS = st.one_of(
    st.tuples(st.just(TextDelta), st.fixed_dictionaries({"text": TEXT})),
    st.tuples(st.just(ReasoningDelta), st.fixed_dictionaries({"text": TEXT})),
    st.tuples(
        st.just(ToolCallDelta),
        st.fixed_dictionaries(
            {"index": st.integers(0, 3), "id": st.none() | TEXT, "name": st.none() | TEXT, "arguments": TEXT}
        ),
    ),
)


def events_of(kinds: list[tuple[Any, dict[str, Any]]]) -> list[CompletionEvent]:
    first = CompletionStarted(
        invocation_id="i", sequence=0, model=make.key(), provider_type=ProviderType.CUSTOM, credential_name="main"
    )
    return [
        first,
        *(kind(invocation_id="i", sequence=number, **given) for number, (kind, given) in enumerate(kinds, 1)),
    ]


def all_from(journal: Journal, number: int) -> list[CompletionEvent]:
    found: list[CompletionEvent] = []
    while batch := journal.read(number + len(found), "i"):
        found += batch
    return found


@given(kinds=st.lists(KINDS, max_size=200), group=st.integers(1, 90), number=st.integers(0, 201))
def test_what_is_put_in_comes_out_from_any_number_on(
    kinds: list[tuple[Any, dict[str, Any]]], group: int, number: int
) -> None:
    events, journal = events_of(kinds), Journal()
    number = min(number, len(events))

    for start in range(0, len(events), group):
        journal.append(events[start : start + group])

    assert journal.count == len(events)
    assert all_from(journal, number) == events[number:]


@given(kinds=st.lists(KINDS, max_size=30), group=st.integers(1, 9))
def test_lines_make_the_same_journal_elsewhere(kinds: list[tuple[Any, dict[str, Any]]], group: int) -> None:
    events, journal, copy = events_of(kinds), Journal(), Journal()
    for start in range(0, len(events), group):
        journal.append(events[start : start + group])

    while lines := journal.piece(journal.offset(copy.count)):
        copy.extend(lines, lines.count(b"\n"))

    assert all_from(copy, 0) == events
    assert copy.written() == journal.written()


def test_what_was_written_is_the_whole_answer() -> None:
    journal = Journal()
    said: list[tuple[Any, dict[str, Any]]] = [
        (ReasoningDelta, {"text": "Hm. "}),
        (TextDelta, {"text": "It is\n"}),
        (ToolCallDelta, {"index": 1, "id": "b", "name": "late", "arguments": ""}),
        (ToolCallDelta, {"index": 0, "id": "a", "name": "look", "arguments": '{"x":'}),
        (ToolCallDelta, {"index": 0, "id": None, "name": None, "arguments": "1}"}),
        (TextDelta, {"text": "warm. ☀"}),
    ]

    journal.append(events_of(said))
    found = journal.written()

    assert (found.text, found.reasoning) == ("It is\nwarm. ☀", "Hm. ")
    assert [(call.id, call.name, call.arguments) for call in found.tool_calls] == [
        ("a", "look", '{"x":1}'),
        ("b", "late", ""),
    ]
    assert found.produced == 'It is\nwarm. ☀Hm. look{"x":1}late'


def test_a_delta_costs_little_more_than_its_text() -> None:
    journal, deltas = Journal(), [(TextDelta, {"text": "word"})] * 100_000

    journal.append(events_of(deltas))

    assert journal.size < 100_000 * len("word") * 2


def test_a_long_journal_is_read_in_pieces_and_a_longer_event_as_a_whole() -> None:
    journal = Journal()
    events = events_of([(TextDelta, {"text": "x" * PIECE_BYTES * 2}), *[(TextDelta, {"text": "y" * 1000})] * 200])
    journal.append(events)

    assert journal.read(1, "i") == [events[1]]
    assert len(journal.read(2, "i")) < 100
    assert all_from(journal, 0) == events

"""Pages of lists."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InvalidInput
from core.ports.paging import Slice
from graph.connections import Connection, list_page, long_row_page, page_of, row_page, rows_of

names = st.lists(st.text(max_size=5), unique=True, max_size=30)


def page(items: list[str], **given: int | str | None) -> Connection[str]:
    asked = page_of(*(given.get(name) for name in ("first", "after", "last", "before")))  # type: ignore[arg-type]
    return list_page(items, asked, lambda item: item.upper(), lambda item: (len(item), item))


@given(items=names, size=st.integers(1, 7))
def test_pages_from_the_beginning_meet_without_gap_or_repeat(items: list[str], size: int) -> None:
    found: list[str] = []
    part = page(items, first=size)
    found += part.nodes
    while part.page_info.has_next_page:
        assert len(part.nodes) == size
        part = page(items, first=size, after=part.page_info.end_cursor)
        assert part.page_info.has_previous_page
        found += part.nodes

    assert found == [item.upper() for item in sorted(items, key=lambda item: (len(item), item))]
    assert part.total_count == len(items)


@given(items=names, size=st.integers(1, 7))
def test_pages_from_the_end_meet_without_gap_or_repeat(items: list[str], size: int) -> None:
    part = page(items, last=size)
    found = list(part.nodes)
    while part.page_info.has_previous_page:
        part = page(items, last=size, before=part.page_info.start_cursor)
        assert part.page_info.has_next_page
        found = [*part.nodes, *found]

    assert found == [item.upper() for item in sorted(items, key=lambda item: (len(item), item))]


@given(items=names.filter(bool), data=st.data())
def test_a_cursor_keeps_its_place_when_its_item_is_gone(items: list[str], data: st.DataObject) -> None:
    gone = data.draw(st.sampled_from(items))
    edges = page(items, first=100).edges
    cursor = next(edge.cursor for edge in edges if edge.node == gone.upper())
    rest = [item for item in items if item != gone]

    after = page(rest, first=100, after=cursor)

    assert after.nodes == [edge.node for edge in edges[[edge.cursor for edge in edges].index(cursor) + 1 :]]


def test_an_empty_page_has_no_cursors() -> None:
    empty = page([])

    assert (empty.nodes, empty.edges, empty.total_count) == ([], [], 0)
    assert (empty.page_info.start_cursor, empty.page_info.end_cursor) == (None, None)
    assert not empty.page_info.has_next_page
    assert not empty.page_info.has_previous_page


def test_twenty_are_given_where_no_size_is_asked_for() -> None:
    assert len(page([str(number) for number in range(50)]).nodes) == 20


@pytest.mark.parametrize(
    ("given", "path"),
    [({"first": 0}, "first"), ({"first": 101}, "first"), ({"last": 0}, "last"), ({"first": 1, "last": 1}, "last"),
     ({"after": "???"}, "after"), ({"after": "x" * 2000}, "after"), ({"before": "e30"}, "before"),
     ({"after": "WyJhIl0"}, "after")],
)  # fmt: skip
def test_a_page_that_cannot_be_is_refused_by_its_argument(given: dict[str, int | str], path: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        page(["a", "b"], **given)

    assert refused.value.path == (path,)


def test_a_page_of_rows_carries_the_ids_of_its_rows() -> None:
    keys = [UUID(int=number) for number in (1, 2)]
    found = Slice(items=keys, has_next=True, has_previous=False, total=7)

    shown = row_page(found, str, lambda key: key)
    asked = rows_of(page_of(5, shown.page_info.end_cursor, None, None))

    assert shown.nodes == [str(key) for key in keys]
    assert (shown.total_count, shown.page_info.has_next_page) == (7, True)
    assert (asked.limit, asked.after, asked.before, asked.backwards) == (5, keys[1], None, False)


def test_a_list_that_is_too_long_to_count_says_so() -> None:
    uncounted: Slice[UUID] = Slice(items=[], has_next=False, has_previous=False, total=None)

    assert long_row_page(uncounted, str, lambda key: key).total_count is None
    assert row_page(uncounted, str, lambda key: key).total_count == 10_001

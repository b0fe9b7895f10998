"""Connections: pages of a list by opaque cursors, each of which names a place that does not move."""

import base64
import binascii
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

import msgspec

from core.errors import InvalidInput
from core.ports.paging import PageRequest, Slice
from graph.types import argument, attribute, named_type, object_type

T = TypeVar("T")
V = TypeVar("V")
Place = tuple[int | str, ...]
"""Where an item stands in a list that is ordered by it."""

DEFAULT_SIZE = 20
MAX_SIZE = 100
_MAX_CURSOR = 1024

First = Annotated[
    int | None, argument("How many of the beginning: 1 to 100; 20 when neither this nor `last` is given.")
]
After = Annotated[str | None, argument("Only what follows this cursor.")]
Last = Annotated[int | None, argument("How many of the end, 1 to 100; not together with `first`.")]
Before = Annotated[str | None, argument("Only what precedes this cursor.")]


@object_type
class PageInfo:
    """Where a page stands in its list."""

    has_next_page: bool = attribute("Whether more follows this page.")
    has_previous_page: bool = attribute("Whether something precedes this page.")
    start_cursor: str | None = attribute("The cursor of the first item; null on an empty page.")
    end_cursor: str | None = attribute("The cursor of the last item; null on an empty page.")


@object_type
class Edge(Generic[T]):
    """An item of a page with its place in the list."""

    cursor: str = attribute("The place of this item, for `after` and `before`.")
    node: T = attribute("The item.")


@object_type
class Connection(Generic[T]):
    """A page of a list."""

    edges: list[Edge[T]] = attribute("The items with their cursors.")
    nodes: list[T] = attribute("The items without their cursors.")
    page_info: PageInfo = attribute("Where this page stands in the list.")
    total_count: int = attribute(
        "How many items the whole list has, under the same filters; of a list of rows, 10001 stands for any number above 10,000."
    )


@named_type("Connection")
class LongConnection(Generic[T]):
    """A page of a list that may be very long."""

    edges: list[Edge[T]] = attribute("The items with their cursors.")
    nodes: list[T] = attribute("The items without their cursors.")
    page_info: PageInfo = attribute("Where this page stands in the list.")
    total_count: int | None = attribute(
        "How many items the whole list has, under the same filters; null above 10,000, where counting is too much."
    )


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a list that is asked for, checked: `size` items, of the end if `backwards`."""

    size: int
    after: str | None
    before: str | None
    backwards: bool


def page_of(first: int | None, after: str | None, last: int | None, before: str | None) -> Page:
    """Return the part that these arguments ask for.

    Raises:
        InvalidInput: a size out of 1 to 100, or both sizes.
    """
    if first is not None and last is not None:
        raise InvalidInput("Give `first` or `last`, not both.", path=("last",))
    for name, size in (("first", first), ("last", last)):
        if size is not None and not 1 <= size <= MAX_SIZE:
            raise InvalidInput(f"`{name}` is 1 to {MAX_SIZE}.", path=(name,))
    size = last if last is not None else first if first is not None else DEFAULT_SIZE
    return Page(size=size, after=after, before=before, backwards=last is not None)


def rows_of(page: Page) -> PageRequest:
    """Return the page as storage takes it, for a list in order of row ids."""
    return PageRequest(
        limit=page.size,
        after=_row(page.after, "after"),
        before=_row(page.before, "before"),
        backwards=page.backwards,
    )


def row_page(found: Slice[V], wrap: Callable[[V], T], id_of: Callable[[V], UUID]) -> Connection[T]:
    """Return what storage found as a connection; `total_count` says 10,001 where storage has not counted."""
    parts = _parts(
        ((wrap(item), (id_of(item).hex,)) for item in found.items),
        has_next=found.has_next,
        has_previous=found.has_previous,
    )
    return Connection(**parts, total_count=found.total if found.total is not None else _UNCOUNTED)


def long_row_page(found: Slice[V], wrap: Callable[[V], T], id_of: Callable[[V], UUID]) -> LongConnection[T]:
    """Return what storage found as a connection without a count where counting is too much."""
    page = row_page(found, wrap, id_of)
    return LongConnection(edges=page.edges, nodes=page.nodes, page_info=page.page_info, total_count=found.total)


def list_page(items: Sequence[V], page: Page, wrap: Callable[[V], T], place: Callable[[V], Place]) -> Connection[T]:
    """Return a page of a list that is at hand, in order of its items' places."""
    placed = sorted(((place(item), item) for item in items), key=lambda pair: pair[0])
    after, before = _place(page.after, "after"), _place(page.before, "before")
    try:
        start = sum(where <= after for where, _ in placed) if after is not None else 0
        stop = sum(where < before for where, _ in placed) if before is not None else len(placed)
    except TypeError:
        raise _bad_cursor("after" if after is not None else "before") from None
    stop = max(start, stop)
    if page.backwards:
        start = max(start, stop - page.size)
    else:
        stop = min(stop, start + page.size)
    parts = _parts(
        ((wrap(item), where) for where, item in placed[start:stop]), has_next=stop < len(placed), has_previous=start > 0
    )
    return Connection(**parts, total_count=len(placed))


_UNCOUNTED = 10_001
"""What a count says that has been given up."""


def _parts(items: Iterable[tuple[T, Place]], *, has_next: bool, has_previous: bool) -> dict[str, Any]:
    edges = [Edge(cursor=_cursor(place), node=node) for node, place in items]
    return {
        "edges": edges,
        "nodes": [edge.node for edge in edges],
        "page_info": PageInfo(
            has_next_page=has_next,
            has_previous_page=has_previous,
            start_cursor=edges[0].cursor if edges else None,
            end_cursor=edges[-1].cursor if edges else None,
        ),
    }


def _cursor(place: Place) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def _place(cursor: str | None, argument_name: str) -> Place | None:
    if cursor is None:
        return None
    if len(cursor) > _MAX_CURSOR:
        raise _bad_cursor(argument_name)
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(text, type=Place)
    except (binascii.Error, ValueError, msgspec.DecodeError, msgspec.ValidationError):
        raise _bad_cursor(argument_name) from None


def _row(cursor: str | None, argument_name: str) -> UUID | None:
    place = _place(cursor, argument_name)
    if place is None:
        return None
    try:
        return UUID(hex=str(place[0]))
    except (ValueError, IndexError):
        raise _bad_cursor(argument_name) from None


def _bad_cursor(argument_name: str) -> InvalidInput:
    return InvalidInput(
        f"`{argument_name}` is no cursor of this list; take one from `edges` or `pageInfo`.",
        path=(argument_name,),
    )

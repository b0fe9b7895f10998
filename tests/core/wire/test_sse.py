"""The event decoder gives the same events however the bytes are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import UpstreamProtocol
from core.wire.sse import EventDecoder


def decode(pieces: list[bytes], *, limit: int = 1000) -> list[bytes]:
    decoder = EventDecoder(limit=limit)
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return events + decoder.end()


@pytest.mark.parametrize(
    ("text", "events"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a \n\n", [b" a "]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data\n\n", [b""]),
        (b"data: \n\n", [b""]),
        (b"event: x\nid: 1\nretry: 5\ndata: a\n\n", [b"a"]),
        (b"event: ping\n\n", []),
        (b": comment\n\n: another\ndata: a\n\n", [b"a"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"data: \xef\xbb\xbf\n\n", [b"\xef\xbb\xbf"]),
        (b"\n\n\n\ndata: a\n\n\n\n", [b"a"]),
        (b"datum: a\n\ndata : b\n\n", []),
        (b"data: a", [b"a"]),
        (b"data: a\n", [b"a"]),
        (b"", []),
    ],
)
def test_events_are_read_as_the_standard_says(text: bytes, events: list[bytes]) -> None:
    assert decode([text]) == events
    assert decode([text[place : place + 1] for place in range(len(text))]) == events


LINES = st.sampled_from(
    [
        b"data: {}",
        b"data:x",
        b"data: \xf0\x9f\x98\x8a",
        b"data",
        b": c",
        b"event: e",
        b"",
        b"",
        b"\xef\xbb\xbf",
    ]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@given(st.lists(st.tuples(LINES, ENDS), max_size=30), st.data())
def test_any_cutting_gives_the_same_events(lines: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    text = b"".join(line + end for line, end in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))

    pieces = [text[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(text)], strict=True)]

    assert decode(pieces) == reference(text)


def reference(text: bytes) -> list[bytes]:
    """Decode whole text line by line, as slowly and plainly as can be."""
    lines = text.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    events, data = [], []
    for line in [*lines, b""]:
        if line == b"data":
            data.append(b"")
        elif line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif not line and data:
            events.append(b"\n".join(data))
            data = []
    return events


@pytest.mark.parametrize(
    "pieces",
    [
        [b"data: " + b"x" * 1001 + b"\n\n"],
        [b"data: "] + [b"x" * 10] * 101,
        [b"data: xxxxxxxx\n"] * 101,
        [b"data: ok\n\ndata: " + b"x" * 1001],
        [b": " + b"x" * 1001],
    ],
)
def test_an_event_above_the_limit_is_refused_before_its_end(pieces: list[bytes]) -> None:
    decoder = EventDecoder(limit=1000)

    with pytest.raises(UpstreamProtocol, match="more than 0 KiB"):
        for piece in pieces:
            decoder.feed(piece)


def test_many_events_of_one_read_may_be_larger_than_the_limit_together() -> None:
    assert len(decode([b"data: 123456789\n\n" * 500])) == 500

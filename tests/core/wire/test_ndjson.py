"""Lines of JSON, however the network cuts them."""

import pytest

from core.errors import UpstreamProtocol
from core.wire.ndjson import LineDecoder

BODY = '{"a": "é"}\r\n\n  \n{"b": 2}\n{"c": 3}'.encode()
LINES = ['{"a": "é"}', '{"b": 2}', '{"c": 3}']


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_lines_are_whole_however_they_are_cut(size: int) -> None:
    decoder = LineDecoder()

    lines = [line for at in range(0, len(BODY), size) for line in decoder.feed(BODY[at : at + size])]
    lines += decoder.end()

    assert [line.decode().strip() for line in lines] == LINES


def test_the_end_leaves_nothing_behind() -> None:
    decoder = LineDecoder()

    assert decoder.feed(b"{}\n") == [b"{}"]
    assert decoder.end() == []


@pytest.mark.parametrize("pieces", [[b"x" * 11], [b"x" * 6, b"x" * 6], [b"x" * 11 + b"\n"], [b"{}\n" + b"x" * 11]])
def test_a_line_has_a_largest_size(pieces: list[bytes]) -> None:
    decoder = LineDecoder(limit=10)

    with pytest.raises(UpstreamProtocol):
        for piece in pieces:
            decoder.feed(piece)

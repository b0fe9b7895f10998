"""Frames that are made here are those that the WebSocket library makes."""

import pytest
from websockets.frames import Frame, Opcode

from web.protocol import framed


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 70_000])
def test_a_text_is_framed_as_by_the_library(size: int) -> None:
    text = b"x" * size

    assert framed(text) == Frame(Opcode.TEXT, text).serialize(mask=False)

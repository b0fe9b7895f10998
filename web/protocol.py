"""uvicorn's WebSocket protocol, with a way to send at once where nothing has to be waited for."""

import struct
from collections.abc import Callable, Sequence

from starlette.types import Scope
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

PUSH = "modelyard.push"
"""The extension of a connection's scope that holds `push`."""

Push = Callable[[Sequence[bytes]], bool]

_TEXT = 0x81  # the only frame of a text message
_SHORT = struct.Struct("!BB").pack
_MIDDLE = struct.Struct("!BBH").pack
_LONG = struct.Struct("!BBQ").pack


class SocketProtocol(WebSocketsSansIOProtocol):
    """One connection. A message of a stream that waits for nothing needs no turn of a task to be sent."""

    async def run_asgi(self) -> None:
        """Serve the connection; its scope says that messages can be pushed."""
        self.scope["extensions"][PUSH] = self.push  # type: ignore[assignment]  # an extension of our own
        await super().run_asgi()

    def push(self, texts: Sequence[bytes]) -> bool:
        """Send text messages in one write, unless the client is slow or leaving; tell whether they were sent.

        Frames are made here: for each to go through the state of the connection costs more than making its text.
        """
        conn = self.conn
        if not self.writable.is_set() or self.disconnected or self.close_sent or conn.state.name != "OPEN":
            return False
        if conn.extensions or conn.writes:
            return False
        self.transport.write(b"".join([framed(text) for text in texts]))
        return True


def framed(text: bytes) -> bytes:
    """Return a text message as a server sends it (RFC 6455, section 5.2)."""
    size = len(text)
    if size < 126:
        return _SHORT(_TEXT, size) + text
    return (_MIDDLE(_TEXT, 126, size) if size < 65536 else _LONG(_TEXT, 127, size)) + text


def push_of(scope: Scope) -> Push | None:
    """Return how messages are pushed on a connection; None where the server cannot."""
    found: Push | None = scope.get("extensions", {}).get(PUSH)
    return found

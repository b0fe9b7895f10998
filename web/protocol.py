"""uvicorn's WebSocket protocol, with a way to send at once where nothing has to be waited for."""

from collections.abc import Callable, Sequence

from starlette.types import Scope
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

PUSH = "modelyard.push"
"""The extension of a connection's scope that holds `push`."""

Push = Callable[[Sequence[bytes]], bool]


class SocketProtocol(WebSocketsSansIOProtocol):
    """One connection. A message of a stream that waits for nothing needs no turn of a task to be sent."""

    async def run_asgi(self) -> None:
        """Serve the connection; its scope says that messages can be pushed."""
        self.scope["extensions"][PUSH] = self.push  # type: ignore[assignment]  # an extension of our own
        await super().run_asgi()

    def push(self, texts: Sequence[bytes]) -> bool:
        """Send text messages in one write, unless the client is slow or leaving; tell whether they were sent."""
        if not self.writable.is_set() or self.disconnected or self.close_sent or self.conn.state.name != "OPEN":
            return False
        for text in texts:
            self.conn.send_text(text)
        self.transport.write(b"".join(self.conn.data_to_send()))
        return True


def push_of(scope: Scope) -> Push | None:
    """Return how messages are pushed on a connection; None where the server cannot."""
    found: Push | None = scope.get("extensions", {}).get(PUSH)
    return found

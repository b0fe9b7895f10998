"""`python -m web`: one API process."""

import asyncio
import os
import socket
import sys
import time

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from core.model_types.llm import InterruptReason
from core.running import Running
from core.settings import SettingsError, load_settings
from core.telemetry import set_up_logging
from core.wire.egress import egress_of
from storage.resources import check_files
from web.app import create_app
from web.protocol import SocketProtocol
from web.sockets import MAX_MESSAGE

ENDING_SECONDS = 5.0
"""How long ended streams may take to reach their readers."""


class Server(uvicorn.Server):
    """A server that lets what runs come to its end before it closes connections."""

    def __init__(self, config: uvicorn.Config, application: Starlette, drain_seconds: float) -> None:
        super().__init__(config)
        self._application = application
        self._drain_seconds = drain_seconds

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept nobody, send readers elsewhere, wait for what runs, end the rest with its last event, then close."""
        for server in self.servers:
            server.close()
        app, endpoint = self._application.state.app, self._application.state.sockets
        running: Running = app.running
        running.closing = True
        for stream in (*(owned.stream for owned in running.all()), *app.tailer.streams()):
            for reader in list(stream.readers):
                reader.interrupt(InterruptReason.SHUTDOWN)
        for connection in list(self.server_state.connections):
            if isinstance(connection, HttpToolsProtocol):
                connection.shutdown()  # after the answer that is under way; a WebSocket would be cut off
        endpoint.drain()
        await self._wait(running, self._drain_seconds)
        running.close()
        await self._wait(running, ENDING_SECONDS)
        await endpoint.finished(ENDING_SECONDS)
        await super().shutdown(sockets)

    async def _wait(self, running: Running, seconds: float) -> None:
        """Wait until nothing runs, the time is over, or the operator has no patience."""
        deadline = time.monotonic() + seconds
        while (owned := running.all()) and not self.force_exit and time.monotonic() < deadline:
            await asyncio.wait([one.task for one in owned], timeout=0.1)


def main() -> int:
    """Serve until told to stop; return the exit code."""
    try:
        settings = load_settings(os.environ)
        egress_of(settings)
        asyncio.run(check_files(settings))
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    set_up_logging("api", settings.log_level)
    application = create_app(settings)
    server = Server(
        uvicorn.Config(
            application,
            host=settings.host,
            port=settings.port,
            loop="uvloop",
            http="httptools",
            ws=SocketProtocol,
            ws_max_size=MAX_MESSAGE,
            ws_per_message_deflate=False,
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=int(ENDING_SECONDS),
            timeout_keep_alive=30,
            h11_max_incomplete_event_size=64 * 1024,
        ),
        application,
        settings.drain_seconds,
    )
    server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())

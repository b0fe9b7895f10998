"""`python -m web`: one API process."""

import os
import sys

import uvicorn

from core.settings import SettingsError, load_settings
from core.telemetry import set_up_logging
from core.wire.egress import egress_of
from web.app import create_app
from web.sockets import MAX_MESSAGE


def main() -> int:
    """Serve until told to stop; return the exit code."""
    try:
        settings = load_settings(os.environ)
        egress_of(settings)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    set_up_logging("api", settings.log_level)
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(settings),
            host=settings.host,
            port=settings.port,
            loop="uvloop",
            http="httptools",
            ws="websockets-sansio",
            ws_max_size=MAX_MESSAGE,
            ws_per_message_deflate=False,
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=int(settings.drain_seconds),
            timeout_keep_alive=30,
            h11_max_incomplete_event_size=64 * 1024,
        )
    )
    server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())

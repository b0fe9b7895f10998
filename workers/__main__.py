"""`python -m workers`: one worker process."""

import asyncio
import os
import sys

import uvloop

from core.errors import ModelyardError
from core.settings import SettingsError, load_settings
from core.telemetry import set_up_logging
from core.wire.egress import egress_of
from storage.resources import check_files
from workers.main import run


def main() -> int:
    """Work until told to stop; return the exit code: 2 for wrong settings, 1 where the database or Redis is away."""
    try:
        settings = load_settings(os.environ)
        egress_of(settings)
        asyncio.run(check_files(settings))
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    set_up_logging("worker", settings.log_level)
    try:
        uvloop.run(run(settings))
    except ModelyardError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

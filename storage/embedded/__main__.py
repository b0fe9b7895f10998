"""`python -m storage.embedded`: everything on one data folder, until it is told to stop."""

import os
import subprocess
import sys
from pathlib import Path

from core.settings import SettingsError, load_settings
from storage.embedded.supervisor import (
    PYTHON,
    Kept,
    StartError,
    Supervisor,
    address,
    check_port,
    data_folder,
    embedded_defaults,
    say,
)
from storage.embedded.valkey import ValkeyError, socket_path, start_valkey


def main() -> int:
    """Run, and return the exit code: 0 after a stop, 2 when it cannot start."""
    os.umask(0o077)
    try:
        with data_folder(Path(os.environ.get("MODELYARD_DATA") or ".modelyard").absolute()) as folder:
            return _run(folder)
    except (StartError, SettingsError, ValkeyError) as error:
        print(error, file=sys.stderr)
        return 2


def _run(folder: Path) -> int:
    env = embedded_defaults(os.environ, folder)
    own_redis = bool(env.get("MODELYARD_REDIS_URL"))
    path = socket_path(folder)
    env.setdefault("MODELYARD_REDIS_URL", f"unix://{path}")
    settings = load_settings(env)
    check_port(settings)
    prepared = subprocess.Popen([PYTHON, "-m", "storage.prepare"], env=env)
    engine = None if own_redis else start_valkey(folder, path)
    if prepared.wait() != 0:
        if engine is not None:
            engine.stop(10)
        raise StartError("The database could not be prepared; what is above says why.")
    supervisor = Supervisor(
        settings=settings,
        valkey=None if own_redis else lambda: start_valkey(folder, path),
        kept=[Kept("API", [PYTHON, "-m", "web"], env), Kept("worker", [PYTHON, "-m", "workers"], env)],
        ready=lambda: _announce(address(settings), folder),
        engine=engine,
    )
    return supervisor.run()


def _announce(url: str, folder: Path) -> None:
    say(
        f"\nModelyard is ready.\n  Explorer  {url}\n  API       {url}/graphql\n"
        f"  Token     in {folder / 'owner.token'}\n  Stop      Ctrl-C\n"
    )


if __name__ == "__main__":
    sys.exit(main())

"""`python -m storage.embedded`: everything on one data folder, until it is told to stop."""

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from core.settings import Settings, SettingsError, load_settings
from storage.embedded.supervisor import (
    PYTHON,
    Kept,
    Signals,
    StartError,
    Stopped,
    Supervisor,
    address,
    answers_ready,
    check_port,
    data_folder,
    embedded_defaults,
    say,
)
from storage.embedded.valkey import ValkeyError, socket_path, start_valkey
from storage.embedded.watched import Watched


def main() -> int:
    """Run, and return the exit code: 0 after a stop, 2 when it cannot start."""
    os.umask(0o077)
    signals = Signals()
    try:
        with (
            data_folder(Path(os.environ.get("MODELYARD_DATA") or ".modelyard").absolute()) as folder,
            socket_path(folder) as path,
        ):
            _run(folder, path, signals)
    except Stopped:
        return 0
    except (StartError, SettingsError, ValkeyError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _run(folder: Path, path: Path, signals: Signals) -> None:
    env = embedded_defaults(os.environ, folder)
    has_own_redis = bool(env.get("MODELYARD_REDIS_URL"))
    env.setdefault("MODELYARD_REDIS_URL", f"unix://{path}")
    settings = load_settings(env)
    check_port(settings)
    _check_files(settings)
    prepare = _module("preparation", "storage.prepare", env)
    kept = [
        Kept("API", lambda: _module("API", "web", env)),
        Kept("worker", lambda: _module("worker", "workers", env)),
    ]
    try:
        if not has_own_redis:
            # The first start, beside the preparation: what fails here ends the whole with its reason.
            kept.append(
                Kept("Valkey", lambda: start_valkey(folder, path), start_valkey(folder, path), started=time.monotonic())
            )
        _finish(prepare, signals)
    except BaseException:
        prepare.stop(10)
        for one in kept:
            if one.child is not None:
                one.child.stop(10)
        raise
    Supervisor(
        kept=kept,
        signals=signals,
        is_ready=lambda: answers_ready(settings),
        announce=lambda: _announce(settings, folder),
        stop_seconds=settings.drain_seconds + 10,
    ).run()


def _check_files(settings: Settings) -> None:
    """Let a wrong file of the operator end the start; what checks it is only loaded where there is one."""
    if settings.hosted is not None or settings.products is not None:
        from storage.resources import check_files

        asyncio.run(check_files(settings))


def _module(name: str, module: str, env: Mapping[str, str]) -> Watched:
    return Watched.start(name, [PYTHON, "-m", module], env=env)


def _finish(prepare: Watched, signals: Signals) -> None:
    """Wait for the preparation; raises when it fails, or when a signal comes first."""
    while prepare.code is None:
        if signals.count:
            raise Stopped
        time.sleep(0.005)
    if prepare.code != 0:
        raise StartError("The database could not be prepared; what is above says why.")
    prepare.kill()


def _announce(settings: Settings, folder: Path) -> None:
    url = address(settings)
    say(
        f"\nModelyard is ready.\n  Explorer  {url}\n  API       {url}/graphql\n"
        f"  Token     in {folder / 'owner.token'}\n  Stop      Ctrl-C\n"
    )


if __name__ == "__main__":
    sys.exit(main())

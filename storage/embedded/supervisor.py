"""One command that runs everything: Valkey, the API and a worker as watched children on one data folder."""

import base64
import contextlib
import fcntl
import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from core.settings import Settings, is_loopback_host
from storage.embedded.watched import Watched

PYTHON = sys.executable
_BACKOFF_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_HEALTHY_SECONDS = 60.0
_READY_SECONDS = 60.0
_LOOPBACK = "127.0.0.0/8:*,[::1/128]:*,localhost:*"


class StartError(Exception):
    """It cannot start; the message is a sentence for the person who tried."""


@contextlib.contextmanager
def data_folder(path: Path) -> Iterator[Path]:
    """Make the folder, private to its owner, and hold it against a second start.

    Raises:
        StartError: another one runs on it, or it cannot be made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
        lock: IO[Any] = (path / "lock").open("a+")
    except OSError as error:
        raise StartError(f"The data folder {path} cannot be used: {error.strerror}.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StartError(
                f"Modelyard runs on the data folder {path} already: stop that one first, or set MODELYARD_DATA to "
                "another folder."
            ) from None
        yield path


def encryption_key(folder: Path) -> str:
    """Return the key-encryption key of the folder, made on the first start and readable by its owner alone."""
    path = folder / "encryption.key"
    if not path.exists():
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(base64.b64encode(os.urandom(32)).decode() + "\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
    return path.read_text().strip()


def embedded_defaults(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return the environment of the children: what is set, and for the rest what suits the embedded default."""
    host = environ.get("MODELYARD_HOST", "") or "127.0.0.1"
    defaults = {
        "MODELYARD_DATA": str(folder),
        "MODELYARD_DATABASE_URL": f"sqlite+aiosqlite:///{folder}/modelyard.db",
        "MODELYARD_ECHO": "1",
    }
    if is_loopback_host(host):
        defaults["MODELYARD_EGRESS_ALLOW"] = _LOOPBACK
    if not environ.get("MODELYARD_ENCRYPTION_KEYS"):
        defaults["MODELYARD_ENCRYPTION_KEYS"] = encryption_key(folder)
    return {**defaults, **{name: value for name, value in environ.items() if value}, "MODELYARD_DATA": str(folder)}


def check_port(settings: Settings) -> None:
    """Refuse to start on a port that is taken.

    Raises:
        StartError: it is.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise StartError(
                f"Cannot listen on {settings.host}:{settings.port} ({error.strerror}): stop what uses it, or set "
                "MODELYARD_PORT or MODELYARD_HOST."
            ) from error


@dataclass(slots=True)
class Kept:
    """A child that is started again when it ends by itself, later each time."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    child: Watched | None = None
    failures: int = 0
    started: float = 0.0
    due: float = 0.0

    def start(self) -> None:
        """Start it."""
        self.started = time.monotonic()
        self.child = Watched.start(self.name, self.command, env=self.env)

    def look(self) -> None:
        """See whether it still runs, and start it again when its time has come."""
        now = time.monotonic()
        if self.child is not None and self.child.code is not None:
            code = self.child.code
            self.child.kill()
            self.child = None
            self.failures = 0 if now - self.started > _HEALTHY_SECONDS else self.failures
            wait = _BACKOFF_SECONDS[min(self.failures, len(_BACKOFF_SECONDS) - 1)]
            self.failures += 1
            self.due = now + wait
            say(f"The {self.name} ended with code {code}; it starts again in {wait:g} s.")
        elif self.child is None and now >= self.due:
            self.start()


@dataclass(slots=True)
class Supervisor:
    """The children in the order in which they start; they stop in the reverse one."""

    settings: Settings
    valkey: Callable[[], Watched] | None
    kept: Sequence[Kept]
    ready: Callable[[], None]
    engine: Watched | None = None
    _stop: list[int] = field(default_factory=list)

    def run(self) -> int:
        """Run until SIGINT or SIGTERM; return the exit code."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda got, _: self._stop.append(got))
        announced = False
        deadline = time.monotonic() + _READY_SECONDS
        try:
            for one in self.kept:
                one.start()
            while not self._stop:
                self._look_at_valkey()
                for one in self.kept:
                    one.look()
                if not announced and (is_ready(self.settings) or time.monotonic() > deadline):
                    announced = True
                    self.ready()
                time.sleep(0.05 if not announced else 0.25)
        finally:
            self.close()
        return 0

    def close(self) -> None:
        """Stop the children, the last started first."""
        if self._stop:
            say("Stopping.")
        for one in self.kept:
            if one.child is not None:
                one.child.stop(self.settings.drain_seconds + 10)
        if self.engine is not None:
            self.engine.stop(10)

    def _look_at_valkey(self) -> None:
        if self.valkey is None or (self.engine is not None and self.engine.code is None):
            return
        if self.engine is not None:
            say(f"The Valkey ended with code {self.engine.code}; it starts again.")
            self.engine.kill()
        self.engine = self.valkey()


def address(settings: Settings) -> str:
    """Return the address of the explorer."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"}.get(settings.host, settings.host)
    return f"http://{host}:{settings.port}"


def is_ready(settings: Settings) -> bool:
    """Tell whether the API can serve."""
    try:
        with urllib.request.urlopen(f"{address(settings)}/health/ready", timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def say(text: str) -> None:
    """Tell the person at the terminal."""
    print(text, flush=True)

"""One command that runs everything: Valkey, the API and a worker as watched children on one data folder."""

import base64
import contextlib
import fcntl
import http.client
import os
import signal
import socket
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from core.settings import Settings, is_loopback_host
from storage.embedded.valkey import ValkeyError
from storage.embedded.watched import Watched

PYTHON = sys.executable
_BACKOFF_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_HEALTHY_SECONDS = 60.0
_READY_SECONDS = 60.0
_LOOPBACK = "127.0.0.0/8:*,[::1/128]:*,localhost:*"
_KEY_FILE = "encryption.key"


_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class StartError(Exception):
    """It cannot start; the message is a sentence for the person who tried."""


class Stopped(Exception):
    """A signal asked the whole to end while it was starting."""


class Signals:
    """SIGINT, SIGTERM and SIGHUP, noted from now on instead of ending this process."""

    def __init__(self) -> None:
        """Note the signals of this process."""
        self.count = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._note)

    def _note(self, _number: int, _frame: object) -> None:
        self.count += 1


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
    path = folder / _KEY_FILE
    if not path.exists():
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(base64.b64encode(os.urandom(32)).decode() + "\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
    return path.read_text().strip()


def with_folder_key(environ: Mapping[str, str]) -> Mapping[str, str]:
    """Return the environment with the key of the data folder, where the folder has one and none is set."""
    key = Path(environ.get("MODELYARD_DATA") or ".modelyard") / _KEY_FILE
    if environ.get("MODELYARD_ENCRYPTION_KEYS") or not key.is_file():
        return environ
    return {**environ, "MODELYARD_ENCRYPTION_KEYS": key.read_text("utf-8").strip()}


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
    start: Callable[[], Watched]
    child: Watched | None = None
    failures: int = 0
    started: float = 0.0
    due: float = 0.0

    def look(self) -> None:
        """See whether it still runs, and start it again when its time has come."""
        now = time.monotonic()
        if self.child is not None and self.child.code is not None:
            code = self.child.code
            self.child.kill()
            self.child = None
            self._failed(f"ended with code {code}", now)
        elif self.child is None and now >= self.due:
            self.started = now
            try:
                self.child = self.start()
            except (ValkeyError, OSError) as error:
                self._failed(f"did not start ({error})", now)

    def _failed(self, what: str, now: float) -> None:
        if now - self.started > _HEALTHY_SECONDS:
            self.failures = 0
        wait = _BACKOFF_SECONDS[min(self.failures, len(_BACKOFF_SECONDS) - 1)]
        self.failures += 1
        self.due = now + wait
        say(f"The {self.name} {what}; it starts again in {wait:g} s.")


@dataclass(slots=True, kw_only=True)
class Supervisor:
    """The children in the order in which they stop: who serves first, what the others need last."""

    kept: Sequence[Kept]
    signals: Signals
    is_ready: Callable[[], bool]
    announce: Callable[[], None]
    stop_seconds: float
    ready_seconds: float = _READY_SECONDS

    def run(self) -> None:
        """Keep the children running until a signal comes, then stop them."""
        deadline: float | None = time.monotonic() + self.ready_seconds
        announced = False
        try:
            while not self.signals.count:
                for one in reversed(self.kept):
                    one.look()
                if not announced and self.is_ready():
                    announced, deadline = True, None
                    self.announce()
                elif deadline is not None and time.monotonic() > deadline:
                    deadline = None
                    say(f"It is not ready after {self.ready_seconds:g} s; what is above says why. It goes on trying.")
                time.sleep(0.25 if announced else 0.05)
            say("Stopping. Another Ctrl-C stops at once.")
        finally:
            self.close()

    def close(self) -> None:
        """Stop the children in their order; a further signal kills what is left."""
        patience = self.signals.count + 1
        for one in self.kept:
            if one.child is not None:
                one.child.stop(self.stop_seconds, hurry=lambda: self.signals.count >= patience)


def address(settings: Settings) -> str:
    """Return the address of the explorer."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"}.get(settings.host, settings.host)
    return f"http://{host}:{settings.port}"


def answers_ready(settings: Settings) -> bool:
    """Tell whether the API can serve."""
    try:
        with _DIRECT.open(f"{address(settings)}/health/ready", timeout=1) as answer:
            return bool(answer.status == 200)
    except (OSError, http.client.HTTPException):
        return False


def say(text: str) -> None:
    """Tell the person at the terminal."""
    print(text, flush=True)

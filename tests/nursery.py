"""Processes of the product that start at once: forked from one that has loaded the code, which takes it seconds.

They are what `python -m web` and `python -m workers` make, with an environment, sockets and an end of their own.
"""

import atexit
import functools
import gc
import importlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MODULES = ("web", "workers")


class Forked:
    """A process that was forked; it has the methods of `subprocess.Popen` that tests use."""

    def __init__(self, nursery: "Nursery", pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.over = threading.Event()
        self._nursery = nursery

    def poll(self) -> int | None:
        """Return its exit code, None while it runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code once it has ended."""
        if not self.over.wait(timeout):
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        self._nursery.ask({"signal": number, "pid": self.pid})

    def kill(self) -> None:
        """End it as a crash does."""
        self.send_signal(signal.SIGKILL)


class Nursery:
    """The process that forks the others, and is told of their ends. They go when it goes, and it goes with its parent."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.nursery"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._started: SimpleQueue[Forked] = SimpleQueue()
        self._lock = threading.Lock()
        self._starting = threading.Lock()
        threading.Thread(target=self._listen, name="nursery", daemon=True).start()

    def start(self, module: str, env: Mapping[str, str], log: Path) -> Forked:
        """Start a module, with all that it says added to a log."""
        with self._starting:
            self.ask({"module": module, "env": dict(env), "log": str(log)})
            return self._started.get(timeout=120)

    def close(self) -> None:
        """Let it go, and all that it has forked."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def ask(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def _listen(self) -> None:
        living: dict[int, Forked] = {}
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = json.loads(line)
            pid = message["pid"]
            if "code" in message:
                gone = living.pop(pid)
                gone.returncode = message["code"]
                gone.over.set()
            else:
                living[pid] = Forked(self, pid)
                self._started.put(living[pid])


@functools.cache
def nursery() -> Nursery:
    """Return the one of these tests."""
    opened = Nursery()
    atexit.register(opened.close)
    return opened


def _main() -> None:
    """Fork what is asked for, until nobody asks any more; then nothing is left."""
    for module in MODULES:
        importlib.import_module(f"{module}.__main__")
    gc.collect()
    gc.freeze()
    woken, wakes = os.pipe()
    for end in (woken, wakes):
        os.set_blocking(end, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: the tests end first, and this one with them
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakes)
    living: set[int] = set()
    with selectors.DefaultSelector() as events:
        events.register(sys.stdin.fileno(), selectors.EVENT_READ)
        events.register(woken, selectors.EVENT_READ)
        rest = b""
        while True:
            ready = {key.fd for key, _ in events.select()}
            if woken in ready:
                os.read(woken, 4096)
                _tell_ends(living)
            if sys.stdin.fileno() in ready:
                data = os.read(sys.stdin.fileno(), 65536)
                if not data:
                    break
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    _do(json.loads(line), living)
    for pid in living:
        os.kill(pid, signal.SIGKILL)


def _do(message: Mapping[str, Any], living: set[int]) -> None:
    if "signal" in message:
        if message["pid"] in living:
            os.kill(message["pid"], message["signal"])
        return
    pid = os.fork()
    if pid == 0:
        os._exit(_become(message["module"], message["env"], message["log"]))
    living.add(pid)
    _say({"pid": pid})


def _tell_ends(living: set[int]) -> None:
    while living:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        living.remove(pid)
        _say({"pid": pid, "code": os.waitstatus_to_exitcode(status)})


def _say(message: Mapping[str, int]) -> None:
    os.write(sys.stdout.fileno(), json.dumps(message).encode() + b"\n")


def _become(module: str, env: Mapping[str, str], log: str) -> int:
    """Be the process of a module; return its exit code."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    nothing, output = os.open(os.devnull, os.O_RDONLY), os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.closerange(3, 256)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = [module]
    try:
        code: int = sys.modules[f"{module}.__main__"].main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    _main()

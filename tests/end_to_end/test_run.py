"""The one command that runs everything, as its user sees it: started, stopped, killed, started twice."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

from tests.waiting import LIMIT_S, reserved_port, wait_until

ROOT = Path(__file__).resolve().parents[2]


class Started:
    """The all-in-one on a folder of its own; it can be started there again."""

    def __init__(self, folder: Path, **env: str) -> None:
        self.folder = folder
        self.held = ExitStack()
        self.port = self.held.enter_context(reserved_port())
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MODELYARD_")},
            "MODELYARD_DATA": str(folder),
            "MODELYARD_PORT": str(self.port),
            "MODELYARD_DRAIN_SECONDS": "3",
            "PYTHONUNBUFFERED": "1",
            **env,
        }
        self.log = folder.parent / "log"
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "storage.embedded"], cwd=ROOT, env=self.env, stdout=log, stderr=log
            )

    @property
    def said(self) -> str:
        return self.log.read_text()

    def wait_ready(self) -> None:
        wait_until(lambda: self.process.poll() is not None or self.is_ready())
        assert self.process.poll() is None, self.said

    def is_ready(self) -> bool:
        """Tell whether it serves, and has said so."""
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health/ready") as answer:
            return bool(answer.status == 200 and "Modelyard is ready." in self.said)
        return False

    def ask(self, query: str) -> object:
        token = (self.folder / "owner.token").read_text().strip()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql",
            data=json.dumps({"query": query}).encode(),
            headers={"content-type": "application/json", "authorization": f"Bearer {token}"},
        )
        with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
            return json.loads(answer.read())

    def family(self) -> list[psutil.Process]:
        """Return every process that works on the folder."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("MODELYARD_DATA") == str(self.folder) or any(
                    str(self.folder) in part for part in process.cmdline()
                ):
                    found.append(process)
        return found

    def child(self, module: str) -> psutil.Process:
        """Return the one process that runs a module; others may end while it is looked for."""
        found = []
        for one in self.family():
            with suppress(psutil.Error):
                if one.cmdline()[1:] == ["-m", module]:
                    found.append(one)
        (only,) = found
        return only

    def end(self) -> None:
        """Kill what still runs, and wait until all of it is gone."""
        with self.held:
            self.process.kill()
            self.process.wait()
            wait_until(lambda: not self.family())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """Return the one that the tests of this file share: a start takes seconds."""
    one = Started(tmp_path_factory.mktemp("run") / "data")
    yield one
    one.end()


@pytest.fixture
def started(place: Started) -> Started:
    """Return one that is ready; it is started again on its folder where a test has ended it."""
    if place.process.poll() is not None:
        place.start()
    place.wait_ready()
    return place


def test_it_starts_and_serves(started: Started) -> None:
    assert started.ask("{viewer{isOperator workspace{id}} workspace{name}}") == {
        "data": {"viewer": {"isOperator": True, "workspace": None}, "workspace": {"name": "My workspace"}}
    }
    token = started.folder / "owner.token"
    assert re.fullmatch(r"my_[A-Za-z0-9_-]{43}\n", token.read_text())
    assert started.said.count(token.read_text().strip()) == 1
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (token, started.folder / "encryption.key")}
    assert modes == {"owner.token": "0o600", "encryption.key": "0o600"}
    assert oct(started.folder.stat().st_mode & 0o777) == "0o700"
    assert "Traceback" not in started.said


def test_a_second_start_on_the_folder_is_refused(started: Started) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "storage.embedded"],
        cwd=ROOT,
        env=started.env,
        capture_output=True,
        text=True,
        check=False,
    )

    assert second.returncode == 2
    assert "already" in second.stderr
    assert str(started.folder) in second.stderr
    started.ask("{viewer{isOperator}}")


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        one = Started(tmp_path / "data", MODELYARD_PORT=str(taken.getsockname()[1]))
        assert one.process.wait(LIMIT_S) == 2

    assert "MODELYARD_PORT" in one.said
    assert one.family() == []
    one.end()


def test_wrong_settings_are_named_one_by_one(tmp_path: Path) -> None:
    one = Started(tmp_path / "data", MODELYARD_PORT="many", MODELYARD_GRACE_SECONDS="-1", MODELYARD_REDIS_URL="valkey")

    assert one.process.wait(LIMIT_S) == 2
    for name in ("MODELYARD_PORT", "MODELYARD_GRACE_SECONDS", "MODELYARD_REDIS_URL"):
        assert name in one.said
    assert "Traceback" not in one.said
    one.end()


def test_killed_children_come_back_and_nothing_is_lost(started: Started) -> None:
    before = {name: started.child(name) for name in ("web", "workers")}
    (valkey,) = [one for one in started.family() if "valkey-server" in one.name()]

    for process in (valkey, *before.values()):
        with suppress(psutil.NoSuchProcess):
            process.kill()

    def back() -> bool:
        with suppress(Exception):
            started.ask("{viewer{isOperator}}")
            with urllib.request.urlopen(f"http://127.0.0.1:{started.port}/health/ready", timeout=5) as answer:
                return bool(answer.status == 200 and started.child("workers") != before["workers"])
        return False

    wait_until(back)
    assert started.child("web") != before["web"]
    assert "starts again" in started.said


def test_a_killed_parent_leaves_no_child(started: Started) -> None:
    started.process.kill()
    started.process.wait()

    wait_until(lambda: not started.family())


def test_it_stops_on_sigterm(started: Started) -> None:
    said = len(started.said)

    started.process.send_signal(signal.SIGTERM)

    assert started.process.wait(LIMIT_S) == 0
    assert started.family() == []
    assert "Traceback" not in started.said[said:]

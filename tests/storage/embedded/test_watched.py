"""A watched child: ends with its parent however that dies, stops when asked, is killed when it does not listen."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from storage.embedded.watched import Watched
from tests.waiting import LIMIT_S, wait_until

ROOT = Path(__file__).resolve().parents[3]
# Says its number once it is ready to be asked to end, and writes down that it was.
LISTENS = """
import os, signal, sys, time
def end(*_):
    open(sys.argv[1] + ".asked", "w").close()
    sys.exit(7)
signal.signal(signal.SIGTERM, end)
open(sys.argv[1] + ".new", "w").write(str(os.getpid()))
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(600)
"""
DEAF = LISTENS.replace("signal.SIGTERM, end", "signal.SIGTERM, signal.SIG_IGN")
PARENT = """
import sys, time
from storage.embedded.watched import Watched
from tests.waiting import LIMIT_S, wait_until
Watched.start("child", [sys.executable, "-c", sys.argv[1], sys.argv[2]])
time.sleep(600)
"""


def number(path: Path) -> int:
    wait_until(path.exists)
    return int(path.read_text())


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_it_is_asked_to_end_when_the_parent_dies(tmp_path: Path, how: signal.Signals) -> None:
    file = tmp_path / "pid"
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, LISTENS, str(file)], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    child = psutil.Process(number(file))
    family = [child, *[one for one in psutil.Process(parent.pid).children(recursive=True) if one.pid != child.pid]]
    assert len(family) == 3

    parent.send_signal(how)
    parent.wait()

    wait_until(lambda: all(is_gone(one) for one in family))
    assert Path(f"{file}.asked").exists()


def test_stop_lets_it_finish_and_tells_its_code(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    child = Watched.start("child", [sys.executable, "-c", LISTENS, file])
    process = psutil.Process(number(file))

    child.stop(LIMIT_S)

    assert child.code == 7
    assert is_gone(process)


def test_a_child_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    child = Watched.start("child", [sys.executable, "-c", DEAF, file])
    process = psutil.Process(number(file))

    child.stop(0.2)

    wait_until(lambda: is_gone(process))


def test_hurry_cuts_the_wait_short(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    child = Watched.start("child", [sys.executable, "-c", DEAF, file])
    process = psutil.Process(number(file))
    began = time.monotonic()

    child.stop(600, hurry=lambda: True)

    assert time.monotonic() - began < LIMIT_S
    wait_until(lambda: is_gone(process))


def test_its_own_code_and_words_are_handed_on(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as output:
        child = Watched.start("child", ["/bin/sh", "-c", "echo out; echo wrong >&2; kill -TERM $$"], output=output)
    wait_until(lambda: child.code is not None)
    child.kill()

    assert child.code == 128 + signal.SIGTERM
    assert log.read_text() == "out\nwrong\n"


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as output:
        child = Watched.start("child", ["/nowhere/at-all"], output=output)
    wait_until(lambda: child.code is not None)
    child.kill()

    assert child.code == 127
    assert "/nowhere/at-all" in log.read_text()

"""The rules of the one command: a private folder, one key, one start, restarts that come later each time, an order."""

import base64
import itertools
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.settings import load_settings
from storage.embedded import supervisor
from storage.embedded.supervisor import (
    Kept,
    Signals,
    StartError,
    Supervisor,
    address,
    answers_ready,
    check_port,
    data_folder,
    embedded_defaults,
    encryption_key,
)
from storage.embedded.valkey import ValkeyError
from storage.embedded.watched import Watched
from tests.conftest import KEY
from tests.waiting import LIMIT_S


@pytest.fixture
def signals() -> Iterator[Signals]:
    """Return noted signals; what handled them before comes back."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield Signals()
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def ends(code: int = 3) -> Watched:
    return Watched.start("short", ["/bin/sh", "-c", f"exit {code}"])


def stays() -> Watched:
    return Watched.start("long", ["/bin/sleep", "600"])


def wait_end(kept: Kept) -> None:
    assert kept.child is not None
    kept.child.process.wait(LIMIT_S)


def test_the_folder_is_private_and_held_by_one(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "data"
    with data_folder(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        with pytest.raises(StartError, match=str(path)), data_folder(path):
            pass
    with data_folder(path):
        pass


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="file/data"), data_folder(tmp_path / "file" / "data"):
        pass


def test_the_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    key = encryption_key(tmp_path)

    assert len(base64.b64decode(key, validate=True)) == 32
    assert encryption_key(tmp_path) == key
    assert stat.S_IMODE((tmp_path / "encryption.key").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["encryption.key"]


def test_what_is_set_wins_over_the_embedded_default(tmp_path: Path) -> None:
    given = {"MODELYARD_ECHO": "0", "MODELYARD_DATABASE_URL": "postgresql+asyncpg://db/x", "MODELYARD_PORT": ""}
    env = embedded_defaults(given, tmp_path)

    assert env["MODELYARD_ECHO"] == "0"
    assert env["MODELYARD_DATABASE_URL"] == "postgresql+asyncpg://db/x"
    assert "MODELYARD_PORT" not in env
    assert "127.0.0.0/8:*" in env["MODELYARD_EGRESS_ALLOW"]


def test_an_own_key_makes_no_key_file(tmp_path: Path) -> None:
    env = embedded_defaults({"MODELYARD_ENCRYPTION_KEYS": "given"}, tmp_path)

    assert env["MODELYARD_ENCRYPTION_KEYS"] == "given"
    assert not (tmp_path / "encryption.key").exists()


def test_loopback_is_no_egress_once_others_can_reach_the_api(tmp_path: Path) -> None:
    assert "MODELYARD_EGRESS_ALLOW" not in embedded_defaults({"MODELYARD_HOST": "0.0.0.0"}, tmp_path)


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:8000"), ("0.0.0.0", "http://127.0.0.1:8000"), ("::1", "http://[::1]:8000")],
)
def test_the_address_can_be_opened(host: str, url: str) -> None:
    assert address(load_settings({"MODELYARD_HOST": host, "MODELYARD_ENCRYPTION_KEYS": KEY})) == url


def test_a_taken_port_is_refused_with_what_mends_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = load_settings({"MODELYARD_PORT": str(taken.getsockname()[1]), "MODELYARD_ENCRYPTION_KEYS": KEY})
        with pytest.raises(StartError, match="MODELYARD_PORT"):
            check_port(settings)
        assert not answers_ready(settings)
    check_port(settings)


def test_each_end_waits_longer_for_the_next_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [1000.0]
    monkeypatch.setattr(supervisor, "time", type("Clock", (), {"monotonic": staticmethod(lambda: now[0])}))
    kept = Kept("worker", ends)
    waits = []
    for _ in range(8):
        kept.look()
        wait_end(kept)
        kept.look()
        assert kept.child is None
        waits.append(kept.due - now[0])
        now[0] = kept.due - 0.01
        kept.look()
        assert kept.child is None, "it started before its time"
        now[0] = kept.due

    assert waits == [0.5, 1, 2, 5, 10, 30, 30, 30]
    assert "The worker ended with code 3; it starts again in 0.5 s." in capsys.readouterr().out

    kept.look()
    wait_end(kept)
    now[0] += 61
    kept.look()
    assert kept.due - now[0] == 0.5, "a child that ran for a minute is no longer a failing one"


def test_a_start_that_fails_is_tried_again_later(capsys: pytest.CaptureFixture[str]) -> None:
    tries = []

    def start() -> Watched:
        tries.append(1)
        raise ValkeyError("no room")

    kept = Kept("Valkey", start)
    kept.look()
    kept.look()

    assert tries == [1]
    assert "The Valkey did not start (no room); it starts again in 0.5 s." in capsys.readouterr().out


def test_they_stop_in_their_order_and_readiness_is_said_once(
    signals: Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[str] = []
    ended: list[str] = []

    def start(name: str) -> Watched:
        started.append(name)
        return stays()

    kept = [Kept(name, lambda name=name: start(name)) for name in ("API", "worker", "Valkey")]  # type: ignore[misc]
    announced: list[float] = []

    def announce() -> None:
        announced.append(time.monotonic())
        if len(announced) == 1:
            threading.Timer(0.6, lambda: signal.raise_signal(signal.SIGTERM)).start()

    one = Supervisor(kept=kept, signals=signals, is_ready=lambda: True, announce=announce, stop_seconds=LIMIT_S)
    real_stop = Watched.stop

    def stop(child: Watched, *args: object, **more: object) -> None:
        (name,) = [each.name for each in kept if each.child is child]
        ended.append(name)
        real_stop(child, *args, **more)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Watched, "stop", stop)
        one.run()

    assert started == ["Valkey", "worker", "API"]
    assert ended == ["API", "worker", "Valkey"]
    assert len(announced) == 1
    assert all(each.child is not None and each.child.code is not None for each in kept)


def test_what_is_not_ready_is_never_said_to_be(signals: Signals, capsys: pytest.CaptureFixture[str]) -> None:
    said: list[int] = []
    looks = itertools.count()

    def is_ready() -> bool:
        if next(looks) == 8:  # the time to be ready in is over by then
            signal.raise_signal(signal.SIGINT)
        return False

    Supervisor(
        kept=[],
        signals=signals,
        is_ready=is_ready,
        announce=lambda: said.append(1),
        stop_seconds=1,
        ready_seconds=0.1,
    ).run()

    assert said == []
    assert capsys.readouterr().out.count("It is not ready after 0.1 s") == 1


def test_another_signal_kills_what_does_not_end(signals: Signals, tmp_path: Path) -> None:
    file = tmp_path / "deaf"
    code = "import signal, sys, time; signal.signal(15, signal.SIG_IGN); open(sys.argv[1], 'w'); time.sleep(600)"
    kept = [Kept("API", lambda: Watched.start("deaf", [sys.executable, "-c", code, file]))]
    asked: list[float] = []

    def announce() -> None:
        asked.append(time.monotonic())
        signal.raise_signal(signal.SIGINT)
        threading.Timer(1, lambda: signal.raise_signal(signal.SIGINT)).start()

    Supervisor(kept=kept, signals=signals, is_ready=file.exists, announce=announce, stop_seconds=600).run()

    assert 1 <= time.monotonic() - asked[0] < LIMIT_S

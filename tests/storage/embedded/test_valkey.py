"""The embedded Valkey: found in its order, answering when started, keeping its data, reachable by a short path."""

import importlib.util
from pathlib import Path

import pytest
import redis

from storage.embedded.valkey import ValkeyError, answers, find_valkey, socket_path, start_valkey


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    made.mkdir(mode=0o700)
    return made


def client(path: Path) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(path))


def test_it_answers_once_started_and_keeps_what_it_was_given(folder: Path) -> None:
    with socket_path(folder) as path:
        assert not answers(path)
        first = start_valkey(folder, path)
        assert answers(path)
        assert path.stat().st_mode & 0o077 == 0
        with client(path) as connection:
            connection.set("kept", "yes")
            assert connection.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert connection.config_get("port") == {"port": "0"}
        first.stop(10)
        assert not answers(path)

        second = start_valkey(folder, path)
        with client(path) as connection:
            assert connection.get("kept") == b"yes"
        second.stop(10)


def test_a_long_folder_gets_a_short_private_path_for_a_while(tmp_path: Path) -> None:
    deep = tmp_path / ("a" * 90) / "data"
    deep.mkdir(parents=True)

    with socket_path(deep) as path:
        assert len(str(path)) <= 104
        assert path.parent.stat().st_mode & 0o077 == 0
        server = start_valkey(deep, path)
        assert answers(path)
        server.stop(10)

    assert not path.parent.exists()
    assert list(deep.glob("appendonlydir/*"))


def test_a_server_that_does_not_start_is_said_with_its_log(folder: Path) -> None:
    broken = folder / "appendonlydir"
    broken.write_text("a file where a folder must be")

    with socket_path(folder) as path, pytest.raises(ValkeyError) as caught:
        start_valkey(folder, path)

    assert str(folder / "valkey.log") in str(caught.value)
    assert "appendonlydir" in (folder / "valkey.log").read_text()


def test_without_the_package_the_system_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValkeyError, match="MODELYARD_REDIS_URL"):
        find_valkey()

    for name in ("redis-server", "valkey-server"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        assert find_valkey() == program

"""`./run` itself, before there is an environment: help, wrong words, what is missing, and when it installs again."""

import importlib.machinery
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = ("api", "worker", "migrate", "account", "demo", "test", "check", "schema")
# Makes an environment's Python that answers as a real one, and notes what it was asked.
FAKE_PYTHON = f"""#!/bin/sh
echo "$@" >>"$NOTES"
case "$1 $2" in
  "-m venv") mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
  "-m pip") exit "${{PIP_CODE:-0}}" ;;
  *) exec {sys.executable} "$@" ;;
esac
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a folder with the script and its locks, and nothing else."""
    for name in ("run", "requirements.lock", "requirements-dev.lock"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def script(tree: Path) -> ModuleType:
    """Return the script as a module, its root in a folder of its own."""
    loader = importlib.machinery.SourceFileLoader("run_script", str(tree / "run"))
    spec = importlib.util.spec_from_loader("run_script", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture
def notes(tree: Path, script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where a Python that stands for the real one notes what it was asked; there is no uv."""
    python = tree / "python3"
    python.write_text(FAKE_PYTHON)
    python.chmod(0o755)
    monkeypatch.setenv("NOTES", str(tree / "notes"))
    monkeypatch.setattr(script, "find_python", lambda: str(python))
    monkeypatch.setattr(script.shutil, "which", lambda _: None)
    return tree / "notes"


def installs(notes: Path) -> list[str]:
    return [line.split()[-1].rsplit("/")[-1] for line in notes.read_text().splitlines() if line.startswith("-m pip")]


def call(tree: Path, *words: str) -> subprocess.CompletedProcess[str]:
    bare = {"HOME": str(tree), "PATH": "/usr/bin:/bin"}
    return subprocess.run([sys.executable, str(tree / "run"), *words], env=bare, capture_output=True, text=True)


def test_help_names_every_command_and_installs_nothing(tree: Path) -> None:
    said = call(tree, "--help")

    assert said.returncode == 0
    for name in COMMANDS:
        assert f"./run {name}" in said.stdout
        assert len(call(tree, name, "--help").stdout.strip().splitlines()) >= 1
    assert not (tree / ".venv").exists()


@pytest.mark.parametrize(
    ("words", "answer"), [(["start"], "no command 'start'"), (["api", "now"], "takes no arguments")]
)
def test_wrong_words_are_refused(tree: Path, words: list[str], answer: str) -> None:
    said = call(tree, *words)

    assert said.returncode == 2
    assert answer in said.stderr
    assert not (tree / ".venv").exists()


def test_an_environment_is_made_once_and_again_when_the_lock_changes(
    tree: Path, script: ModuleType, notes: Path
) -> None:
    assert script.make_environment(developer=False) is None
    assert script.make_environment(developer=False) is None
    assert installs(notes) == ["requirements.lock"]
    assert all("--require-hashes" in line for line in notes.read_text().splitlines() if line.startswith("-m pip"))

    assert script.make_environment(developer=True) is None
    assert script.make_environment(developer=False) is None, "a developer's environment serves a user"
    assert installs(notes) == ["requirements.lock", "requirements-dev.lock"]

    with (tree / "requirements.lock").open("a") as lock:
        lock.write("# newer\n")
    assert script.make_environment(developer=False) is None
    assert installs(notes)[2:] == ["requirements.lock"]


def test_a_failed_installation_is_said_and_tried_again(
    script: ModuleType, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_CODE", "1")
    assert "network" in script.make_environment(developer=False)

    monkeypatch.setenv("PIP_CODE", "0")
    assert script.make_environment(developer=False) is None
    assert len(installs(notes)) == 2


def test_an_environment_whose_python_has_gone_is_made_anew(tree: Path, script: ModuleType, notes: Path) -> None:
    assert script.make_environment(developer=False) is None
    python = tree / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to(tree / "gone")

    assert script.make_environment(developer=False) is None
    assert not python.is_symlink()
    assert len(installs(notes)) == 2


@pytest.mark.parametrize(
    "words",
    [
        "The virtual environment was not created successfully because ensurepip is not available.",
        "/usr/bin/python3: No module named venv",
    ],
)
def test_without_the_venv_module_the_package_is_named(tree: Path, script: ModuleType, notes: Path, words: str) -> None:
    (tree / "python3").write_text(f'#!/bin/sh\necho "{words}" >&2; exit 1\n')

    assert "apt install python3-venv" in script.make_environment(developer=False)
    assert not (tree / ".venv").exists()


def test_without_a_new_python_the_version_is_named(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "find_python", lambda: None)

    assert "3.11" in script.make_environment(developer=False)


def test_an_old_python_is_no_python(tree: Path, script: ModuleType) -> None:
    old = tree / "old"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)

    assert not script.is_new(old)
    assert not script.is_new(tree / "nowhere")
    assert script.is_new(sys.executable)
    assert os.access(ROOT / "run", os.X_OK)

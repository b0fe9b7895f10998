"""Shout: a provider in a package. Its server answers POST /shout {"text"} with {"text", "read", "written"}."""

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import msgspec

from core.errors import UpstreamAuthentication
from core.model_types import ModelKey, Usage
from core.model_types.llm import ChatRequest, FinishPiece, FinishReason, Piece, Text, TextPiece, UsagePiece
from core.plugins import Plugin
from core.provider import Call, Manifest, ModelCard, Provider, Values
from core.secret import Secret
from core.wire.asking import ask, passed_on, read
from core.wire.failures import secrets_of
from core.wire.http import Http


class Answer(msgspec.Struct):
    """What the server answers."""

    text: str
    read: int = 0
    written: int = 0


class Shout(Provider):
    """The provider: what it is, what it can do, and how a credential is tried."""

    def __init__(self, manifest: Manifest, http: Http) -> None:
        self.manifest = manifest
        self.llm = ShoutModels(http)
        self._http = http

    async def validate(self, values: Values, model: ModelKey | None, card: ModelCard | None) -> None:
        """Ask for the server's state, which is free and needs the key."""
        url = f"{values['base_url']}/state"
        await ask(self._http, url, headers=headers_of(values), secrets=secrets_of(values), method="GET")


class ShoutModels:
    """Its language models."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def complete(self, call: Call, request: ChatRequest) -> Sequence[Piece]:
        """Return the whole answer: its pieces, then why it ended and what it used."""
        said = " ".join(part.text for part in request.messages[-1].content if isinstance(part, Text))
        reply = await ask(
            self._http,
            f"{call.values['base_url']}/shout",
            headers=headers_of(call.values),
            body={"text": said, **passed_on(request.provider_options, "text")},
            secrets=secrets_of(call.values),
        )
        answer = read(reply, Answer, secrets_of(call.values))
        usage = Usage(input_tokens=answer.read, output_tokens=answer.written)
        return [TextPiece(answer.text), FinishPiece(FinishReason.STOP), UsagePiece(usage)]

    async def stream(self, call: Call, request: ChatRequest) -> AsyncGenerator[Sequence[Piece], None]:
        """Yield the answer; this server gives it in one."""
        yield await self.complete(call, request)


def headers_of(values: Values) -> dict[str, str]:
    """Return the header that carries the key: the one place where the secret is opened."""
    key = values.get("api_key")
    if not isinstance(key, Secret):
        raise UpstreamAuthentication("The API key is missing.", path=("values", "api_key"))
    return {"authorization": f"Bearer {key.reveal()}"}


PLUGIN = Plugin(build=Shout, manifests=Path(__file__).parent / "manifests")

"""The conformance kit: what Modelyard relies on of an adapter, as tests that any adapter can be put to.

    class TestShout(Conformance):
        manifest = read_manifest(Path("shout/manifests/shout.toml"))
        healthy = {ModelType.LLM: Scenario(body=b'{"text": "HELLO"}')}

        def build(self, http: Http) -> Provider:
            return shout.Shout(self.manifest, http)

        def values(self, url: str) -> Values:
            return {"base_url": url, "api_key": Secret(KEY)}

The adapter is built with a client that reaches loopback alone, and called at a real server that answers as told: well, as
`healthy` says for each type of model, and in every way in which a provider fails. docs/providers.md says how to run it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import aclosing
from functools import cache
from typing import Any, ClassVar

import pytest
import pytest_asyncio

from core.cards import custom_card
from core.errors import (
    ErrorCode,
    ModelyardError,
    UpstreamAuthentication,
    UpstreamProtocol,
    UpstreamRateLimited,
    UpstreamUnavailable,
)
from core.model_types import ModelKey, ModelType
from core.model_types.llm import ChatRequest, FinishPiece, Message, Role, Text
from core.model_types.moderation import ModerationRequest
from core.model_types.rerank import RerankRequest
from core.model_types.speech2text import TranscriptionRequest, audio_of
from core.model_types.text_embedding import EmbeddingRequest
from core.model_types.tts import SpeechRequest
from core.provider import Call, Manifest, ModelCard, Provider, Values
from core.wire.egress import Egress
from core.wire.http import Http
from tests.fake_provider import FakeProvider, Scenario
from tests.waiting import LIMIT_S

KEY = "sk-conformance-0123456789abcdef"
WAV = b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x80\x3e\0\0\2\0\x10\0data\0\0\0\0"
_on_a_loop = pytest.mark.asyncio(loop_scope="function")  # said here, as a run elsewhere has settings of its own

CAPABILITIES: Mapping[ModelType, str] = {
    ModelType.LLM: "llm",
    ModelType.TEXT_EMBEDDING: "text_embedding",
    ModelType.RERANK: "rerank",
    ModelType.SPEECH2TEXT: "speech2text",
    ModelType.TTS: "tts",
    ModelType.MODERATION: "moderation",
}

_TOLD = b'{"error": {"message": "refused, with your key KEY", "type": "refusal"}}'
_PAGE = b"<!DOCTYPE html><html><body>It works!</body></html>"
REFUSALS: Mapping[str, tuple[Scenario, set[ErrorCode]]] = {
    "401": (Scenario(status=401, body=_TOLD), {ErrorCode.UPSTREAM_AUTHENTICATION}),
    "403": (Scenario(status=403, body=_TOLD), {ErrorCode.UPSTREAM_PERMISSION}),
    "404": (Scenario(status=404, body=_TOLD), {ErrorCode.UPSTREAM_MODEL_NOT_FOUND}),
    "429": (Scenario(status=429, body=_TOLD), {ErrorCode.UPSTREAM_RATE_LIMITED}),
    "429 with Retry-After": (
        Scenario(status=429, body=_TOLD, headers={"retry-after": "7"}),
        {ErrorCode.UPSTREAM_RATE_LIMITED},
    ),
    "500": (Scenario(status=500, body=_TOLD), {ErrorCode.UPSTREAM_UNAVAILABLE}),
    "502 as a web page": (
        Scenario(status=502, body=_PAGE, content_type="text/html"),
        {ErrorCode.UPSTREAM_UNAVAILABLE},
    ),
    "503": (Scenario(status=503, body=_TOLD), {ErrorCode.UPSTREAM_OVERLOADED, ErrorCode.UPSTREAM_UNAVAILABLE}),
    "529": (Scenario(status=529, body=_TOLD), {ErrorCode.UPSTREAM_OVERLOADED}),
    "a redirect": (
        Scenario(status=307, headers={"location": "http://127.0.0.1:1/"}, body=b""),
        {ErrorCode.UPSTREAM_BAD_REQUEST},
    ),
    "a web page": (Scenario(body=_PAGE, content_type="text/html"), {ErrorCode.UPSTREAM_PROTOCOL}),
    "nothing": (Scenario(body=b""), {ErrorCode.UPSTREAM_PROTOCOL}),
    "half of something": (Scenario(body=b'{"choi'), {ErrorCode.UPSTREAM_PROTOCOL}),
    "a hang-up": (Scenario(hangs_up=True), {ErrorCode.UPSTREAM_UNAVAILABLE}),
}
"""How a provider fails, and what that is called here."""


@cache
def _server() -> FakeProvider:
    """Return the one server of a run; it ends with the process."""
    return FakeProvider().start()


class Conformance:
    """Tests of one adapter; a subclass says which, by `manifest`, `build`, `values` and `healthy`.

    `healthy` is how the server answers well, for each type of model; where it is left out the server speaks the dialect
    that the path of the request tells. `voice` is one that the adapter takes. `free_posts` are the paths that a
    validation may post to, as that asks no model and costs nothing.
    """

    manifest: ClassVar[Manifest]
    healthy: ClassVar[Mapping[ModelType, Scenario]] = {}
    voice: ClassVar[str] = "voice"
    free_posts: ClassVar[Collection[str]] = ()

    def build(self, http: Http) -> Provider:
        """Return the adapter."""
        raise NotImplementedError

    def values(self, url: str) -> Values:
        """Return a credential's opened values whose calls go to the server at `url` (without a path)."""
        raise NotImplementedError

    def validates_well(self, server: FakeProvider) -> None:
        """Let the server answer a validation well; by default it lists models as OpenAI does."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Try every type of model that the manifest names, and every failure."""
        if "kind" in metafunc.fixturenames:
            metafunc.parametrize("kind", self.manifest.model_types, ids=str)
        if "refusal" in metafunc.fixturenames:
            metafunc.parametrize("refusal", REFUSALS)

    @pytest.fixture
    def server(self) -> FakeProvider:
        """Return the server, with nothing said and nothing asked."""
        server = _server()
        server.reset()
        return server

    @pytest_asyncio.fixture(loop_scope="function")
    async def http(self) -> AsyncIterator[Http]:
        """Return a client that reaches loopback alone."""
        async with Http.open(egress=Egress(["127.0.0.1:*"])) as client:
            yield client

    @pytest.fixture
    def adapter(self, http: Http) -> Provider:
        """Return the adapter."""
        return self.build(http)

    def url(self, server: FakeProvider) -> str:
        """Return where the server is."""
        return f"http://{server.address}"

    def card(self, kind: ModelType) -> ModelCard:
        """Return the first model of a type that the manifest lists, or a custom one."""
        listed = (card for card in self.manifest.models if card.type is kind)
        return next(listed, custom_card(self.manifest, "m", kind, {}))

    def call(self, kind: ModelType, url: str) -> Call:
        """Return a call of a model."""
        card = self.card(kind)
        return Call(model=card.name, card=card, values=self.values(url))

    async def ask(self, adapter: Provider, kind: ModelType, url: str, *, streaming: bool = True) -> Any:
        """Ask a model of a type for something small and return all that it gave."""
        return await ask(adapter, kind, self.call(kind, url), streaming=streaming, voice=self.voice)

    async def refused(self, adapter: Provider, kind: ModelType, url: str, *, streaming: bool = True) -> ModelyardError:
        """Return how a call fails, which must be by an error of Modelyard."""
        with pytest.raises(ModelyardError) as raised:
            await self.ask(adapter, kind, url, streaming=streaming)
        return raised.value

    # ---- what is asked of every adapter

    def test_what_the_manifest_names_is_there_and_nothing_else(self, adapter: Provider) -> None:
        """A type that the manifest promises and the adapter lacks would fail in every call."""
        there = {kind for kind, name in CAPABILITIES.items() if getattr(adapter, name) is not None}

        assert set(self.manifest.model_types) <= there
        assert adapter.manifest is self.manifest

    @_on_a_loop
    async def test_it_answers(self, adapter: Provider, server: FakeProvider, kind: ModelType) -> None:
        """A healthy answer is read; that of a language model ends with its finish, streamed or not."""
        self._answers_well(server, kind)

        streamed = await self.ask(adapter, kind, self.url(server))
        whole = await self.ask(adapter, kind, self.url(server), streaming=False)

        assert streamed
        assert whole
        if kind is ModelType.LLM:
            for pieces in (streamed, whole):
                assert [type(piece) for piece in pieces].count(FinishPiece) == 1
        assert all(KEY not in request.path for request in server.requests), "a key belongs into a header"

    @_on_a_loop
    async def test_a_failure_has_its_name(
        self, adapter: Provider, server: FakeProvider, kind: ModelType, refusal: str
    ) -> None:
        """Every way to fail is named, streamed and whole alike, with the wait that was asked for and without the key."""
        scenario, codes = REFUSALS[refusal]
        server.answers(scenario)

        for streaming in (True, False):
            error = await self.refused(adapter, kind, self.url(server), streaming=streaming)

            assert error.code in codes, error
            assert KEY not in error.message
            if isinstance(error, UpstreamRateLimited):
                assert error.retry_after == (7.0 if refusal.endswith("Retry-After") else None)

    @_on_a_loop
    async def test_nobody_there_is_unavailable(self, adapter: Provider, kind: ModelType) -> None:
        """Nothing listens at the address."""
        assert isinstance(await self.refused(adapter, kind, "http://127.0.0.1:1"), UpstreamUnavailable)

    @_on_a_loop
    async def test_an_address_that_is_not_allowed_is_not_reached(self, adapter: Provider, kind: ModelType) -> None:
        """The client's guard refuses private addresses; an adapter that opens connections of its own would not."""
        error = await self.refused(adapter, kind, "http://10.0.0.1:80")

        assert isinstance(error, UpstreamUnavailable)

    @_on_a_loop
    async def test_leaving_closes_the_connection(
        self, adapter: Provider, server: FakeProvider, kind: ModelType
    ) -> None:
        """A call that is cancelled while the provider is silent leaves nothing open."""
        server.answers(Scenario(never_answers=True))
        asking = asyncio.create_task(self.ask(adapter, kind, self.url(server)))
        while not server.answering:
            assert not asking.done(), asking
            await asyncio.sleep(0.005)

        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

        await asyncio.to_thread(server.wait_until_quiet)

    @_on_a_loop
    async def test_a_credential_is_tried_for_free(self, adapter: Provider, server: FakeProvider) -> None:
        """Validation passes at a healthy server, by requests that do not ask a model."""
        self.validates_well(server)

        await adapter.validate(self.values(self.url(server)), *self._validated())

        assert server.requests
        for request in server.requests:
            assert request.method == "GET" or request.path in self.free_posts, "or name it in `free_posts`"

    @_on_a_loop
    async def test_a_wrong_key_is_refused_for_good(self, adapter: Provider, server: FakeProvider) -> None:
        """What says no to a key makes the credential INVALID."""
        server.answers(REFUSALS["401"][0])

        with pytest.raises(UpstreamAuthentication) as raised:
            await adapter.validate(self.values(self.url(server)), *self._validated())

        assert KEY not in raised.value.message

    @_on_a_loop
    @pytest.mark.parametrize("failing", ["500", "429", "a hang-up"])
    async def test_a_bad_moment_is_no_refusal(self, adapter: Provider, server: FakeProvider, failing: str) -> None:
        """What tells nothing of the key leaves the credential as it is."""
        server.answers(REFUSALS[failing][0])

        with pytest.raises((UpstreamUnavailable, UpstreamProtocol, UpstreamRateLimited)):
            await adapter.validate(self.values(self.url(server)), *self._validated())

    # ----

    def _answers_well(self, server: FakeProvider, kind: ModelType) -> None:
        if kind in self.healthy:
            server.answers(self.healthy[kind])

    def _validated(self) -> tuple[ModelKey | None, ModelCard | None]:
        """Return the model that a credential is tried for: none, where the provider has credentials of its own."""
        if self.manifest.credential_form:
            return None, None
        card = self.card(self.manifest.model_types[0])
        return ModelKey(provider=self.manifest.name, name=card.name, type=card.type), card


async def ask(adapter: Provider, kind: ModelType, call: Call, *, streaming: bool = True, voice: str = "voice") -> Any:
    """Ask a model of a type for something small and return all that it gave."""
    async with asyncio.timeout(LIMIT_S):
        if kind is ModelType.LLM:
            return await _chat(adapter, call, streaming)
        if kind is ModelType.TTS:
            return await _speak(adapter, call, voice)
        return await _ASKING[kind](adapter, call)


async def _chat(adapter: Provider, call: Call, streaming: bool) -> Any:
    assert adapter.llm is not None
    request = ChatRequest(messages=(Message(role=Role.USER, content=(Text("Hello"),)),))
    if not streaming:
        return list(await adapter.llm.complete(call, request))
    async with aclosing(adapter.llm.stream(call, request)) as batches:
        return [piece async for batch in batches for piece in batch]


async def _embed(adapter: Provider, call: Call) -> Any:
    assert adapter.text_embedding is not None
    found = await adapter.text_embedding.embed(call, EmbeddingRequest(texts=("one", "two")))
    assert len(found.vectors) == 2
    return found


async def _rerank(adapter: Provider, call: Call) -> Any:
    assert adapter.rerank is not None
    found = await adapter.rerank.rerank(call, RerankRequest(query="one", documents=("one", "two")))
    assert {hit.index for hit in found.hits} <= {0, 1}
    return found.hits


async def _transcribe(adapter: Provider, call: Call) -> Any:
    assert adapter.speech2text is not None
    audio = audio_of(WAV, "a.wav")
    assert audio is not None
    return (await adapter.speech2text.transcribe(call, TranscriptionRequest(audio=audio))).text


async def _speak(adapter: Provider, call: Call, voice: str) -> Any:
    assert adapter.tts is not None
    request = SpeechRequest(text="Hello", voice=voice, format=_usual_format(call.card))
    async with aclosing(adapter.tts.speak(call, request)) as sound:
        return b"".join([data async for data in sound if isinstance(data, bytes)])


def _usual_format(card: ModelCard) -> str | None:
    formats = card.properties.get("formats")
    return card.properties.get("default_format") or (formats[0] if formats else None)


async def _moderate(adapter: Provider, call: Call) -> Any:
    assert adapter.moderation is not None
    return (await adapter.moderation.moderate(call, ModerationRequest(text="Hello"))).categories


_ASKING: Mapping[ModelType, Callable[[Provider, Call], Awaitable[Any]]] = {
    ModelType.TEXT_EMBEDDING: _embed,
    ModelType.RERANK: _rerank,
    ModelType.SPEECH2TEXT: _transcribe,
    ModelType.MODERATION: _moderate,
}

"""The providers whose dialects the fake provider speaks, and how they are called."""

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from core.cards import custom_card
from core.catalog import discover
from core.errors import ModelyardError
from core.model_types import ModelType
from core.model_types.llm import ChatRequest, Message, Piece, Role, Text
from core.provider import Call, Provider, Value
from core.secret import Secret
from core.wire.http import Http
from tests.fake_provider import FakeProvider
from tests.wire.recordings import Outcome, outcome_of

KEY = "sk-test-0123456789abcdefghij"
REQUEST = ChatRequest(messages=(Message(role=Role.USER, content=(Text("hi"),)),))


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A provider, where its API begins on the server, more values of its credential, and whether it filters content.

    `address` is the field of its credential that says where it is. `asks_usage` False: usage comes with the last chunk,
    unasked.
    """

    provider: str
    base_path: str = ""
    address: str = "base_url"
    asks_usage: bool = True
    values: Mapping[str, str] = field(default_factory=dict)
    filters: bool = True

    def __str__(self) -> str:
        return "-".join([self.provider, *self.values.values()])

    def build(self, http: Http) -> Provider:
        """Return the provider that ships."""
        return discover(http, echo=False).providers[self.provider]

    def call(self, server: FakeProvider, model: str = "m", key: str = KEY) -> Call:
        """Return a call of a custom model."""
        return self.call_at(f"{server.root}{self.base_path}", model, key)

    def call_at(self, base_url: str, model: str = "m", key: str = KEY) -> Call:
        """Return a call of a custom model somewhere else."""
        manifest = _MANIFESTS[self.provider]
        card = custom_card(manifest, model, ModelType.LLM, self.values)
        values: dict[str, Value] = {self.address: base_url, "api_key": Secret(key), **self.values}
        return Call(model=model, card=card, values=values)


BY_MANIFEST = ("mistral", "groq", "deepseek", "openrouter", "together", "fireworks", "perplexity", "xai")
_UNASKED = ("mistral", "perplexity")
_DEPLOYED = {"deployment": "mine", "auth": "key"}
NOBODY: Http = None  # type: ignore[assignment]
_MANIFESTS = {name: one.manifest for name, one in discover(NOBODY, echo=False).providers.items()}

ADAPTERS = (
    Adapter(provider="openai", base_path="/v1"),
    Adapter(provider="openai", base_path="/v1", values={"api": "responses"}),
    Adapter(provider="openai_compatible", base_path="/v1"),
    Adapter(provider="anthropic"),
    Adapter(provider="gemini"),
    Adapter(provider="cohere", base_path="/cohere"),
    Adapter(provider="ollama", filters=False),
    Adapter(provider="azure_openai", address="endpoint", values={**_DEPLOYED, "api_style": "v1"}),
    Adapter(
        provider="azure_openai",
        address="endpoint",
        values={**_DEPLOYED, "api_style": "dated", "api_version": "2024-10-21"},
    ),
    Adapter(provider="xinference", address="server_url"),
    *(Adapter(provider=name, base_path="/v1", asks_usage=name not in _UNASKED) for name in BY_MANIFEST),
)
"""Every provider that ships and has language models."""


async def streamed(
    provider: Provider, call: Call, request: ChatRequest = REQUEST
) -> tuple[Outcome, ModelyardError | None]:
    """Return what a stream gave, and how it failed."""
    assert provider.llm is not None
    pieces: list[Piece] = []
    try:
        async with aclosing(provider.llm.stream(call, request)) as batches:
            async for batch in batches:
                pieces += batch
    except ModelyardError as error:
        return outcome_of(pieces, error.code), error
    return outcome_of(pieces), None


async def completed(
    provider: Provider, call: Call, request: ChatRequest = REQUEST
) -> tuple[Outcome, ModelyardError | None]:
    """Return what a whole answer gave, and how it failed."""
    assert provider.llm is not None
    try:
        return outcome_of(await provider.llm.complete(call, request)), None
    except ModelyardError as error:
        return outcome_of([], error.code), error

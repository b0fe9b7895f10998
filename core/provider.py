"""What a provider is: its manifest, its capabilities (absent ones are None), and one call of it."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any, Protocol

from core.model_types import ModelFeature, ModelKey, ModelType, Usage
from core.model_types.llm import ChatRequest, Piece
from core.model_types.moderation import ModerationRequest, Verdict
from core.model_types.rerank import Ranking, RerankRequest
from core.model_types.speech2text import Transcript, TranscriptionRequest
from core.model_types.text_embedding import EmbeddingRequest, Embeddings
from core.model_types.tts import SpeechRequest, Voice
from core.secret import Secret

Value = str | Secret
Values = Mapping[str, Value]
"""The opened values of a credential: text by field name, secrets closed."""


class ConfigurationMethod(StrEnum):
    """How a workspace can configure a provider."""

    PREDEFINED_MODEL = "PREDEFINED_MODEL"
    CUSTOMIZABLE_MODEL = "CUSTOMIZABLE_MODEL"
    FETCH_FROM_REMOTE = "FETCH_FROM_REMOTE"


class FormFieldType(StrEnum):
    """How a field of a credential form is entered."""

    TEXT = "TEXT"
    SECRET = "SECRET"
    URL = "URL"
    NUMBER = "NUMBER"
    SELECT = "SELECT"
    RADIO = "RADIO"
    SWITCH = "SWITCH"


@dataclass(frozen=True, slots=True, kw_only=True)
class FormCondition:
    """Shows a field or option while another field has this value; the model type counts as field `model_type`."""

    field: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FormOption:
    """One value that a SELECT or RADIO offers."""

    value: str
    label: str
    show_on: tuple[FormCondition, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FormField:
    """One field of a credential form. Shown when `show_on` is empty or any of its conditions holds."""

    name: str
    label: str
    type: FormFieldType
    required: bool = False
    default: str | None = None
    placeholder: str | None = None
    help: str | None = None
    max_length: int | None = None
    decides_host: bool = False
    options: tuple[FormOption, ...] = ()
    show_on: tuple[FormCondition, ...] = ()


class ParameterType(StrEnum):
    """What a parameter's value is; TEXT is a longer STRING."""

    FLOAT = "FLOAT"
    INT = "INT"
    STRING = "STRING"
    BOOLEAN = "BOOLEAN"
    TEXT = "TEXT"


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterRule:
    """What values a parameter of a model may have; `precision` is the most decimals of a FLOAT."""

    name: str
    label: str
    type: ParameterType
    help: str | None = None
    required: bool = False
    default: Any = None
    min: float | None = None
    max: float | None = None
    precision: int | None = None
    options: tuple[str, ...] = ()


class PricingUnit(StrEnum):
    """What is counted for a price."""

    TOKEN = "TOKEN"
    CHARACTER = "CHARACTER"
    SECOND = "SECOND"
    REQUEST = "REQUEST"


@dataclass(frozen=True, slots=True, kw_only=True)
class LongInputPrice:
    """What a million tokens cost in a call whose input is longer than `above_input_tokens`."""

    above_input_tokens: int
    input: Decimal
    output: Decimal | None = None
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None
    hour_cache_write: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pricing:
    """The price of one million units of each kind, in major units of `currency`; `beyond` for calls with long input."""

    currency: str
    input: Decimal
    output: Decimal | None = None
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None
    hour_cache_write: Decimal | None = None
    unit: PricingUnit = PricingUnit.TOKEN
    overridden: bool = False
    beyond: LongInputPrice | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What is known of a model: the manifest's entry, or what a custom model's form values say."""

    name: str
    label: str
    type: ModelType
    features: frozenset[ModelFeature] = frozenset()
    context_window: int | None = None
    max_output_tokens: int | None = None
    properties: Mapping[str, Any] = field(default_factory=dict)
    parameter_rules: tuple[ParameterRule, ...] = ()
    pricing: Pricing | None = None
    deprecated: bool = False
    position: int = 0

    @property
    def vocabulary(self) -> str | None:
        """Return the name of the vocabulary that the model reads by, where that is published."""
        name = self.properties.get("vocabulary")
        return name if isinstance(name, str) else None

    @property
    def image_tokens(self) -> int | None:
        """Return the most tokens that the model makes of one image, where its provider says so."""
        most = self.properties.get("image_tokens")
        return most if isinstance(most, int) and most > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteModel:
    """What a provider's own list tells of a model; None where it does not tell. `gone`: the list has it no more."""

    name: str
    type: ModelType
    label: str | None = None
    features: frozenset[ModelFeature] | None = None
    context_window: int | None = None
    max_output_tokens: int | None = None
    gone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomModel:
    """Which form fields describe a custom model: limits, properties, and for each feature the switch that gives it.

    `base` is the field that names one of the manifest's base models, of which everything else is taken.
    """

    context_window: str | None = None
    max_output_tokens: str | None = None
    base: str | None = None
    features: Mapping[ModelFeature, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a provider is, as data. `options` are the adapter's own (base URL, quirks).

    A `keyless` provider serves calls without any credential.
    """

    name: str
    label: str
    description: str
    model_types: tuple[ModelType, ...]
    methods: frozenset[ConfigurationMethod]
    dialect: str
    aliases: tuple[str, ...] = ()
    icon_url: str | None = None
    help_url: str | None = None
    credential_form: tuple[FormField, ...] = ()
    model_credential_form: tuple[FormField, ...] = ()
    models: tuple[ModelCard, ...] = ()
    base_models: tuple[ModelCard, ...] = ()
    defaults: Mapping[ModelType, ModelCard] = field(default_factory=dict)
    custom_model: CustomModel = field(default_factory=CustomModel)
    keyless: bool = False
    position: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    _cards: Mapping[tuple[str, ModelType], ModelCard] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_cards", {(card.name, card.type): card for card in self.models})

    def model(self, name: str, model_type: ModelType) -> ModelCard | None:
        """Return the predefined model of that name and type."""
        return self._cards.get((name, model_type))


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of a model at its provider: the name it has there, what is known of it, and opened credential values."""

    model: str
    card: ModelCard
    values: Values


class LanguageModels(Protocol):
    """The LLM capability of a provider.

    Both ways yield pieces; a stream ends with a FinishPiece before it stops, else the adapter raises UpstreamProtocol.
    Errors are the Upstream* classes, ContextLengthExceeded and ContentFiltered, with messages free of secrets.
    """

    def stream(self, call: Call, request: ChatRequest) -> AsyncGenerator[Sequence[Piece], None]:
        """Yield the pieces of each network read as they come, none of one that brings but a sign of life.

        Closing it closes the upstream connection.
        """
        ...

    async def complete(self, call: Call, request: ChatRequest) -> Sequence[Piece]:
        """Return all pieces of an answer that is not streamed."""
        ...


class EmbeddingModels(Protocol):
    """The capability to embed texts; errors as those of `LanguageModels`, here and below."""

    @property
    def max_texts(self) -> int:
        """Return how many texts one request takes, where the model's card has no `max_texts`."""
        ...

    async def embed(self, call: Call, request: EmbeddingRequest) -> Embeddings:
        """Return a vector for each text, in their order."""
        ...


class Rerankers(Protocol):
    """The capability to order documents by how well they answer."""

    async def rerank(self, call: Call, request: RerankRequest) -> Ranking:
        """Return hits in any order; `top_n` and `score_threshold` may be left to the caller."""
        ...


class Transcribers(Protocol):
    """The capability to write down speech."""

    async def transcribe(self, call: Call, request: TranscriptionRequest) -> Transcript:
        """Return the words."""
        ...


class Speakers(Protocol):
    """The capability to speak text."""

    def speak(self, call: Call, request: SpeechRequest) -> AsyncGenerator[bytes | Usage, None]:
        """Yield the sound as it comes, in `request.format`; closing it closes the upstream connection.

        Who is told what was used, besides the characters of the text, yields that too.
        """
        ...

    async def voices(self, call: Call) -> Sequence[Voice] | None:
        """Return who can speak; None where the provider has no list of them."""
        ...


class Moderators(Protocol):
    """The capability to judge whether text is harmful."""

    async def moderate(self, call: Call, request: ModerationRequest) -> Verdict:
        """Return what the model finds."""
        ...


class ModelLists(Protocol):
    """The capability to list the models that a credential may call."""

    async def list_models(self, values: Values) -> Sequence[RemoteModel]:
        """Return them in any order; errors as those of `LanguageModels`."""
        ...


class Provider(ABC):
    """A provider that can be called. Capabilities that it lacks are None."""

    manifest: Manifest
    llm: LanguageModels | None = None
    text_embedding: EmbeddingModels | None = None
    rerank: Rerankers | None = None
    speech2text: Transcribers | None = None
    tts: Speakers | None = None
    moderation: Moderators | None = None
    listing: ModelLists | None = None

    async def check(self, values: Values) -> None:
        """Refuse values that can never work, without asking anybody; an adapter that knows of none lets all pass.

        Raises an error as `validate` does, with the name of the field as its path.
        """
        return

    @abstractmethod
    async def validate(self, values: Values, model: ModelKey | None, card: ModelCard | None) -> None:
        """Ask the provider by its cheapest free call whether the credential works.

        `model` is None for a provider-level credential. Raises an Upstream* error or InvalidInput whose message holds
        our hint and the provider's own words (at most 300 characters, without secrets). Only UpstreamAuthentication,
        UpstreamPermission, UpstreamModelNotFound and UpstreamBadRequest are definite refusals.
        """

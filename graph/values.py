"""Small values that several nouns show, read from core's own."""

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import cast

import msgspec

from core import model_types, provider
from core.entities import BudgetPeriod, QuotaUnit
from core.model_types import ModelFeature, ModelType, llm
from core.model_types.llm import ProviderType
from core.plan import ModelReference
from core.provider import PricingUnit
from graph.problems import UserError
from graph.scalars import BigInt
from graph.types import attribute, described, input_type, object_type, resolved

described(
    ModelType,
    "What a model does.",
    LLM="Writes text, from text and other media.",
    TEXT_EMBEDDING="Turns text into vectors.",
    RERANK="Orders documents by how well they answer a query.",
    SPEECH2TEXT="Writes down speech.",
    TTS="Speaks text.",
    MODERATION="Judges whether text is harmful.",
)
described(
    QuotaUnit,
    "What a quota counts.",
    TOKENS="Tokens, of models that are priced per token.",
    CREDITS="Credits: each model has its price in them.",
    TIMES="Calls.",
)
described(
    ModelFeature,
    "What a model can take or give beyond text.",
    TOOL_CALL="Asks for calls of tools.",
    MULTI_TOOL_CALL="Asks for several calls at once.",
    STREAM_TOOL_CALL="Streams the arguments of calls.",
    VISION="Takes images.",
    DOCUMENT="Takes documents.",
    VIDEO="Takes videos.",
    AUDIO="Takes audio.",
    STRUCTURED_OUTPUT="Answers in JSON, of a schema if wanted.",
    REASONING="Shows its reasoning.",
)
described(
    ProviderType,
    "Whose credentials serve a call.",
    SYSTEM="The installation's, against a quota.",
    CUSTOM="The workspace's own.",
)
described(
    PricingUnit,
    "What is counted for a price.",
    TOKEN="Tokens.",
    CHARACTER="Characters of input.",
    SECOND="Seconds of audio.",
    REQUEST="Requests.",
)


described(
    BudgetPeriod,
    "How often what was used is forgotten, in UTC.",
    DAY="Every day.",
    WEEK="Every week, on Monday.",
    MONTH="Every month, on its first day.",
    TOTAL="Never.",
)


@object_type
class ModelKey:
    """A model's name within a workspace."""

    provider: str = attribute("The provider's canonical name.")
    name: str = attribute("The model's name.")
    type: ModelType = attribute("What the model does.")

    @classmethod
    def of(cls, key: model_types.ModelKey) -> "ModelKey":
        """Return a key as the type of the schema that reads it."""
        return cast("ModelKey", key)


@input_type
class ModelKeyInput:
    """Names a model of a workspace."""

    provider: str = attribute("The provider, by its name or an alias.")
    name: str = attribute("The model's name.")
    type: ModelType = attribute("What the model does.")

    def key(self) -> model_types.ModelKey:
        """Return the key as it was given; the provider may be an alias."""
        return model_types.ModelKey(provider=self.provider, name=self.name, type=self.type)


@input_type
class ModelReferenceInput:
    """Names a model where the type is known."""

    provider: str = attribute("The provider, by its name or an alias.")
    name: str = attribute("The model's name.")

    def reference(self) -> ModelReference:
        """Return what core takes."""
        return ModelReference(provider=self.provider, name=self.name)


@input_type
class TagInput:
    """A label of a call."""

    name: str = attribute("What it is called, 1 to 256 characters.")
    value: str = attribute("What it says, at most 256 characters.")


@object_type
class Usage:
    """What a call used."""

    input_tokens: BigInt = attribute("Tokens of input, cached ones and cache writes included.")
    output_tokens: BigInt = attribute("Tokens of output, reasoning included.")
    total_tokens: BigInt = attribute("Input plus output.")
    cached_input_tokens: BigInt = attribute("Tokens of input that the provider had in its cache.")
    cache_write_tokens: BigInt = attribute("Tokens of input that the provider wrote into its cache.")
    reasoning_tokens: BigInt = attribute("Tokens of output that were reasoning.")
    characters: BigInt = attribute("Characters of input, where they are what is charged.")
    seconds: float = attribute("Seconds of audio, where they are what is charged.")
    requests: BigInt = attribute("Requests to the provider.")
    estimated: bool = attribute("True where the provider reported nothing and it was counted here.")

    @classmethod
    def of(cls, usage: model_types.Usage | None) -> "Usage | None":
        """Return usage as the type of the schema that reads it."""
        return cast("Usage | None", usage)


@object_type
class Cost:
    """An exact amount of money."""

    amount: Decimal = attribute("The amount in major units.")
    currency: str = attribute("The currency's ISO 4217 code.")

    @classmethod
    def of(cls, cost: llm.Cost | None) -> "Cost | None":
        """Return a cost as the type of the schema that reads it."""
        return cast("Cost | None", cost)


@object_type
class Pricing:
    """The price of one million units of each kind."""

    currency: str = attribute("The currency's ISO 4217 code.")
    input: Decimal = attribute("Of a million units of input.")
    output: Decimal | None = attribute("Of a million tokens of output; null: none is known.")
    cached_input: Decimal | None = attribute("Of a million cached tokens of input; null: as other input.")
    cache_write: Decimal | None = attribute("Of a million tokens written into the cache; null: as other input.")
    hour_cache_write: Decimal | None = attribute(
        "Of a million tokens that are kept in the cache for an hour; null: as other cache writes."
    )
    unit: PricingUnit = attribute("What is counted.")
    overridden: bool = attribute("Whether the workspace set this price in place of the manifest's.")

    @classmethod
    def of(cls, pricing: provider.Pricing | None) -> "Pricing | None":
        """Return a price as the type of the schema that reads it."""
        return cast("Pricing | None", pricing)


@object_type
class Attempt:
    """One try at a provider within an invocation."""

    model: ModelKey = attribute("The model that was tried.")
    credential_name: str | None = attribute(
        "The credential that was used; null without CREDENTIAL_READ, and where none was needed."
    )
    duration: float | None = attribute("How long it took, in seconds; null where that is not known.")
    error: UserError | None = attribute("How it failed; null for one that served.")

    @resolved
    def started_at(self) -> datetime:
        """When it began."""
        return datetime.fromtimestamp(cast("llm.Attempt", self).started_at, UTC)

    @classmethod
    def all_of(cls, attempts: Iterable[llm.Attempt], *, named: bool) -> "list[Attempt]":
        """Return attempts as the type of the schema that reads them, without credentials' names unless `named`."""
        shown = attempts if named else (unnamed(attempt) for attempt in attempts)
        return cast("list[Attempt]", list(shown))


def unnamed(attempt: llm.Attempt) -> llm.Attempt:
    """Return an attempt without the credential's name."""
    return msgspec.structs.replace(attempt, credential_name=None, credential_id=None)


__all__ = [
    "Attempt",
    "Cost",
    "ModelFeature",
    "ModelKey",
    "ModelKeyInput",
    "ModelReferenceInput",
    "ModelType",
    "Pricing",
    "PricingUnit",
    "ProviderType",
    "QuotaUnit",
    "TagInput",
    "Usage",
]

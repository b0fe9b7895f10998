"""The six model types and what they share: keys, features, usage."""

from enum import StrEnum

import msgspec


class ModelType(StrEnum):
    """What a model does."""

    LLM = "LLM"
    TEXT_EMBEDDING = "TEXT_EMBEDDING"
    RERANK = "RERANK"
    SPEECH2TEXT = "SPEECH2TEXT"
    TTS = "TTS"
    MODERATION = "MODERATION"


class ModelFeature(StrEnum):
    """What a model can take or give beyond text."""

    TOOL_CALL = "TOOL_CALL"
    MULTI_TOOL_CALL = "MULTI_TOOL_CALL"
    STREAM_TOOL_CALL = "STREAM_TOOL_CALL"
    VISION = "VISION"
    DOCUMENT = "DOCUMENT"
    VIDEO = "VIDEO"
    AUDIO = "AUDIO"
    STRUCTURED_OUTPUT = "STRUCTURED_OUTPUT"
    REASONING = "REASONING"


class ModelKey(msgspec.Struct, frozen=True, kw_only=True):
    """A model's name within a workspace: provider (canonical), name and type."""

    provider: str
    name: str
    type: ModelType


MOST = 2**40
"""More of anything than one call can use: a provider that reports more must not make the sums overflow."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What a call used. `input_tokens` includes cached and cache-write tokens, `output_tokens` includes reasoning.

    Those of the cache writes that are kept for an hour cost more, and are told for the price alone.
    `estimated` is true where the provider reported nothing and the counts are ours. The two `billed` counts are what is
    charged, where a provider says that it is something else than what was read and written.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    hour_cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    characters: int = 0
    seconds: float = 0.0
    requests: int = 1
    estimated: bool = False
    billed_input_tokens: int | None = None
    billed_output_tokens: int | None = None

    @property
    def total_tokens(self) -> int:
        """Return input plus output."""
        return self.input_tokens + self.output_tokens

    def credible(self) -> "Usage":
        """Return it with every count between 0 and `MOST`: what a provider reports may be any number."""
        wrong = {name: count for name in _COUNTS if not 0 <= (count := getattr(self, name) or 0) <= MOST}
        if not wrong:
            return self
        return msgspec.structs.replace(self, **{name: 0 if count < 0 else MOST for name, count in wrong.items()})

    def plus(self, other: "Usage") -> "Usage":
        """Return what two requests used together; estimated where one of them is."""
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cached_input_tokens=self.cached_input_tokens + other.cached_input_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            hour_cache_write_tokens=self.hour_cache_write_tokens + other.hour_cache_write_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
            characters=self.characters + other.characters,
            seconds=self.seconds + other.seconds,
            requests=self.requests + other.requests,
            estimated=self.estimated or other.estimated,
            **self._billed_with(other),
        )

    def _billed_with(self, other: "Usage") -> dict[str, int]:
        """Return what two requests are charged for, where that is said of one of them."""
        if self.billed_input_tokens is None and other.billed_input_tokens is None:
            return {}
        return {
            "billed_input_tokens": sum(_either(one.billed_input_tokens, one.input_tokens) for one in (self, other)),
            "billed_output_tokens": sum(_either(one.billed_output_tokens, one.output_tokens) for one in (self, other)),
        }


_COUNTS = tuple(name for name in Usage.__struct_fields__ if name != "estimated")


def _either(said: int | None, counted: int) -> int:
    return counted if said is None else said


_BYTES_PER_TOKEN = 4


def estimated_tokens(*texts: str) -> int:
    """Return about how many tokens texts have, four bytes to each: where a provider reports nothing."""
    return sum(-(-len(text.encode("utf-8", "surrogatepass")) // _BYTES_PER_TOKEN) for text in texts)

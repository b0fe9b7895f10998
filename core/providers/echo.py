"""The provider `echo`: built in, deterministic, free. It says back the last thing that a person said."""

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence

from core.model_types import ModelFeature, ModelKey, Usage
from core.model_types.llm import (
    ChatRequest,
    FinishPiece,
    FinishReason,
    Piece,
    ReasoningPiece,
    Role,
    Text,
    TextPiece,
    ToolCallPiece,
    ToolChoiceMode,
    UsagePiece,
)
from core.provider import Call, Manifest, ModelCard, Provider, Values
from core.wire.http import Http

_WORD = re.compile(r"\s*\S+\s*$|\s*\S+")


class Echo(Provider):
    """Both the provider and its models; it asks nobody."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.llm = self

    async def stream(self, call: Call, request: ChatRequest) -> AsyncGenerator[Sequence[Piece], None]:
        """Yield a word at a time, `delay_ms` apart."""
        delay = request.parameters.get("delay_ms", 0) / 1000
        before: Piece | None = None
        for piece in _answer(call, request):
            await asyncio.sleep(delay if isinstance(before, TextPiece) and isinstance(piece, TextPiece) else 0)
            yield (piece,)
            before = piece

    async def complete(self, call: Call, request: ChatRequest) -> Sequence[Piece]:
        """Return the whole echo."""
        return _answer(call, request)

    async def validate(self, values: Values, model: ModelKey | None, card: ModelCard | None) -> None:
        """Accept everything."""


def build(manifest: Manifest, http: Http) -> Provider:
    """Return the provider; it needs no connection."""
    return Echo(manifest)


def _answer(call: Call, request: ChatRequest) -> list[Piece]:
    said = _last_words(request)
    if request.tools and _wants_tool(request):
        name = request.tool_choice.tool if request.tool_choice and request.tool_choice.tool else request.tools[0].name
        pieces: list[Piece] = [ToolCallPiece(0, "call_echo_0", name, ""), ToolCallPiece(0, None, None, "{}")]
        return [*pieces, FinishPiece(FinishReason.TOOL_CALLS), _usage(request, 1)]
    words: Sequence[str] = _WORD.findall(f"{call.values.get('prefix', '')} {said}".strip())
    if request.response_format is not None:
        words = ["{", "}"] if request.response_format.json_schema else ['{"echo":', "true}"]
    limit = request.parameters.get("max_tokens") or len(words)
    finish = FinishReason.LENGTH if limit < len(words) else FinishReason.STOP
    spoken: list[Piece] = [TextPiece(word) for word in words[:limit]]
    if ModelFeature.REASONING in call.card.features:
        spoken.insert(0, ReasoningPiece(f"I was told {len(words)} words and will say them back."))
    return [*spoken, FinishPiece(finish), _usage(request, len(words[:limit]))]


def _wants_tool(request: ChatRequest) -> bool:
    choice = request.tool_choice
    return choice is not None and (choice.mode is ToolChoiceMode.REQUIRED or choice.tool is not None)


def _last_words(request: ChatRequest) -> str:
    spoken = [message for message in request.messages if message.role in {Role.USER, Role.TOOL}]
    last = (spoken or list(request.messages))[-1]
    return " ".join(part.text for part in last.content if isinstance(part, Text))


def _usage(request: ChatRequest, written: int) -> UsagePiece:
    read = sum(
        len(part.text.split()) for message in request.messages for part in message.content if isinstance(part, Text)
    )
    return UsagePiece(Usage(input_tokens=read, output_tokens=written))

"""A completion request as the JSON body of POST /v1/messages."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import msgspec

from core.continuation import Part, arranged
from core.model_types.llm import (
    ChatRequest,
    Media,
    MediaKind,
    Message,
    Role,
    Text,
    Tool,
    ToolChoice,
    ToolChoiceMode,
)
from core.provider import Call
from core.wire.asking import passed_on
from core.wire.turns import arguments_of, json_schema_of, not_taken, system_text, turns

_MAX_TOKENS = 4096
_LEAST_BUDGET = 1024
_BUDGETS = {"low": 2048, "medium": 8192, "high": 24_576}
_RESERVED = ("model", "messages", "stream")
_CHOICES: Mapping[ToolChoiceMode | None, str] = {
    ToolChoiceMode.AUTO: "auto",
    ToolChoiceMode.NONE: "none",
    ToolChoiceMode.REQUIRED: "any",
    None: "auto",
}


def encode_request(request: ChatRequest, *, call: Call, provider: str, stream: bool) -> bytes:
    """Return the body that asks a model for what `request` says.

    The card's property `thinking` says how the model is asked to reason: `adaptive` (by effort), `budget` (by tokens).

    Raises:
        InvalidInput: a part has no form in this dialect, or provider options name what they may not set.
    """
    parameters = dict(request.parameters)
    max_tokens = parameters.pop("max_tokens", None) or call.card.max_output_tokens or _MAX_TOKENS
    body: dict[str, Any] = {"model": call.model, "max_tokens": max_tokens, "messages": _messages(request, provider)}
    if system := [text for text in system_text(request.messages) if text.strip()]:
        body["system"] = [{"type": "text", "text": text} for text in system]
    output: dict[str, Any] = {}
    effort = parameters.pop("reasoning_effort", None)
    if effort is not None:
        body["thinking"] = _thinking(effort, call.card.properties.get("thinking"), max_tokens)
        if body["thinking"]["type"] == "adaptive":
            output["effort"] = effort
    if request.response_format is not None:
        schema = json_schema_of(request.response_format, "Anthropic")
        output["format"] = {"type": "json_schema", "schema": schema}
    if output:
        body["output_config"] = output
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
        if request.tool_choice is not None:
            body["tool_choice"] = _tool_choice(request.tool_choice)
    if request.stop:
        body["stop_sequences"] = list(request.stop)
    if request.end_user is not None:
        body["metadata"] = {"user_id": request.end_user}
    body.update(parameters)
    _add_options(body, passed_on(request.provider_options, *_RESERVED))
    if stream:
        body["stream"] = True
    return msgspec.json.encode(body)


def _add_options(body: dict[str, Any], options: Mapping[str, Any]) -> None:
    """Add provider options; tools of the provider's own stand beside those of the input."""
    tools = body.get("tools", [])
    body.update(options)
    if tools and isinstance(options.get("tools"), list):
        body["tools"] = [*tools, *options["tools"]]


def _thinking(effort: str, way: object, max_tokens: int) -> dict[str, Any]:
    if effort == "none":
        return {"type": "disabled"}
    if way != "budget":
        return {"type": "adaptive", "display": "summarized"}
    budget = min(_BUDGETS.get(effort, _BUDGETS["high"]), max_tokens - 1)
    return {"type": "enabled", "budget_tokens": budget} if budget >= _LEAST_BUDGET else {"type": "disabled"}


# ---- messages


def _messages(request: ChatRequest, provider: str) -> list[dict[str, Any]]:
    found = []
    for is_assistant, turn in turns(request.messages):
        blocks = []
        for number, message in turn:
            blocks += _own(message, provider, number) if is_assistant else _users(message, number)
        found.append({"role": "assistant" if is_assistant else "user", "content": blocks})
    return found


def _own(message: Message, provider: str, number: int) -> list[dict[str, Any]]:
    path = ("messages", str(number))
    parts = arranged(message, provider, path)
    return [block for part in parts if (block := _own_block(part, message, number, path))]


def _own_block(part: Part, message: Message, number: int, path: tuple[str, ...]) -> dict[str, Any]:
    if part.call is not None:
        place = (*path, "toolCalls", str(message.tool_calls.index(part.call)))
        arguments = arguments_of(part.call, place)
        return {"type": "tool_use", "id": part.call.id, "name": part.call.name, "input": arguments}
    if part.content is None:
        return part.extra
    if isinstance(part.content, Text):
        return {"type": "text", "text": part.content.text} if part.content.text.strip() else {}
    return _block(part.content, number)


def _users(message: Message, number: int) -> list[dict[str, Any]]:
    """Return what is said, without the blank texts that this API refuses; a tool may well have nothing to say."""
    said = (part for part in message.content if not isinstance(part, Text) or part.text.strip())
    blocks = [_block(part, number) for part in said]
    if message.role is not Role.TOOL:
        return blocks
    return [{"type": "tool_result", "tool_use_id": message.tool_call_id, **({"content": blocks} if blocks else {})}]


def _block(part: Text | Media, number: int) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if part.kind is MediaKind.IMAGE:
        return {"type": "image", "source": _source(part, "image/png")}
    if part.kind is MediaKind.DOCUMENT:
        title = {"title": part.filename} if part.filename else {}
        return {"type": "document", "source": _document(part, number), **title}
    raise not_taken(part, number, "images and documents, no audio and no video")


def _document(part: Media, number: int) -> dict[str, Any]:
    kind = (part.mime_type or "application/pdf").lower()
    if part.base64 is None or not kind.startswith("text/"):
        return _source(part, "application/pdf")
    try:
        text = base64.b64decode(part.base64, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise not_taken(part, number, "documents of text as UTF-8") from None
    return {"type": "text", "media_type": "text/plain", "data": text}


def _source(part: Media, default: str) -> dict[str, Any]:
    if part.base64 is None:
        return {"type": "url", "url": part.url}
    return {"type": "base64", "media_type": part.mime_type or default, "data": part.base64}


# ---- tools


def _tool(tool: Tool) -> dict[str, Any]:
    described = {"description": tool.description} if tool.description is not None else {}
    return {"name": tool.name, "input_schema": {"type": "object", **tool.parameters}, **described}


def _tool_choice(choice: ToolChoice) -> dict[str, Any]:
    if choice.tool is not None:
        return {"type": "tool", "name": choice.tool}
    return {"type": _CHOICES[choice.mode]}

"""A completion request as the JSON body of POST /responses."""

from collections.abc import Mapping
from typing import Any

import msgspec

from core.continuation import Part, arranged
from core.errors import CapabilityUnsupported
from core.model_types import ModelFeature
from core.model_types.llm import (
    ChatRequest,
    Media,
    MediaKind,
    Message,
    ResponseFormat,
    Role,
    Text,
    Tool,
    ToolChoice,
)
from core.provider import ModelCard
from core.wire.asking import passed_on
from core.wire.dialects.openai_chat.request import is_strict
from core.wire.turns import not_taken, text_of_parts

_RESERVED = ("model", "input", "stream")
_ENCRYPTED = "reasoning.encrypted_content"


def encode_request(request: ChatRequest, *, model: str, card: ModelCard, provider: str, stream: bool) -> bytes:
    """Return the body that asks `model` for what `request` says; nothing is stored there.

    Raises:
        CapabilityUnsupported: it asks to stop at words.
        InvalidInput: a part has no form in this dialect, or provider options name what they may not set.
    """
    if request.stop:
        raise CapabilityUnsupported(f"The model {card.name!r} cannot be told where to stop.", path=("stop",))
    items = [item for number, message in enumerate(request.messages) for item in _items(message, provider, number)]
    body: dict[str, Any] = {"model": model, "input": items, "store": False}
    if ModelFeature.REASONING in card.features:
        body["include"] = [_ENCRYPTED]
    body.update(_parameters(request.parameters))
    if request.response_format is not None:
        body["text"] = {"format": _format(request.response_format)}
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
        if request.tool_choice is not None:
            body["tool_choice"] = _tool_choice(request.tool_choice)
    if request.end_user is not None:
        body["safety_identifier"] = request.end_user
    _add_options(body, passed_on(request.provider_options, *_RESERVED))
    if stream:
        body["stream"] = True
        body["stream_options"] = {"include_obfuscation": False}
    return msgspec.json.encode(body)


def _parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    body = dict(parameters)
    reasoning = {
        name: value for name in ("effort", "summary") if (value := body.pop(f"reasoning_{name}", None)) is not None
    }
    if "max_tokens" in body:
        body["max_output_tokens"] = body.pop("max_tokens")
    return {**body, "reasoning": reasoning} if reasoning else body


def _add_options(body: dict[str, Any], options: Mapping[str, Any]) -> None:
    """Add provider options; objects and lists of them are added to what the input says."""
    for name, value in options.items():
        own = body.get(name)
        if isinstance(own, dict) and isinstance(value, dict):
            body[name] = {**own, **value}
        elif isinstance(own, list) and isinstance(value, list):
            body[name] = [*own, *value]
        else:
            body[name] = value


# ---- items


def _items(message: Message, provider: str, number: int) -> list[dict[str, Any]]:
    if message.role is Role.TOOL:
        shows = any(isinstance(part, Media) for part in message.content)
        output = [_part(part, number) for part in message.content] if shows else text_of_parts(message)
        return [{"type": "function_call_output", "call_id": message.tool_call_id, "output": output}]
    if message.role is Role.ASSISTANT:
        return [_own(part, number) for part in arranged(message, provider, ("messages", str(number)))]
    content = [_part(part, number) for part in message.content]
    return [{"type": "message", "role": message.role.lower(), "content": content}]


def _own(part: Part, number: int) -> dict[str, Any]:
    if part.call is not None:
        call = part.call
        return {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments}
    if isinstance(part.content, Text):
        text = {"type": "output_text", "text": part.content.text}
        return {"type": "message", "role": "assistant", "content": [text]}
    if part.content is not None:
        raise not_taken(part.content, number, "media of the user's only, not in what the model said")
    return part.extra


def _part(part: Text | Media, number: int) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "input_text", "text": part.text}
    if part.kind is MediaKind.IMAGE:
        return {"type": "input_image", "image_url": part.url or _data_url(part, "image/png")}
    if part.kind is MediaKind.DOCUMENT:
        if part.url is not None:
            return {"type": "input_file", "file_url": part.url}
        name = part.filename or "document.pdf"
        return {"type": "input_file", "filename": name, "file_data": _data_url(part, "application/pdf")}
    raise not_taken(part, number, "images and documents, no audio and no video")


def _data_url(part: Media, default: str) -> str:
    return f"data:{part.mime_type or default};base64,{part.base64}"


# ---- tools and structured output


def _tool(tool: Tool) -> dict[str, Any]:
    described = {"description": tool.description} if tool.description is not None else {}
    strict = is_strict(tool.parameters)
    return {"type": "function", "name": tool.name, "parameters": tool.parameters, "strict": strict, **described}


def _tool_choice(choice: ToolChoice) -> str | dict[str, Any]:
    if choice.tool is not None:
        return {"type": "function", "name": choice.tool}
    return choice.mode.lower() if choice.mode is not None else "auto"


def _format(wanted: ResponseFormat) -> dict[str, Any]:
    schema = wanted.json_schema
    if schema is None:
        return {"type": "json_object"}
    return {"type": "json_schema", "name": "answer", "schema": schema, "strict": is_strict(schema)}

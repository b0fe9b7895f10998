"""A completion request as the JSON body of POST /v2/chat."""

from typing import Any

import msgspec

from core.continuation import Part, arranged
from core.errors import CapabilityUnsupported
from core.model_types.llm import (
    ChatRequest,
    Media,
    MediaKind,
    Message,
    ResponseFormat,
    Role,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolChoiceMode,
)
from core.wire.asking import passed_on
from core.wire.turns import not_taken, text_of_parts, texts_alone

_RESERVED = ("model", "messages", "stream")
_BUDGETS = {"low": 2048, "medium": 8192, "high": 24_576}
_NAMES = {"top_p": "p", "top_k": "k"}


def encode_request(request: ChatRequest, *, model: str, provider: str, stream: bool) -> bytes:
    """Return the body that asks `model` for what `request` says.

    Raises:
        CapabilityUnsupported: it asks for one tool of several.
        InvalidInput: a part has no form in this dialect, or provider options name what they may not set.
    """
    messages = [_message(message, provider, number) for number, message in enumerate(request.messages)]
    body: dict[str, Any] = {"model": model, "messages": messages, "stream": stream}
    parameters = dict(request.parameters)
    effort = parameters.pop("reasoning_effort", None)
    if effort is not None:
        body["thinking"] = _thinking(effort)
    body.update({_NAMES.get(name, name): value for name, value in parameters.items()})
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
        if request.tool_choice is not None:
            body.update(_tool_choice(request.tool_choice, request.tools))
    if request.response_format is not None:
        body["response_format"] = _format(request.response_format)
    if request.stop:
        body["stop_sequences"] = list(request.stop)
    body.update(passed_on(request.provider_options, *_RESERVED))
    return msgspec.json.encode(body)


def _thinking(effort: str) -> dict[str, Any]:
    if effort == "none":
        return {"type": "disabled"}
    return {"type": "enabled", "token_budget": _BUDGETS.get(effort, _BUDGETS["high"])}


# ---- messages


def _message(message: Message, provider: str, number: int) -> dict[str, Any]:
    if message.role is Role.ASSISTANT:
        return _own(message, provider, number)
    body: dict[str, Any] = {"role": message.role.lower()}
    if message.role is Role.TOOL:
        result = "\n\n".join(texts_alone(message, number))
        return {**body, "tool_call_id": message.tool_call_id, "content": result}
    if any(isinstance(part, Media) for part in message.content):
        return {**body, "content": [_part(part, number) for part in message.content]}
    return {**body, "content": text_of_parts(message)}


def _own(message: Message, provider: str, number: int) -> dict[str, Any]:
    """Return what the model said, with its plan and its thoughts where they came with it."""
    parts = arranged(message, provider, ("messages", str(number)))
    body: dict[str, Any] = {"role": "assistant"}
    for plan in (part.extra["tool_plan"] for part in parts if "tool_plan" in part.extra):
        body["tool_plan"] = plan
    content = [block for part in parts if (block := _own_block(part, number))]
    if content:
        body["content"] = content
    if message.tool_calls:
        body["tool_calls"] = [_tool_call(call) for call in message.tool_calls]
    return body


def _own_block(part: Part, number: int) -> dict[str, Any]:
    if part.content is not None:
        return _part(part.content, number)
    return {} if part.call is not None or "tool_plan" in part.extra else part.extra


def _part(part: Text | Media, number: int) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if part.kind is not MediaKind.IMAGE:
        raise not_taken(part, number, "images, no audio, no video and no documents")
    return {
        "type": "image_url",
        "image_url": {"url": part.url or f"data:{part.mime_type or 'image/png'};base64,{part.base64}"},
    }


# ---- tools and structured output


def _tool_call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _tool(tool: Tool) -> dict[str, Any]:
    described = {"description": tool.description} if tool.description is not None else {}
    return {"type": "function", "function": {"name": tool.name, "parameters": tool.parameters, **described}}


def _tool_choice(choice: ToolChoice, tools: tuple[Tool, ...]) -> dict[str, str]:
    """Return the choice; one tool can be required only where it is the only one."""
    if choice.tool is not None and len(tools) > 1:
        raise CapabilityUnsupported(
            "Cohere cannot be told which of several tools to call: send that tool alone.", path=("toolChoice", "tool")
        )
    if choice.tool is not None or choice.mode is ToolChoiceMode.REQUIRED:
        return {"tool_choice": "REQUIRED"}
    return {"tool_choice": "NONE"} if choice.mode is ToolChoiceMode.NONE else {}


def _format(wanted: ResponseFormat) -> dict[str, Any]:
    schema = {} if wanted.json_schema is None else {"json_schema": wanted.json_schema}
    return {"type": "json_object", **schema}

"""A completion request as the JSON body of POST /api/chat."""

from collections.abc import Mapping
from typing import Any

import msgspec

from core.continuation import arranged
from core.errors import CapabilityUnsupported
from core.model_types.llm import ChatRequest, Media, MediaKind, Message, Role, Tool, ToolChoice, ToolChoiceMode
from core.wire.asking import passed_on
from core.wire.turns import arguments_of, called_name, names_of_calls, not_taken, text_of_parts

_RESERVED = ("model", "messages", "stream")
_NAMES = {"max_tokens": "num_predict"}


def encode_request(
    request: ChatRequest, *, model: str, context: int | None, keep_alive: str | None, provider: str, stream: bool
) -> bytes:
    """Return the body that asks `model` for what `request` says.

    `context` is how many tokens the model is loaded for: the server cuts longer prompts in silence. `keep_alive` is how
    long it stays loaded.

    Raises:
        CapabilityUnsupported: it asks that a tool be called for certain.
        InvalidInput: a part has no form in this dialect, or provider options name what they may not set.
    """
    names = names_of_calls(request.messages)
    messages = [_message(message, names, provider, number) for number, message in enumerate(request.messages)]
    body: dict[str, Any] = {"model": model, "messages": messages, "stream": stream}
    settings: dict[str, Any] = {"num_ctx": context} if context is not None else {}
    parameters = dict(request.parameters)
    effort = parameters.pop("reasoning_effort", None)
    if effort is not None:
        body["think"] = _think(effort, model)
    settings |= {_NAMES.get(name, name): value for name, value in parameters.items()}
    if request.stop:
        settings["stop"] = list(request.stop)
    if request.tools and _may_call(request.tool_choice):
        body["tools"] = [_tool(tool) for tool in request.tools]
    if request.response_format is not None:
        body["format"] = request.response_format.json_schema or "json"
    if keep_alive is not None:
        body["keep_alive"] = int(keep_alive) if keep_alive.lstrip("-").isdecimal() else keep_alive
    options = dict(passed_on(request.provider_options, *_RESERVED))
    more = options.pop("options", None)
    settings |= more if isinstance(more, dict) else {}
    if settings:
        body["options"] = settings
    body.update(options)
    return msgspec.json.encode(body)


def _may_call(choice: ToolChoice | None) -> bool:
    """Tell whether tools are offered; nothing in this dialect makes a model call one."""
    if choice is None or choice.mode is ToolChoiceMode.AUTO:
        return True
    if choice.mode is ToolChoiceMode.NONE:
        return False
    raise CapabilityUnsupported("Ollama cannot make a model call a tool: leave the choice to it.", path=("toolChoice",))


def _think(effort: str, model: str) -> bool | str:
    """Return how the model thinks: only one family of models knows levels."""
    if effort == "none":
        return False
    return effort if "gpt-oss" in model else True


def _message(message: Message, names: Mapping[str, str], provider: str, number: int) -> dict[str, Any]:
    path = ("messages", str(number))
    body: dict[str, Any] = {"role": message.role.lower(), "content": text_of_parts(message)}
    images = [_image(part, number) for part in message.content if isinstance(part, Media)]
    if images:
        body["images"] = images
    if message.role is Role.TOOL:
        body["tool_name"] = called_name(message, names, number)
    if message.role is Role.ASSISTANT:
        for part in arranged(message, provider, path):
            body |= part.extra if part.content is None and part.call is None else {}
    if message.tool_calls:
        body["tool_calls"] = [
            {"function": {"name": call.name, "arguments": arguments_of(call, (*path, "toolCalls", str(place)))}}
            for place, call in enumerate(message.tool_calls)
        ]
    return body


def _image(part: Media, number: int) -> str:
    if part.kind is not MediaKind.IMAGE or part.base64 is None:
        raise not_taken(part, number, "images as base64, nothing by URL and no other media")
    return part.base64


def _tool(tool: Tool) -> dict[str, Any]:
    described = {"description": tool.description} if tool.description is not None else {}
    return {"type": "function", "function": {"name": tool.name, "parameters": tool.parameters, **described}}

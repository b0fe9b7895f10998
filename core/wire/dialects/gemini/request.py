"""A completion request as the JSON body of :generateContent."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from core.continuation import Part, arranged
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
    ToolChoiceMode,
)
from core.provider import Call
from core.wire.asking import passed_on
from core.wire.turns import arguments_of, called_name, names_of_calls, system_text, text_of_parts, turns

_RESERVED = ("contents", "model")
_BUDGETS = {"none": 0, "minimal": 512, "low": 2048, "medium": 8192, "high": 24_576}
_NAMES = {"max_tokens": "maxOutputTokens"}
_MIME_TYPES = {
    MediaKind.IMAGE: "image/png",
    MediaKind.AUDIO: "audio/wav",
    MediaKind.VIDEO: "video/mp4",
    MediaKind.DOCUMENT: "application/pdf",
}
_MODES: Mapping[ToolChoiceMode | None, str] = {
    ToolChoiceMode.AUTO: "AUTO",
    ToolChoiceMode.NONE: "NONE",
    ToolChoiceMode.REQUIRED: "ANY",
    None: "AUTO",
}
_MADE_UP = re.compile(r"call_[0-9a-f]{32}")


def encode_request(request: ChatRequest, *, call: Call, provider: str) -> bytes:
    """Return the body that asks a model for what `request` says.

    The card's property `thinking` says how the model is asked to reason: by `level`, or by a `budget` of tokens.

    Raises:
        InvalidInput: a part has no form in this dialect, or provider options name what they may not set.
    """
    body: dict[str, Any] = {"contents": _contents(request, provider)}
    if system := system_text(request.messages):
        body["systemInstruction"] = {"parts": [{"text": text} for text in system]}
    if request.tools:
        body["tools"] = [{"functionDeclarations": [_tool(tool) for tool in request.tools]}]
        if request.tool_choice is not None:
            body["toolConfig"] = {"functionCallingConfig": _tool_choice(request.tool_choice)}
    settings = _settings(request, call.card.properties.get("thinking"))
    options = dict(passed_on(request.provider_options, *_RESERVED))
    more = options.pop("generationConfig", None)
    settings |= more if isinstance(more, dict) else {}
    if settings:
        body["generationConfig"] = settings
    tools = body.get("tools", [])
    body.update(options)
    if tools and isinstance(options.get("tools"), list):
        body["tools"] = [*tools, *options["tools"]]
    return msgspec.json.encode(body)


def _settings(request: ChatRequest, thinking: object) -> dict[str, Any]:
    parameters = dict(request.parameters)
    effort = parameters.pop("reasoning_effort", None)
    settings = {_NAMES.get(name, _camel(name)): value for name, value in parameters.items()}
    if request.stop:
        settings["stopSequences"] = list(request.stop)
    if request.response_format is not None:
        settings |= _structure(request.response_format)
    if effort is not None:
        by_level = {"thinkingLevel": effort} if thinking != "budget" and effort != "none" else None
        way = by_level or {"thinkingBudget": _BUDGETS.get(effort, _BUDGETS["high"])}
        settings["thinkingConfig"] = {"includeThoughts": effort != "none", **way}
    elif thinking is not None:
        settings["thinkingConfig"] = {"includeThoughts": True}
    return settings


def _structure(wanted: ResponseFormat) -> dict[str, Any]:
    schema = {} if wanted.json_schema is None else {"responseJsonSchema": wanted.json_schema}
    return {"responseMimeType": "application/json", **schema}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


# ---- messages


def _contents(request: ChatRequest, provider: str) -> list[dict[str, Any]]:
    names = names_of_calls(request.messages)
    found = []
    for is_model, turn in turns(request.messages):
        parts = []
        for number, message in turn:
            parts += _own(message, provider, number) if is_model else _users(message, names, number)
        found.append({"role": "model" if is_model else "user", "parts": parts})
    return found


def _own(message: Message, provider: str, number: int) -> list[dict[str, Any]]:
    path = ("messages", str(number))
    return [_own_part(part, message, path) for part in arranged(message, provider, path)]


def _own_part(part: Part, message: Message, path: tuple[str, ...]) -> dict[str, Any]:
    if part.call is not None:
        place = (*path, "toolCalls", str(message.tool_calls.index(part.call)))
        function = {**_id(part.call.id), "name": part.call.name, "args": arguments_of(part.call, place)}
        return {"functionCall": function, **part.extra}
    return {**(_part(part.content) if part.content is not None else {}), **part.extra}


def _users(message: Message, names: Mapping[str, str], number: int) -> list[dict[str, Any]]:
    if message.role is not Role.TOOL:
        return [_part(part) for part in message.content]
    name = called_name(message, names, number)
    response = _result(text_of_parts(message))
    media = [_part(part) for part in message.content if isinstance(part, Media)]
    return [{"functionResponse": {**_id(message.tool_call_id or ""), "name": name, "response": response}}, *media]


def _result(text: str) -> dict[str, Any]:
    """Return a tool's result as an object, which it must be here."""
    try:
        value = msgspec.json.decode(text.encode())
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        value = text
    return value if isinstance(value, dict) else {"result": value}


def _id(call_id: str) -> dict[str, str]:
    """Return a call's id; none where we made it up for a model that gives none."""
    return {} if _MADE_UP.fullmatch(call_id) else {"id": call_id}


def _part(part: Text | Media) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"text": part.text}
    if part.base64 is None:
        kind = {"mimeType": part.mime_type} if part.mime_type else {}
        return {"fileData": {"fileUri": part.url, **kind}}
    return {"inlineData": {"mimeType": part.mime_type or _MIME_TYPES[part.kind], "data": part.base64}}


# ---- tools


def _tool(tool: Tool) -> dict[str, Any]:
    described = {"description": tool.description} if tool.description is not None else {}
    return {"name": tool.name, "parametersJsonSchema": tool.parameters, **described}


def _tool_choice(choice: ToolChoice) -> dict[str, Any]:
    if choice.tool is not None:
        return {"mode": "ANY", "allowedFunctionNames": [choice.tool]}
    return {"mode": _MODES[choice.mode]}

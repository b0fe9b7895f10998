"""A completion request as the JSON body of POST /chat/completions."""

from collections.abc import Mapping
from typing import Any

import msgspec

from core.errors import InvalidInput
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
)
from core.wire.asking import passed_on
from core.wire.dialects.openai_chat.endpoint import Quirks
from core.wire.dialects.openai_chat.thoughts import thoughts_of
from core.wire.turns import not_taken

_AUDIO_FORMATS = {
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
}
_DEFAULT_MIME_TYPES = {
    MediaKind.IMAGE: "image/png",
    MediaKind.VIDEO: "video/mp4",
    MediaKind.DOCUMENT: "application/pdf",
}


def encode_request(
    request: ChatRequest,
    *,
    model: str,
    quirks: Quirks,
    stream: bool,
    stream_options: bool = False,
    provider: str | None = None,
) -> bytes:
    """Return the body that asks `model` for what `request` says; `stream_options` asks for usage in the stream.

    Reasoning of its own goes back to `provider`.

    Raises:
        InvalidInput: a part has no form in this dialect, or provider options name what they may not set.
    """
    messages = [_message(message, number, provider) for number, message in enumerate(request.messages)]
    body: dict[str, Any] = {"model": model, "messages": messages}
    body.update(_parameters(request.parameters, quirks))
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
        if request.tool_choice is not None:
            body["tool_choice"] = _tool_choice(request.tool_choice)
    if request.response_format is not None:
        body["response_format"] = _response_format(request.response_format)
    if request.stop:
        body["stop"] = list(request.stop)
    if request.end_user is not None and quirks.end_user_parameter:
        body[quirks.end_user_parameter] = request.end_user
    body.update(passed_on(request.provider_options, "messages", "model", "stream"))
    if stream:
        body["stream"] = True
        if stream_options:
            body["stream_options"] = {**_asked_stream_options(body), **_stream_options(quirks)}
        else:
            body.pop("stream_options", None)
    return msgspec.json.encode(body)


def _stream_options(quirks: Quirks) -> dict[str, bool]:
    return {"include_usage": True, **({"include_obfuscation": False} if quirks.obfuscation else {})}


def _asked_stream_options(body: Mapping[str, Any]) -> dict[str, Any]:
    asked = body.get("stream_options")
    return asked if isinstance(asked, dict) else {}


def _parameters(parameters: Mapping[str, Any], quirks: Quirks) -> dict[str, Any]:
    body = dict(parameters)
    if "max_tokens" in body:
        body[quirks.max_tokens_parameter] = body.pop("max_tokens")
    schema = body.pop("json_schema", None)
    kind = body.pop("response_format", None)
    if schema is not None and kind in {None, "json_schema"}:
        body["response_format"] = _response_format(ResponseFormat(json_schema=_schema(schema)))
    elif kind is not None:
        body["response_format"] = kind if isinstance(kind, dict) else {"type": kind}
    return body


def _schema(value: object) -> dict[str, Any]:
    try:
        decoded = msgspec.json.decode(value.encode()) if isinstance(value, str) else value
    except msgspec.DecodeError:
        decoded = None
    if not isinstance(decoded, dict):
        raise InvalidInput("json_schema must be a JSON schema object.", path=("parameters", "json_schema"))
    return decoded


# ---- messages


def _message(message: Message, number: int, provider: str | None) -> dict[str, Any]:
    body: dict[str, Any] = {"role": message.role.lower(), "content": _content(message, number)}
    body |= thoughts_of(message, provider, number)
    if message.role is Role.TOOL:
        body["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        body["tool_calls"] = [_tool_call(call) for call in message.tool_calls]
        body["content"] = body["content"] or None
    return body


def _content(message: Message, number: int) -> str | list[dict[str, Any]]:
    """Return plain text where there is nothing else: every server takes that, and not all take parts."""
    texts = [part.text for part in message.content if isinstance(part, Text)]
    if len(texts) == len(message.content):
        return "\n\n".join(texts)
    return [_part(part, number) for part in message.content]


def _part(part: Text | Media, number: int) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if part.kind is MediaKind.AUDIO:
        return {"type": "input_audio", "input_audio": _audio(part, number)}
    if part.kind is MediaKind.DOCUMENT:
        return {"type": "file", "file": _file(part, number)}
    name = "image_url" if part.kind is MediaKind.IMAGE else "video_url"
    return {"type": name, name: {"url": part.url or _data_url(part)}}


def _audio(part: Media, number: int) -> dict[str, str]:
    kind = (part.mime_type or "audio/wav").lower()
    if part.base64 is None:
        raise not_taken(part, number, "audio as base64 only, not by URL")
    if kind not in _AUDIO_FORMATS:
        raise not_taken(part, number, f"audio as WAV or MP3, not {kind!r}")
    return {"data": part.base64, "format": _AUDIO_FORMATS[kind]}


def _file(part: Media, number: int) -> dict[str, str]:
    if part.base64 is None:
        raise not_taken(part, number, "documents as base64 only, not by URL")
    return {"filename": part.filename or "document.pdf", "file_data": _data_url(part)}


def _data_url(part: Media) -> str:
    return f"data:{part.mime_type or _DEFAULT_MIME_TYPES[part.kind]};base64,{part.base64}"


# ---- tools and structured output


def _tool_call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.parameters}
    if tool.description is not None:
        function["description"] = tool.description
    return {"type": "function", "function": function}


def _tool_choice(choice: ToolChoice) -> str | dict[str, Any]:
    if choice.tool is not None:
        return {"type": "function", "function": {"name": choice.tool}}
    return choice.mode.lower() if choice.mode is not None else "auto"


def _response_format(wanted: ResponseFormat) -> dict[str, Any]:
    schema = wanted.json_schema
    if schema is None:
        return {"type": "json_object"}
    named = {"name": _schema_name(schema), "schema": schema, "strict": is_strict(schema)}
    return {"type": "json_schema", "json_schema": named}


def _schema_name(schema: Mapping[str, Any]) -> str:
    title = str(schema.get("title", ""))
    name = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "_-") else "_" for letter in title)
    return name[:64] or "answer"


def is_strict(schema: object) -> bool:
    """Tell whether a schema can be held to the letter: every object closed, and all its properties required.

    Servers refuse other schemas when they are asked to be strict.
    """
    if isinstance(schema, list):
        return all(is_strict(part) for part in schema)
    if not isinstance(schema, dict):
        return True
    properties = schema.get("properties")
    is_object = schema.get("type") == "object" or isinstance(properties, dict)
    if is_object:
        required = schema.get("required")
        closed = schema.get("additionalProperties") is False
        if not closed or set(required or ()) != set(properties or ()):
            return False
    return all(is_strict(part) for name, part in schema.items() if name not in {"enum", "const", "default", "examples"})

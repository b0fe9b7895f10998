"""What a completion is asked with: messages, media, tools, and the shape of the answer."""

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import strawberry

from core.continuation import check_continuation
from core.errors import InvalidInput
from core.model_types import llm
from core.model_types.llm import MediaKind, Role, ToolChoiceMode
from core.plan import CompletionRequest
from graph import ids
from graph.invocations import tags_of
from graph.scalars import JSON
from graph.types import attribute, described, input_type, one_of_input
from graph.values import ModelReferenceInput, TagInput

described(
    Role,
    "Who speaks in a message.",
    name="MessageRole",
    SYSTEM="Whoever made the app.",
    USER="The person.",
    ASSISTANT="The model.",
    TOOL="A tool that the model asked for.",
)
described(
    ToolChoiceMode,
    "Whether the model may, must not or must call a tool.",
    AUTO="It may.",
    NONE="It must not.",
    REQUIRED="It must.",
)

MAX_MESSAGES = 1000
MAX_PARTS = 1000
MAX_TOOLS = 128
MAX_TOOL_CALLS = 128
MAX_STOPS = 16
MAX_FALLBACKS = 8
MAX_END_USER = 256
MAX_STOP = 1024
MAX_MEDIA_BYTES = 20 * 1024 * 1024
MAX_URL = 4096
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_MIME_TYPE = re.compile(r"[a-z]+/[a-z0-9.+-]{1,100}")

Path = tuple[str, ...]


@input_type
class MediaInput:
    """An image, sound, video or document: by address, or its bytes with their type."""

    url: str | None = attribute("An http or https address that the provider can reach.", default=None)
    base64: str | None = attribute("The bytes in base64, 20 MB at most; with `mimeType`.", default=None)
    mime_type: str | None = attribute("The type of the bytes, such as image/png.", default=None)
    filename: str | None = attribute("The file's name, where that helps the model.", default=None)

    def part(self, kind: MediaKind, path: Path) -> llm.Media:
        """Return what core takes.

        Raises:
            InvalidInput: not exactly one source, or one that is not in order.
        """
        if (self.url is None) == (self.base64 is None):
            raise InvalidInput("Give the media by `url` or by `base64`, one of the two.", path=path)
        if self.url is not None:
            _check_url(self.url, (*path, "url"))
        if self.base64 is not None:
            _check_bytes(self.base64, (*path, "base64"))
            if self.mime_type is None:
                raise InvalidInput("`base64` needs its `mimeType`.", path=(*path, "mimeType"))
        if self.mime_type is not None and not _MIME_TYPE.fullmatch(self.mime_type):
            raise InvalidInput("`mimeType` is such as image/png.", path=(*path, "mimeType"))
        if self.filename is not None and not 1 <= len(self.filename) <= 256:
            raise InvalidInput("`filename` has 1 to 256 characters.", path=(*path, "filename"))
        return llm.Media(kind=kind, url=self.url, base64=self.base64, mime_type=self.mime_type, filename=self.filename)


@one_of_input
class ContentPartInput:
    """A part of a message: exactly one of these."""

    text: str | None = attribute("Text.", default=strawberry.UNSET)
    image: MediaInput | None = attribute("An image. Needs the feature VISION.", default=strawberry.UNSET)
    audio: MediaInput | None = attribute("Sound. Needs the feature AUDIO.", default=strawberry.UNSET)
    video: MediaInput | None = attribute("A video. Needs the feature VIDEO.", default=strawberry.UNSET)
    document: MediaInput | None = attribute("A document. Needs the feature DOCUMENT.", default=strawberry.UNSET)

    def part(self, path: Path) -> llm.Text | llm.Media:
        """Return what core takes."""
        media = {
            MediaKind.IMAGE: self.image,
            MediaKind.AUDIO: self.audio,
            MediaKind.VIDEO: self.video,
            MediaKind.DOCUMENT: self.document,
        }
        for kind, given in media.items():
            if given:
                return given.part(kind, (*path, kind.value.lower()))
        return llm.Text(text=self.text or "")


@input_type
class ToolCallInput:
    """A call of a tool that an earlier answer asked for."""

    id: str = attribute("The call's id.")
    name: str = attribute("The tool's name.")
    arguments: str = attribute("The arguments, as the model wrote them.")


@input_type
class MessageInput:
    """A message of the conversation: with `text` or with `content`, not both."""

    role: Role = attribute("Who speaks.")
    text: str | None = attribute("What is said, where that is text alone.", default=None)
    content: list[ContentPartInput] | None = attribute("What is said, in parts.", default=None)
    tool_calls: list[ToolCallInput] | None = attribute(
        "Of an ASSISTANT message: the tools that it asked to have called.", default=None
    )
    tool_call_id: str | None = attribute("Of a TOOL message: the call that it answers.", default=None)
    continuation: str | None = attribute("Of an ASSISTANT message: as it came with the answer.", default=None)

    def message(self, path: Path) -> llm.Message:
        """Return what core takes.

        Raises:
            InvalidInput: something is missing, given twice, or does not belong to the role.
        """
        self._check(path)
        content: tuple[llm.Text | llm.Media, ...] = (
            (llm.Text(text=self.text),)
            if self.text is not None
            else tuple(part.part((*path, "content", str(number))) for number, part in enumerate(self.content or ()))
        )
        calls = tuple(
            llm.ToolCall(id=call.id, name=call.name, arguments=call.arguments) for call in self.tool_calls or ()
        )
        return llm.Message(
            role=self.role,
            content=content,
            tool_calls=calls,
            tool_call_id=self.tool_call_id,
            continuation=self.continuation,
        )

    def _check(self, path: Path) -> None:
        if self.text is not None and self.content is not None:
            raise InvalidInput("A message has `text` or `content`, not both.", path=path)
        if self.text is None and not self.content and not self.tool_calls:
            raise InvalidInput("A message says something: give `text` or `content`.", path=path)
        if len(self.content or ()) > MAX_PARTS:
            raise InvalidInput(f"A message has at most {MAX_PARTS} parts.", path=(*path, "content"))
        if (self.tool_call_id is not None) != (self.role is Role.TOOL):
            raise InvalidInput(
                "A TOOL message, and no other, names the call that it answers by `toolCallId`.",
                path=(*path, "toolCallId"),
            )
        if self.role is not Role.ASSISTANT:
            for name, given in (("toolCalls", self.tool_calls), ("continuation", self.continuation)):
                if given is not None:
                    raise InvalidInput(f"Only an ASSISTANT message has `{name}`.", path=(*path, name))
        if len(self.tool_calls or ()) > MAX_TOOL_CALLS:
            raise InvalidInput(f"A message has at most {MAX_TOOL_CALLS} tool calls.", path=(*path, "toolCalls"))
        for number, call in enumerate(self.tool_calls or ()):
            _check_tool_name(call.name, (*path, "toolCalls", str(number), "name"))
        if self.continuation is not None:
            check_continuation(self.continuation, (*path, "continuation"))


@input_type
class ToolInput:
    """A function that the model may ask to have called."""

    name: str = attribute("1 to 64 letters, digits, _ and -; unique among the tools.")
    description: str | None = attribute("What it does, for the model.", default=None)
    parameters: JSON = attribute("A JSON schema of its arguments: an object.")

    def tool(self, path: Path) -> llm.Tool:
        """Return what core takes."""
        _check_tool_name(self.name, (*path, "name"))
        return llm.Tool(
            name=self.name,
            description=self.description,
            parameters=_object(self.parameters, (*path, "parameters")),
        )


@one_of_input
class ToolChoiceInput:
    """Whether the model calls a tool, or which one."""

    mode: ToolChoiceMode | None = attribute("Whether it may, must not or must.", default=strawberry.UNSET)
    tool: str | None = attribute("The one tool that it must call.", default=strawberry.UNSET)

    def choice(self, tools: Sequence[llm.Tool]) -> llm.ToolChoice:
        """Return what core takes.

        Raises:
            InvalidInput: there are no tools, or none of that name.
        """
        if not tools and self.mode is not ToolChoiceMode.NONE:
            raise InvalidInput("`toolChoice` needs `tools`.", path=("toolChoice",))
        if self.tool and all(tool.name != self.tool for tool in tools):
            raise InvalidInput(f"There is no tool {self.tool!r} among `tools`.", path=("toolChoice", "tool"))
        return llm.ToolChoice(mode=self.mode or None, tool=self.tool or None)


@one_of_input
class ResponseFormatInput:
    """Structured output. Needs the feature STRUCTURED_OUTPUT."""

    json_object: bool | None = attribute("Any JSON object; true.", default=strawberry.UNSET)
    json_schema: JSON | None = attribute("A JSON object of this schema.", default=strawberry.UNSET)

    def format(self) -> llm.ResponseFormat | None:
        """Return what core takes; None for `jsonObject: false`."""
        if self.json_object is False:
            return None
        if self.json_object is True:
            return llm.ResponseFormat()
        return llm.ResponseFormat(json_schema=_object(self.json_schema, ("responseFormat", "jsonSchema")))


@input_type
class CompletionInput:
    """What a completion asks of a model."""

    workspace_id: strawberry.ID | None = attribute(
        "The workspace; left out, the token's, or the only one that your account belongs to.", default=None
    )
    model: ModelReferenceInput | None = attribute("The model; left out, the workspace's default LLM.", default=None)
    fallbacks: list[ModelReferenceInput] | None = attribute(
        "Models that are tried in this order while nothing has been delivered; at most 8.", default=None
    )
    credential_id: strawberry.ID | None = attribute(
        "Pins one credential. Needs CREDENTIAL_READ, or a token that lists it in `credentialIds`.",
        default=None,
    )
    messages: list[MessageInput] = attribute("The conversation: 1 to 1000 messages.")
    parameters: JSON | None = attribute("An object, checked against the model's `parameterRules`.", default=None)
    tools: list[ToolInput] | None = attribute(
        "What the model may ask to have called; at most 128. Needs the feature TOOL_CALL.", default=None
    )
    tool_choice: ToolChoiceInput | None = attribute("Whether it calls a tool, or which one.", default=None)
    response_format: ResponseFormatInput | None = attribute("Structured output.", default=None)
    stop: list[str] | None = attribute("Texts at which the model stops; at most 16.", default=None)
    idempotency_key: str | None = attribute(
        "The same key and input within 24 hours give the same call, made and charged once.", default=None
    )
    end_user: str | None = attribute(
        "Who the call is made for: an id of yours of at most 256 characters, sent to the provider.",
        default=None,
    )
    tags: list[TagInput] | None = attribute("Labels for the record; at most 64.", default=None)
    provider_options: JSON | None = attribute(
        "An object that is passed through to the provider, for what is not modelled here.", default=None
    )

    def request(self) -> CompletionRequest:
        """Return what core takes.

        Raises:
            InvalidInput: a value breaks its rules; its path says which.
            NotFound: an id is none.
        """
        if len(self.fallbacks or ()) > MAX_FALLBACKS:
            raise InvalidInput(f"There are at most {MAX_FALLBACKS} fallbacks.", path=("fallbacks",))
        return CompletionRequest(
            chat=self._chat(),
            workspace_id=ids.optional_uuid(self.workspace_id, "Workspace", ("workspaceId",)),
            model=self.model.reference() if self.model is not None else None,
            fallbacks=tuple(one.reference() for one in self.fallbacks or ()),
            credential_id=ids.given_credential(self.credential_id, ("credentialId",))
            if self.credential_id is not None
            else None,
            end_user=self.end_user,
            idempotency_key=self.idempotency_key,
            tags=tags_of(self.tags or (), ("tags",)),
        )

    def _chat(self) -> llm.ChatRequest:
        self._check_sizes()
        tools = tuple(tool.tool(("tools", str(number))) for number, tool in enumerate(self.tools or ()))
        if len({tool.name for tool in tools}) < len(tools):
            raise InvalidInput("Two tools have the same name.", path=("tools",))
        return llm.ChatRequest(
            messages=tuple(one.message(("messages", str(number))) for number, one in enumerate(self.messages)),
            parameters=optional_object(self.parameters, ("parameters",)),
            tools=tools,
            tool_choice=self.tool_choice.choice(tools) if self.tool_choice is not None else None,
            response_format=self.response_format.format() if self.response_format is not None else None,
            stop=tuple(self.stop or ()),
            end_user=self.end_user,
            provider_options=optional_object(self.provider_options, ("providerOptions",)),
        )

    def _check_sizes(self) -> None:
        if not 1 <= len(self.messages) <= MAX_MESSAGES:
            raise InvalidInput(f"There are 1 to {MAX_MESSAGES} messages.", path=("messages",))
        if len(self.tools or ()) > MAX_TOOLS:
            raise InvalidInput(f"There are at most {MAX_TOOLS} tools.", path=("tools",))
        if len(self.stop or ()) > MAX_STOPS or not all(1 <= len(text) <= MAX_STOP for text in self.stop or ()):
            raise InvalidInput(
                f"There are at most {MAX_STOPS} stop texts of 1 to {MAX_STOP} characters.", path=("stop",)
            )
        if self.end_user is not None and not 1 <= len(self.end_user) <= MAX_END_USER:
            raise InvalidInput(f"`endUser` has 1 to {MAX_END_USER} characters.", path=("endUser",))


def _check_url(url: str, path: Path) -> None:
    try:
        parts = urlsplit(url)
        is_web = parts.scheme.lower() in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_web = False
    if not is_web or len(url) > MAX_URL or any(character <= " " for character in url):
        raise InvalidInput(f"`url` is an http or https address of at most {MAX_URL} characters.", path=path)


def _check_bytes(text: str, path: Path) -> None:
    if len(text) > MAX_MEDIA_BYTES * 4 // 3 + 4:
        raise InvalidInput("Media given as bytes have at most 20 MB.", path=path)
    try:
        is_empty = not base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput("`base64` is no base64.", path=path) from None
    if is_empty:
        raise InvalidInput("`base64` is empty.", path=path)


def _check_tool_name(name: str, path: Path) -> None:
    if not _TOOL_NAME.fullmatch(name):
        raise InvalidInput("A tool's name has 1 to 64 letters, digits, _ and -.", path=path)


def _object(value: object, path: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInput(f"`{path[-1]}` is a JSON object.", path=path)
    return value


def optional_object(value: object, path: Path) -> dict[str, Any]:
    """Return a JSON value that must be an object where it is given.

    Raises:
        InvalidInput: it is something else.
    """
    return _object(value, path) if value is not None else {}

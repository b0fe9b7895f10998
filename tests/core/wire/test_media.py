"""Media in a conversation: each dialect sends them or says that it does not take them; none loses one in silence."""

import base64
import itertools
from collections.abc import Callable, Mapping

import pytest

from core.errors import InvalidInput
from core.model_types import ModelType
from core.model_types.llm import ChatRequest, Media, MediaKind, Message, Role, Text, ToolCall
from core.provider import Call, ModelCard
from core.wire.dialects.anthropic.request import encode_request as anthropic
from core.wire.dialects.cohere.request import encode_request as cohere
from core.wire.dialects.gemini.request import encode_request as gemini
from core.wire.dialects.ollama.request import encode_request as ollama
from core.wire.dialects.openai_chat import Quirks
from core.wire.dialects.openai_chat.request import encode_request as openai_chat
from core.wire.dialects.openai_responses.request import encode_request as openai_responses

CALL = Call(model="m", card=ModelCard(name="m", label="m", type=ModelType.LLM), values={})
DATA = base64.b64encode(b"what is shown").decode()
URL = "https://example.com/shown"
MIME_TYPES = {
    MediaKind.IMAGE: "image/png",
    MediaKind.AUDIO: "audio/wav",
    MediaKind.VIDEO: "video/mp4",
    MediaKind.DOCUMENT: "application/pdf",
}
DIALECTS: Mapping[str, Callable[[ChatRequest], bytes]] = {
    "anthropic": lambda given: anthropic(given, call=CALL, provider="p", stream=False),
    "cohere": lambda given: cohere(given, model="m", provider="p", stream=False),
    "gemini": lambda given: gemini(given, call=CALL, provider="p"),
    "ollama": lambda given: ollama(given, model="m", context=None, keep_alive=None, provider="p", stream=False),
    "openai_chat": lambda given: openai_chat(given, model="m", quirks=Quirks(), stream=False),
    "openai_responses": lambda given: openai_responses(given, model="m", card=CALL.card, provider="p", stream=False),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_is_shown_is_sent_or_refused(dialect: str) -> None:
    sent, refused = set(), set()

    for role, kind, by_url in itertools.product(Role, MediaKind, (True, False)):
        shown = Media(kind=kind, url=URL) if by_url else Media(kind=kind, base64=DATA, mime_type=MIME_TYPES[kind])
        said = Message(role=role, content=(Text("look"), shown), tool_call_id="c" if role is Role.TOOL else None)
        asked = Message(role=Role.ASSISTANT, tool_calls=(ToolCall(id="c", name="t", arguments="{}"),))
        try:
            body = DIALECTS[dialect](ChatRequest(messages=(asked, said, Message(role=Role.USER, content=(Text("?"),)))))
        except InvalidInput as refusal:
            refused.add((kind.lower(), refusal.path))
        else:
            assert (URL if by_url else DATA).encode() in body, (role, kind, by_url)
            sent.add((role, kind))

    assert (Role.USER, MediaKind.IMAGE) in sent
    assert all(path == ("messages", "1", "content", kind) for kind, path in refused)

"""Cohere's v2 chat, and the scenarios as this dialect has them."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.fake_dialects import openai_chat
from tests.fake_dialects.base import Request, Scenario, cut, sse

MEDIA_TYPE = "text/event-stream"
_REASONS = {"stop": "COMPLETE", "length": "MAX_TOKENS", "tool_calls": "TOOL_CALL", "content_filter": "ERROR_TOXIC"}


def _error(message: str) -> bytes:
    return json.dumps({"id": "fake", "message": message}).encode()


SCENARIOS: Mapping[str, Scenario] = {
    **openai_chat.SCENARIOS,
    "unauthorized": Scenario(status=401, body=_error("invalid api token")),
    "forbidden": Scenario(status=403, body=_error("your key may not use this endpoint")),
    "not_found": Scenario(status=404, body=_error("model 'nothing' not found, make sure the correct ID was used")),
    "bad_request": Scenario(status=400, body=_error("temperature must be between 0 and 1 inclusive.")),
    "context_too_long": Scenario(status=400, body=_error("too many tokens: size limit exceeded by 9 tokens.")),
    "content_filtered": Scenario(text="", finish="content_filter"),
    "rate_limited": Scenario(status=429, headers={"retry-after": "7"}, body=_error("too many requests")),
    "rate_limited_silently": Scenario(status=429, body=_error("too many requests")),
    "quota_exhausted": Scenario(
        status=429, body=_error("You are using a Trial key, which is limited to 1000 API calls / month.")
    ),
    "server_error": Scenario(status=500, body=_error("internal server error")),
    "overloaded": Scenario(status=503, body=_error("service unavailable")),
    "json_error": Scenario(content_type="application/json", body=_error("model 'nothing' not found")),
    "malformed": Scenario(events=(b'event: content-delta\ndata: {"type": "content-del\n\n',)),
    "error_in_stream": Scenario(
        events=(sse({"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "It failed."}}),)
    ),
}


def content(request: Request, scenario: Scenario) -> Iterator[bytes]:
    """Yield the events of a stream, and what its ending says of the end."""
    yield _event("message-start", id="fake", message={"role": "assistant", "content": [], "tool_calls": []})
    parts = (("thinking", scenario.reasoning), ("text", scenario.text))
    for index, (kind, text) in enumerate((kind, text) for kind, text in parts if text):
        yield _event("content-start", index=index, message={"content": {"type": kind, kind: ""}})
        for piece in cut(text, scenario.pieces):
            yield _event("content-delta", index=index, message={"content": {kind: piece}})
        yield _event("content-end", index=index)
    for index, (name, arguments) in enumerate(scenario.tool_calls):
        yield _event("tool-call-start", index=index, message={"tool_calls": _call(index, name, "")})
        for piece in cut(arguments, 3):
            yield _event("tool-call-delta", index=index, message={"tool_calls": {"function": {"arguments": piece}}})
        yield _event("tool-call-end", index=index)
    yield from scenario.events or ()
    if scenario.ending in {"done", "no_done"} and scenario.events is None:
        yield sse({"type": "message-end", "delta": _end(scenario)}, "message-end")
        if scenario.ending == "done":
            yield b"data: [DONE]\n\n"


def completion(request: Request, scenario: Scenario) -> bytes:
    """Return a whole answer."""
    blocks = [{"type": kind, kind: text} for kind, text in (("thinking", scenario.reasoning), ("text", scenario.text))]
    calls = [_call(index, name, arguments) for index, (name, arguments) in enumerate(scenario.tool_calls)]
    message = {"role": "assistant", "content": [block for block in blocks if block[block["type"]]], "tool_calls": calls}
    return json.dumps({"id": "fake", "message": message, **_end(scenario)}).encode()


def about(request: Request) -> bytes | None:
    """Answer what is no completion."""
    if request.path.endswith("/v1/check-api-key"):
        return json.dumps({"valid": True, "organization_id": "fake"}).encode()
    if request.method == "GET":
        models = [
            {"name": f"command-{name}", "endpoints": ["chat"], "context_length": 1000, "features": ["tools"]}
            for name in ("text", "tool")
        ]
        return json.dumps({"models": models}).encode()
    return None


def _call(index: int, name: str, arguments: str) -> dict[str, Any]:
    return {"id": f"{name}_{index}", "type": "function", "function": {"name": name, "arguments": arguments}}


def _end(scenario: Scenario) -> dict[str, Any]:
    """Count 11 tokens of input, 4 of them cached."""
    reason = "TOOL_CALL" if scenario.tool_calls else _REASONS.get(scenario.finish or "", "ERROR")
    if scenario.usage == "never":
        return {"finish_reason": reason}
    texts = (scenario.reasoning, scenario.text)
    output = sum(1 for text in texts for _ in cut(text, scenario.pieces)) + len(scenario.tool_calls)
    tokens = {"input_tokens": 11, "output_tokens": output}
    billed = {"input_tokens": 2, "output_tokens": output}
    return {"finish_reason": reason, "usage": {"billed_units": billed, "tokens": tokens, "cached_tokens": 4}}


def _event(kind: str, *, index: int | None = None, message: dict[str, Any] | None = None, **more: Any) -> bytes:
    fields = {"type": kind, **more} | ({"index": index} if index is not None else {})
    return sse({**fields, "delta": {"message": message}} if message is not None else fields, kind)

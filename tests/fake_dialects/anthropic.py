"""Messages of Anthropic, and the scenarios as this dialect has them."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.fake_dialects import openai_chat
from tests.fake_dialects.base import Request, Scenario, cut, sse

MEDIA_TYPE = "text/event-stream; charset=utf-8"
SIGNATURE = "RmFrZSBzaWduYXR1cmU="
_STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}


def _error(kind: str, message: str, code: str | None = None) -> bytes:
    details = {"details": {"error_code": code}} if code else {}
    error = {"type": kind, "message": message, **details}
    return json.dumps({"type": "error", "error": error, "request_id": "req_fake"}).encode()


SCENARIOS: Mapping[str, Scenario] = {
    **openai_chat.SCENARIOS,
    "unauthorized": Scenario(status=401, body=_error("authentication_error", "invalid x-api-key: KEY")),
    "forbidden": Scenario(status=403, body=_error("permission_error", "Your key may not use this model.")),
    "not_found": Scenario(status=404, body=_error("not_found_error", "model: claude-nothing")),
    "bad_request": Scenario(status=400, body=_error("invalid_request_error", "temperature: not supported")),
    "context_too_long": Scenario(
        status=400, body=_error("invalid_request_error", "prompt is too long: 201000 tokens > 200000 maximum")
    ),
    "content_filtered": Scenario(finish="content_filter", text=""),
    "rate_limited": Scenario(
        status=429, headers={"retry-after": "7"}, body=_error("rate_limit_error", "Too many requests.")
    ),
    "rate_limited_silently": Scenario(status=429, body=_error("rate_limit_error", "Too many requests.")),
    "quota_exhausted": Scenario(
        status=429, body=_error("rate_limit_error", "The limit of spending is reached.", "enforced_spend_limit_reached")
    ),
    "server_error": Scenario(status=500, body=_error("api_error", "Internal server error")),
    "overloaded": Scenario(status=529, body=_error("overloaded_error", "Overloaded")),
    "json_error": Scenario(content_type="application/json", body=_error("not_found_error", "model: claude-nothing")),
    "malformed": Scenario(events=(b'event: content_block_delta\ndata: {"type": "content_block_delta", "in\n\n',)),
    "error_in_stream": Scenario(
        events=(sse({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "error"),)
    ),
}


def content(request: Request, scenario: Scenario) -> Iterator[bytes]:
    """Yield the events of a stream, and what its ending says of the end."""
    yield _event("message_start", message=_envelope(request, scenario, output=1))
    yield _event("ping")
    for number, (block, deltas) in enumerate(_blocks(scenario)):
        yield _event("content_block_start", index=number, content_block=block)
        for delta in deltas:
            yield _event("content_block_delta", index=number, delta=delta)
        if block["type"] != "text" or scenario.ending in {"done", "no_done"}:
            yield _event("content_block_stop", index=number)
    yield from scenario.events or ()
    if scenario.ending in {"done", "no_done"} and scenario.events is None:
        usage = {"usage": {"output_tokens": _output(scenario)}} if scenario.usage != "never" else {}
        yield _event("message_delta", delta={"stop_reason": _stop(scenario), "stop_sequence": None}, **usage)
        if scenario.ending == "done":
            yield _event("message_stop")


def completion(request: Request, scenario: Scenario) -> bytes:
    """Return a whole answer."""
    body = _envelope(request, scenario, output=_output(scenario))
    body["stop_reason"] = _stop(scenario)
    body["content"] = []
    if scenario.reasoning:
        body["content"].append({"type": "thinking", "thinking": scenario.reasoning, "signature": SIGNATURE})
    if scenario.text:
        body["content"].append({"type": "text", "text": scenario.text})
    body["content"] += [
        {"type": "tool_use", "id": f"toolu_{index}", "name": name, "input": json.loads(arguments)}
        for index, (name, arguments) in enumerate(scenario.tool_calls)
    ]
    return json.dumps(body).encode()


def about(request: Request) -> bytes | None:
    """Answer what is no completion."""
    if request.method != "GET":
        return None
    limits = {"max_input_tokens": 200_000, "max_tokens": 8192}
    life = {"type": "model", "created_at": "2026-01-01T00:00:00Z", "lifecycle": "active"}
    data = [{"id": f"claude-{name}", "display_name": name, **limits, **life} for name in ("text", "tool")]
    return json.dumps({"data": data, "has_more": False, "first_id": None, "last_id": None}).encode()


def _blocks(scenario: Scenario) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    if scenario.reasoning:
        thoughts: list[dict[str, Any]] = [
            {"type": "thinking_delta", "thinking": piece} for piece in cut(scenario.reasoning, scenario.pieces)
        ]
        thoughts.append({"type": "signature_delta", "signature": SIGNATURE})
        yield {"type": "thinking", "thinking": "", "signature": ""}, thoughts
    if scenario.text:
        pieces = cut(scenario.text, scenario.pieces)
        yield {"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces]
    for index, (name, arguments) in enumerate(scenario.tool_calls):
        block = {"type": "tool_use", "id": f"toolu_{index}", "name": name, "input": {}}
        yield block, [{"type": "input_json_delta", "partial_json": piece} for piece in ("", *cut(arguments, 3))]


def _envelope(request: Request, scenario: Scenario, *, output: int) -> dict[str, Any]:
    """Count 11 tokens of input, 4 of them read from the cache, which this dialect leaves out of `input_tokens`."""
    body: dict[str, Any] = {"id": "msg_fake", "type": "message", "role": "assistant", "model": request.model}
    body |= {"content": [], "stop_reason": None, "stop_sequence": None}
    if scenario.usage != "never":
        body["usage"] = {"input_tokens": 7, "cache_read_input_tokens": 4, "output_tokens": output}
    return body


def _output(scenario: Scenario) -> int:
    return sum(1 for text in (scenario.reasoning, scenario.text) for _ in cut(text, scenario.pieces)) + len(
        scenario.tool_calls
    )


def _stop(scenario: Scenario) -> str | None:
    if scenario.finish is None:
        return None
    return "tool_use" if scenario.tool_calls else _STOPS[scenario.finish]


def _event(kind: str, **fields: Any) -> bytes:
    return sse({"type": kind, **fields}, kind)

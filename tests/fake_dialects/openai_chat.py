"""OpenAI chat completions, and the scenarios as this dialect has them."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.fake_dialects.base import Request, Scenario, cut, sse

MEDIA_TYPE = "text/event-stream; charset=utf-8"


def _error(message: str, *, code: str | None = None, kind: str = "invalid_request_error") -> bytes:
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}).encode()


_PAGE = b"<!DOCTYPE html><html><head><title>Welcome</title></head><body><h1>It works!</h1></body></html>"
_WEATHER = ("get_weather", '{"city": "Paris"}')
_TIME = ("get_time", '{"zone": "Europe/Paris"}')

SCENARIOS: Mapping[str, Scenario] = {
    # what goes well
    "text": Scenario(),
    "slow": Scenario(pieces=20, delay_s=0.05),
    "endless": Scenario(text="again and again ", pieces=100_000, delay_s=0.02),
    "reasoning": Scenario(reasoning="Let me think about this."),
    "tool": Scenario(text="", tool_calls=(_WEATHER,), finish="tool_calls"),
    "tools": Scenario(text="I will look.", tool_calls=(_WEATHER, _TIME), finish="stop"),
    "structured": Scenario(text='{"city": "Paris", "country": "France"}', pieces=4),
    "length": Scenario(finish="length"),
    "filtered_late": Scenario(finish="content_filter"),
    "no_usage": Scenario(usage="never"),
    "usage_on_last_chunk": Scenario(usage="last_chunk"),
    "no_done": Scenario(ending="no_done"),
    "no_finish": Scenario(finish=None),
    "slow_first_token": Scenario(first_delay_s=1.0),
    "not_streaming": Scenario(ignores_stream=True),
    "rejects_stream_options": Scenario(refuses_stream_options=True),
    # refusals
    "unauthorized": Scenario(status=401, body=_error("Incorrect API key provided: KEY.", code="invalid_api_key")),
    "forbidden": Scenario(status=403, body=_error("Project may not use this model.", kind="permission_error")),
    "not_found": Scenario(status=404, body=_error("The model does not exist.", code="model_not_found")),
    "no_route": Scenario(status=404, body=b'{"detail":"Not Found"}'),
    "bad_request": Scenario(status=400, body=_error("Unsupported value: 'temperature'.", code="unsupported_value")),
    "context_too_long": Scenario(
        status=400,
        body=_error("This model's maximum context length is 8 tokens.", code="context_length_exceeded"),
    ),
    "content_filtered": Scenario(status=400, body=_error("Refused by policy.", code="content_policy_violation")),
    "rate_limited": Scenario(
        status=429,
        headers={"retry-after": "7"},
        body=_error("Rate limit reached.", code="rate_limit_exceeded", kind="requests"),
    ),
    "rate_limited_silently": Scenario(status=429, body=_error("Rate limit reached.", code="rate_limit_exceeded")),
    "quota_exhausted": Scenario(
        status=429,
        body=_error("You exceeded your current quota.", code="insufficient_quota", kind="insufficient_quota"),
    ),
    "server_error": Scenario(status=500, body=_error("The server had an error.", kind="server_error")),
    "overloaded": Scenario(status=503, body=_error("The engine is overloaded.", kind="overloaded")),
    "busy": Scenario(status=529, body=_error("The service is overloaded.", kind="overloaded")),
    "redirect": Scenario(status=307, headers={"location": "http://127.0.0.1:1/v1/chat/completions"}, body=b""),
    # misbehaviour
    "html": Scenario(content_type="text/html; charset=utf-8", body=_PAGE),
    "html_error": Scenario(status=502, content_type="text/html", body=_PAGE),
    "wrong_type": Scenario(content_type="image/png", body=b"\x89PNG\r\n"),
    "json_error": Scenario(content_type="application/json", body=_error("No such thing.", code="model_not_found")),
    "malformed": Scenario(events=(b'data: {"choices": [{"delta": {"content": "He\n\n',)),
    "truncated": Scenario(ending="eof"),
    "cut": Scenario(ending="cut"),
    "stall": Scenario(ending="stall"),
    "silent": Scenario(never_answers=True),
    "hangs_up": Scenario(hangs_up=True),
    "huge_line": Scenario(events=(b"data: " + b"x" * (10 * 1024 * 1024) + b"\n\n",)),
    "error_in_stream": Scenario(
        events=(b'data: {"error": {"message": "Out of memory.", "type": "server_error", "code": 500}}\n\n',)
    ),
}


def content(request: Request, scenario: Scenario) -> Iterator[bytes]:
    """Yield the events of a stream, and what its ending says of the end."""
    yield _event(request, {"role": "assistant", "content": ""})
    if scenario.reasoning:
        for piece in cut(scenario.reasoning, scenario.pieces):
            yield _event(request, {"reasoning_content": piece})
    for piece in cut(scenario.text, scenario.pieces):
        yield _event(request, {"content": piece})
    for index, (name, arguments) in enumerate(scenario.tool_calls):
        yield from _call_events(request, index, name, arguments)
    yield from scenario.events or ()
    if scenario.ending in {"done", "no_done"} and scenario.events is None:
        yield from _end(request, scenario)


def _end(request: Request, scenario: Scenario) -> Iterator[bytes]:
    usage = _usage(scenario)
    asked = bool(((request.json or {}).get("stream_options") or {}).get("include_usage"))
    on_last = scenario.usage == "last_chunk"
    yield _event(request, {}, finish=scenario.finish, usage=usage if on_last else None)
    if scenario.usage == "always" or (scenario.usage == "asked" and asked):
        yield sse({**_envelope(request, "chat.completion.chunk"), "choices": [], "usage": usage})
    if scenario.ending == "done":
        yield b"data: [DONE]\n\n"


def _call_events(request: Request, index: int, name: str, arguments: str) -> Iterator[bytes]:
    first = {
        "index": index,
        "id": f"call_{index}",
        "type": "function",
        "function": {"name": name, "arguments": ""},
    }
    yield _event(request, {"tool_calls": [first]})
    for piece in cut(arguments, 3):
        yield _event(request, {"tool_calls": [{"index": index, "function": {"arguments": piece}}]})


def completion(request: Request, scenario: Scenario) -> bytes:
    message: dict[str, Any] = {"role": "assistant", "content": scenario.text or None}
    if scenario.reasoning:
        message["reasoning_content"] = scenario.reasoning
    if scenario.tool_calls:
        message["tool_calls"] = [
            {"id": f"call_{index}", "type": "function", "function": {"name": name, "arguments": arguments}}
            for index, (name, arguments) in enumerate(scenario.tool_calls)
        ]
    body = _envelope(request, "chat.completion")
    body["choices"] = [{"index": 0, "message": message, "finish_reason": scenario.finish}]
    if scenario.usage != "never":
        body["usage"] = _usage(scenario)
    return json.dumps(body).encode()


def _event(
    request: Request, delta: dict[str, Any], *, finish: str | None = None, usage: dict[str, Any] | None = None
) -> bytes:
    body = _envelope(request, "chat.completion.chunk")
    body["choices"] = [{"index": 0, "delta": delta, "finish_reason": finish}]
    if usage is not None:
        body["usage"] = usage
    return sse(body)


def _envelope(request: Request, kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-fake", "object": kind, "created": 1_700_000_000, "model": request.model}


def _usage(scenario: Scenario) -> dict[str, Any]:
    """Count 11 tokens of input, 4 of them cached; of output one a piece, the reasoning's among them."""
    reasoning = sum(1 for _ in cut(scenario.reasoning, scenario.pieces))
    output = sum(1 for _ in cut(scenario.text, scenario.pieces)) + len(scenario.tool_calls)
    return {
        "prompt_tokens": 11,
        "completion_tokens": output + reasoning,
        "total_tokens": 11 + output + reasoning,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


def about(request: Request) -> bytes | None:
    """Answer what is no completion."""
    if request.method != "GET":
        return None
    about = {"object": "model", "created": 1_700_000_000, "owned_by": "fake", "context_window": 131_072}  # as Groq does
    data = [{"id": name, **about} for name in SCENARIOS]
    return json.dumps({"object": "list", "data": data}).encode()

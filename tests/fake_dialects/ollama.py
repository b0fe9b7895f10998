"""Ollama's native chat, and the scenarios as this dialect has them: lines of JSON."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.fake_dialects import openai_chat
from tests.fake_dialects.base import Request, Scenario, cut

MEDIA_TYPE = "application/x-ndjson"
_MODELS = {"llama3.2:latest": ["completion", "tools"], "nomic-embed-text:latest": ["embedding"]}


def _error(message: str) -> bytes:
    return json.dumps({"error": message}).encode()


SCENARIOS: Mapping[str, Scenario] = {
    **openai_chat.SCENARIOS,
    "unauthorized": Scenario(status=401, body=_error("unauthorized: KEY")),
    "forbidden": Scenario(status=403, body=_error("this model needs a subscription")),
    "not_found": Scenario(status=404, body=_error("model 'nothing' not found")),
    "bad_request": Scenario(status=400, body=_error("m does not support tools")),
    "context_too_long": Scenario(status=400, body=_error("the input length exceeds the context length")),
    "content_filtered": Scenario(status=400, body=_error("The prompt violates the content policy.")),
    "rate_limited": Scenario(status=429, headers={"retry-after": "7"}, body=_error("too many concurrent requests")),
    "rate_limited_silently": Scenario(status=429, body=_error("too many concurrent requests")),
    "quota_exhausted": Scenario(status=402, body=_error("you have reached your usage limit, upgrade to go on")),
    "server_error": Scenario(status=500, body=_error("model requires more system memory than is available")),
    "overloaded": Scenario(status=503, body=_error("server busy, maximum pending requests exceeded")),
    "json_error": Scenario(content_type="application/json", body=_error("model 'nothing' not found")),
    "malformed": Scenario(events=(b'{"message": {"content": "He\n',)),
    "error_in_stream": Scenario(events=(_error("an error was encountered while running the model") + b"\n",)),
    "huge_line": Scenario(events=(b'{"message": "' + b"x" * (10 * 1024 * 1024) + b'"}\n',)),
}


def content(request: Request, scenario: Scenario) -> Iterator[bytes]:
    """Yield the lines of a stream, and what its ending says of the end."""
    for piece in cut(scenario.reasoning, scenario.pieces):
        yield _line(request, {"content": "", "thinking": piece})
    for piece in cut(scenario.text, scenario.pieces):
        yield _line(request, {"content": piece})
    for call in _calls(scenario):
        yield _line(request, {"content": "", "tool_calls": [call]})
    yield from scenario.events or ()
    if scenario.ending == "done" and scenario.events is None:
        yield _line(request, {"content": ""}, _end(scenario))


def completion(request: Request, scenario: Scenario) -> bytes:
    """Return a whole answer."""
    message: dict[str, Any] = {"content": scenario.text}
    if scenario.reasoning:
        message["thinking"] = scenario.reasoning
    if scenario.tool_calls:
        message["tool_calls"] = _calls(scenario)
    return _line(request, message, _end(scenario))


def about(request: Request) -> bytes | None:
    """Answer what is no completion."""
    if request.path.endswith("/api/version"):
        return b'{"version": "0.99.0"}'
    if request.path.endswith("/api/tags"):
        return json.dumps({"models": [{"name": name, "model": name} for name in _MODELS]}).encode()
    if request.path.endswith("/api/show"):
        info = {"general.architecture": "llama", "llama.context_length": 131072}
        capabilities = _MODELS.get(request.model, ["completion"])
        return json.dumps({"capabilities": capabilities, "model_info": info}).encode()
    return None


def _calls(scenario: Scenario) -> list[dict[str, Any]]:
    return [{"function": {"name": name, "arguments": json.loads(given)}} for name, given in scenario.tool_calls]


def _end(scenario: Scenario) -> dict[str, Any]:
    end = {"done": True, "done_reason": scenario.finish if scenario.finish in {"stop", "length"} else "stop"}
    if scenario.finish == "content_filter":
        end["done_reason"] = "content_filter"
    if scenario.usage == "never":
        return end
    texts = (scenario.reasoning, scenario.text)
    output = sum(1 for text in texts for _ in cut(text, scenario.pieces)) + len(scenario.tool_calls)
    return {**end, "prompt_eval_count": 11, "eval_count": output}


def _line(request: Request, message: dict[str, Any], end: dict[str, Any] | None = None) -> bytes:
    body = {"model": request.model, "created_at": "2026-01-01T00:00:00Z", "message": {"role": "assistant", **message}}
    return json.dumps({**body, **(end or {"done": False})}, ensure_ascii=False).encode() + b"\n"

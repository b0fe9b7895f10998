"""Gemini's generateContent, and the scenarios as this dialect has them. Its events end in CRLF, as the real ones do."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.fake_dialects import openai_chat
from tests.fake_dialects.base import Request, Scenario, cut, sse

MEDIA_TYPE = "text/event-stream"
SIGNATURE = "RmFrZSBzaWduYXR1cmU="
_REASONS = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP", "content_filter": "SAFETY"}


def _error(code: int, status: str, message: str, *details: dict[str, Any]) -> bytes:
    error = {"code": code, "message": message, "status": status, "details": list(details)}
    return json.dumps({"error": error}, indent=2).encode()


_INFO = "type.googleapis.com/google.rpc.ErrorInfo"
_RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}
_PER_DAY = {
    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
    "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel"}],
}
_LIMITED = "Resource has been exhausted."
_NOT_FOUND = _error(404, "NOT_FOUND", "models/nothing is not found for API version v1beta.")

SCENARIOS: Mapping[str, Scenario] = {
    **openai_chat.SCENARIOS,
    "unauthorized": Scenario(
        status=400,
        body=_error(
            400,
            "INVALID_ARGUMENT",
            "API key not valid. Please pass a valid API key.",
            {"@type": _INFO, "reason": "API_KEY_INVALID"},
        ),
    ),
    "forbidden": Scenario(status=403, body=_error(403, "PERMISSION_DENIED", "The caller has no permission.")),
    "not_found": Scenario(status=404, body=_NOT_FOUND),
    "bad_request": Scenario(status=400, body=_error(400, "INVALID_ARGUMENT", "Unknown name: temprature")),
    "context_too_long": Scenario(
        status=400,
        body=_error(400, "INVALID_ARGUMENT", "The input token count (9) exceeds the maximum number of tokens (8)."),
    ),
    "content_filtered": Scenario(body=json.dumps({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}).encode()),
    "rate_limited": Scenario(status=429, body=_error(429, "RESOURCE_EXHAUSTED", _LIMITED, _RETRY)),
    "rate_limited_silently": Scenario(status=429, body=_error(429, "RESOURCE_EXHAUSTED", _LIMITED)),
    "quota_exhausted": Scenario(status=429, body=_error(429, "RESOURCE_EXHAUSTED", _LIMITED, _PER_DAY, _RETRY)),
    "server_error": Scenario(status=500, body=_error(500, "INTERNAL", "An internal error has occurred.")),
    "overloaded": Scenario(status=503, body=_error(503, "UNAVAILABLE", "The model is overloaded.")),
    "json_error": Scenario(content_type="application/json", body=b"[" + _NOT_FOUND + b"]"),
    "malformed": Scenario(events=(b'data: {"candidates": [{"content": {"par\r\n\r\n',)),
    "error_in_stream": Scenario(events=(b"[" + _error(503, "UNAVAILABLE", "The model is overloaded.") + b"]",)),
}


def content(request: Request, scenario: Scenario) -> Iterator[bytes]:
    """Yield the events of a stream, and what its ending says of the end."""
    for part in _parts(scenario):
        yield _event(_response(request, scenario, [part]))
    yield from scenario.events or ()
    if scenario.ending in {"done", "no_done"} and scenario.events is None:
        reason = _REASONS[scenario.finish] if scenario.finish else None
        yield _event(_response(request, scenario, [{"text": ""}], reason))


def completion(request: Request, scenario: Scenario) -> bytes:
    """Return a whole answer."""
    reason = _REASONS[scenario.finish] if scenario.finish else None
    return json.dumps(_response(request, scenario, list(_parts(scenario)), reason)).encode()


def about(request: Request) -> bytes | None:
    """Answer what is no completion."""
    if request.method != "GET":
        return None
    found = [
        {
            "name": f"models/gemini-{name}",
            "displayName": name,
            "inputTokenLimit": 1000,
            "outputTokenLimit": 100,
            "supportedGenerationMethods": ["generateContent", "countTokens"],
        }
        for name in ("text", "tool")
    ]
    return json.dumps({"models": found}).encode()


def _parts(scenario: Scenario) -> Iterator[dict[str, Any]]:
    for piece in cut(scenario.reasoning, scenario.pieces):
        yield {"text": piece, "thought": True}
    for piece in cut(scenario.text, scenario.pieces):
        yield {"text": piece}
    for number, (name, arguments) in enumerate(scenario.tool_calls):
        signature = {"thoughtSignature": SIGNATURE} if number == 0 else {}
        yield {"functionCall": {"name": name, "args": json.loads(arguments)}, **signature}


def _response(
    request: Request, scenario: Scenario, parts: list[dict[str, Any]], reason: str | None = None
) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if reason is not None:
        candidate["finishReason"] = reason
    body = {"candidates": [candidate], "modelVersion": request.model, "responseId": "fake"}
    return body if scenario.usage == "never" else {**body, "usageMetadata": _usage(scenario)}


def _usage(scenario: Scenario) -> dict[str, int]:
    """Count 11 tokens of input, 4 of them cached; thoughts stand beside the output."""
    thoughts = sum(1 for _ in cut(scenario.reasoning, scenario.pieces))
    output = sum(1 for _ in cut(scenario.text, scenario.pieces)) + len(scenario.tool_calls)
    counts = {"promptTokenCount": 11, "cachedContentTokenCount": 4, "candidatesTokenCount": output}
    return {**counts, "thoughtsTokenCount": thoughts, "totalTokenCount": 11 + output + thoughts}


def _event(body: dict[str, Any]) -> bytes:
    return sse(body, end=b"\r\n\r\n")

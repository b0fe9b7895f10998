"""OpenAI's responses, and the scenarios as this dialect has them."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.fake_dialects import openai_chat
from tests.fake_dialects.base import Request, Scenario, cut, sse

MEDIA_TYPE = "text/event-stream; charset=utf-8"
ENCRYPTED = "gAAAAABfake"
about = openai_chat.about

_OVERLOADED = {"type": "error", "code": "server_is_overloaded", "message": "Our servers are overloaded.", "param": None}

SCENARIOS: Mapping[str, Scenario] = {
    **openai_chat.SCENARIOS,
    "malformed": Scenario(events=(b'event: response.output_text.delta\ndata: {"type": "response.outp\n\n',)),
    "error_in_stream": Scenario(events=(sse(_OVERLOADED, "error"),)),
}


def content(request: Request, scenario: Scenario) -> Iterator[bytes]:
    """Yield the events of a stream, numbered, and what its ending says of the end."""
    for number, event in enumerate(_events(request, scenario)):
        yield event if isinstance(event, bytes) else sse({**event, "sequence_number": number}, event["type"])


def _events(request: Request, scenario: Scenario) -> Iterator[dict[str, Any] | bytes]:
    yield _event("created", response={**_envelope(request), "status": "in_progress", "output": []})
    items = list(_items(scenario))
    for place, item in enumerate(items):
        yield _event("output_item.added", output_index=place, item={**item, **_EMPTY[item["type"]]})
        at = {"item_id": item["id"], "output_index": place}
        yield from ({**event, **at} for event in _deltas(item, scenario))
        yield _event("output_item.done", output_index=place, item=item)
    yield from scenario.events or ()
    if scenario.ending in {"done", "no_done"} and scenario.events is None:
        response = _response(request, scenario, items)
        yield _event(response["status"], response=response)


def completion(request: Request, scenario: Scenario) -> bytes:
    """Return a whole answer."""
    return json.dumps(_response(request, scenario, list(_items(scenario)))).encode()


_EMPTY: Mapping[str, dict[str, Any]] = {
    "reasoning": {"summary": []},
    "message": {"content": []},
    "function_call": {"arguments": ""},
}


def _items(scenario: Scenario) -> Iterator[dict[str, Any]]:
    if scenario.reasoning:
        summary = [{"type": "summary_text", "text": scenario.reasoning}]
        yield {"type": "reasoning", "id": "rs_fake", "summary": summary, "encrypted_content": ENCRYPTED}
    if scenario.text:
        text = {"type": "output_text", "text": scenario.text, "annotations": []}
        yield {"type": "message", "id": "msg_fake", "role": "assistant", "status": "completed", "content": [text]}
    for number, (name, arguments) in enumerate(scenario.tool_calls):
        call = {"type": "function_call", "id": f"fc_{number}", "call_id": f"call_{number}"}
        yield {**call, "name": name, "arguments": arguments, "status": "completed"}


def _deltas(item: dict[str, Any], scenario: Scenario) -> Iterator[dict[str, Any]]:
    """Yield what fills one item; where it stands is left to the caller."""
    match item["type"]:
        case "reasoning":
            part, text = {"type": "summary_text", "text": ""}, scenario.reasoning
            yield _event("reasoning_summary_part.added", summary_index=0, part=part)
            for piece in cut(text, scenario.pieces):
                yield _event("reasoning_summary_text.delta", summary_index=0, delta=piece)
            yield _event("reasoning_summary_text.done", summary_index=0, text=text)
            yield _event("reasoning_summary_part.done", summary_index=0, part={**part, "text": text})
        case "message":
            part, text = item["content"][0], scenario.text
            yield _event("content_part.added", content_index=0, part={**part, "text": ""})
            for piece in cut(text, scenario.pieces):
                yield _event("output_text.delta", content_index=0, delta=piece, logprobs=[])
            yield _event("output_text.done", content_index=0, text=text, logprobs=[])
            yield _event("content_part.done", content_index=0, part=part)
        case "function_call":
            for piece in cut(item["arguments"], 3):
                yield _event("function_call_arguments.delta", delta=piece)
            yield _event("function_call_arguments.done", name=item["name"], arguments=item["arguments"])


def _response(request: Request, scenario: Scenario, items: list[dict[str, Any]]) -> dict[str, Any]:
    reasons = {"length": "max_output_tokens", "content_filter": "content_filter"}
    reason = reasons.get(scenario.finish or "")
    body = {**_envelope(request), "status": "incomplete" if reason else "completed", "output": items}
    body["incomplete_details"] = {"reason": reason} if reason else None
    body["usage"] = None if scenario.usage == "never" else _usage(scenario)
    return body


def _usage(scenario: Scenario) -> dict[str, Any]:
    """Count 11 tokens of input, 4 of them cached."""
    reasoning = sum(1 for _ in cut(scenario.reasoning, scenario.pieces))
    output = sum(1 for _ in cut(scenario.text, scenario.pieces)) + len(scenario.tool_calls) + reasoning
    inputs = {"input_tokens": 11, "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0}}
    outputs = {"output_tokens": output, "output_tokens_details": {"reasoning_tokens": reasoning}}
    return {**inputs, **outputs, "total_tokens": 11 + output}


def _envelope(request: Request) -> dict[str, Any]:
    said = {"id": "resp_fake", "object": "response", "created_at": 1_700_000_000, "model": request.model, "error": None}
    return {**said, "tools": [], "tool_choice": "auto", "parallel_tool_calls": True}


def _event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", **fields}

"""Bodies that the fake provider makes, as recordings of their own: what every check has of each dialect."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tests.fake_dialects import anthropic, cohere, gemini, ollama, openai_chat, openai_responses
from tests.fake_dialects.base import Dialect, Request, Scenario, cut
from tests.wire.recordings import Recording

TEXT = "Grüße, 世界: ไทย, 👩‍👩‍👧 and more."
"""Of characters of one to four bytes, so that pieces of a body end within them."""

SCENARIOS: Mapping[str, str] = {
    "text": "STOP",
    "reasoning": "STOP",
    "tools": "TOOL_CALLS",
    "error_in_stream": "",
}
_WHOLE = "tools"
_PATHS = {"openai-responses": "/responses"}


@dataclass(frozen=True, slots=True)
class _Counts:
    """What a dialect counts: tokens read from a cache, and reasoning apart."""

    cached: int
    reasoning: bool


_DIALECTS: Mapping[str, tuple[Dialect, _Counts]] = {
    "openai-chat": (openai_chat, _Counts(4, reasoning=True)),
    "openai-responses": (openai_responses, _Counts(4, reasoning=True)),
    "anthropic-messages": (anthropic, _Counts(4, reasoning=False)),
    "gemini": (gemini, _Counts(4, reasoning=True)),
    "cohere": (cohere, _Counts(4, reasoning=False)),
    "ollama": (ollama, _Counts(0, reasoning=False)),
}


def made_recordings() -> list[Recording]:
    """Return the answers of every dialect to some scenarios, all streamed and one of them whole."""
    return list(_made())


def _made() -> Iterator[Recording]:
    for dialect, (module, counts) in _DIALECTS.items():
        for name, finish in SCENARIOS.items():
            scenario = _with_text(module.SCENARIOS[name])
            expected = _expected(scenario, finish, counts)
            for streaming in (True, False) if name == _WHOLE else (True,):
                yield _recording(dialect, module, name, scenario, expected, streaming=streaming)


def _with_text(scenario: Scenario) -> Scenario:
    return replace(scenario, text=TEXT, usage="always")


def _recording(
    dialect: str, module: Dialect, name: str, scenario: Scenario, expected: dict[str, Any], *, streaming: bool
) -> Recording:
    request = Request(method="POST", path=_PATHS.get(dialect, "/"), headers={}, json={"model": "m"})
    body = b"".join(module.content(request, scenario)) if streaming else module.completion(request, scenario)
    return Recording(
        name=f"{dialect}/made-{name}-{'stream' if streaming else 'json'}",
        kind="responses" if module is openai_responses else "chat",
        path=request.path,
        status=200,
        headers={"content-type": module.MEDIA_TYPE if streaming else "application/json"},
        streaming=streaming,
        request={},
        body=body,
        expected=expected,
    )


def _expected(scenario: Scenario, finish: str, counts: _Counts) -> dict[str, Any]:
    calls = [{"name": name, "arguments": json.loads(arguments)} for name, arguments in scenario.tool_calls]
    reasoning = sum(1 for _ in cut(scenario.reasoning, scenario.pieces))
    output = reasoning + sum(1 for _ in cut(scenario.text, scenario.pieces)) + len(calls)
    usage = {
        "input_total": 11,
        "output_total": output,
        "cached_input": counts.cached,
        "reasoning": reasoning if counts.reasoning else 0,
    }
    return {
        "text": scenario.text,
        "reasoning": scenario.reasoning,
        "tool_calls": calls,
        "finish_reason": finish or None,
        "usage": usage if finish else None,
        "error": None if finish else {"kind": "server"},
    }

"""Recorded bodies of real providers decode to what is expected, through the whole API."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from core.errors import ErrorCode
from core.model_types import Usage
from core.model_types.llm import FinishReason
from tests.conftest import settings_for
from tests.product import Product, model, running
from tests.wire.recordings import Outcome, Recording, Replay, differences, load

FOLDER = os.environ.get("MODELYARD_RECORDINGS", "")
RECORDINGS = load(Path(FOLDER), ("openai-chat", "openai-compatible")) if FOLDER else []
COMPLETE = """mutation ($input: CompletionInput!) { complete(input: $input) {
  message { text reasoning toolCalls { name arguments } } finishReason errors { code message }
  invocation { usage { inputTokens outputTokens cachedInputTokens reasoningTokens estimated } } } }"""

pytestmark = pytest.mark.skipif(not FOLDER, reason="MODELYARD_RECORDINGS names no folder of recorded answers")


@pytest.fixture(scope="module")
async def replay() -> AsyncIterator[Replay]:
    async with Replay.serve(RECORDINGS) as server:
        yield server


@pytest.fixture(scope="module")
async def shared(
    sqlite_template: Path, redis_url: str, tmp_path_factory: pytest.TempPathFactory, replay: Replay
) -> AsyncIterator[Product]:
    folder = tmp_path_factory.mktemp("recordings")
    (folder / "modelyard.db").write_bytes(sqlite_template.read_bytes())
    url = f"sqlite+aiosqlite:///{folder}/modelyard.db"
    async with running(settings_for(url, redis_url, folder, EGRESS_ALLOW="127.0.0.0/8:*")) as product:
        for recording in RECORDINGS:
            given = {"provider": "openai_compatible", "name": recording.name, "type": "LLM"}
            values = [{"field": "base_url", "value": replay.base_url(recording)}]
            await product.changed(
                "mutation($input:AddModelInput!){addModel(input:$input){model{id} errors{code message}}}",
                model=given,
                credential={"new": {"values": values}},
                verify=False,
            )
        yield product


@pytest.mark.parametrize("piece_bytes", [0, 7])
@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda one: one.name)
async def test_a_recording_through_the_api(
    shared: Product, replay: Replay, recording: Recording, piece_bytes: int
) -> None:
    replay.piece_bytes = piece_bytes

    if recording.streaming:
        outcome = of_events(await shared.stream(model=model(recording.name)))
    else:
        given = {"messages": [{"role": "USER", "text": "hi"}], "model": model(recording.name)}
        outcome = of_payload((await shared.data(COMPLETE, input=given))["complete"])

    assert differences(outcome, recording.expected) == []


def of_events(events: list[Any]) -> Outcome:
    outcome = Outcome()
    for event in events:
        match event["__typename"]:
            case "TextDelta":
                outcome.text += event["text"]
            case "ReasoningDelta":
                outcome.reasoning += event["text"]
            case "ToolCallDelta":
                if event["index"] == len(outcome.tool_calls):
                    outcome.tool_calls.append({"name": event["name"], "arguments": ""})
                outcome.tool_calls[event["index"]]["arguments"] += event["arguments"]
            case "CompletionFinished":
                outcome.finish_reason = FinishReason(event["finishReason"])
                outcome.usage = usage_of(event["usage"])
                assert event["message"]["text"] == outcome.text
            case "CompletionFailed":
                outcome.error = ErrorCode(event["error"]["code"])
                outcome.usage = usage_of(event["spent"])
    return outcome


def of_payload(payload: Any) -> Outcome:
    if payload["errors"]:
        return Outcome(error=ErrorCode(payload["errors"][0]["code"]))
    message = payload["message"]
    return Outcome(
        text=message["text"],
        reasoning=message["reasoning"] or "",
        tool_calls=[{"name": call["name"], "arguments": call["arguments"]} for call in message["toolCalls"]],
        finish_reason=FinishReason(payload["finishReason"]),
        usage=usage_of(payload["invocation"]["usage"]),
    )


def usage_of(given: Any) -> Usage | None:
    if given is None:
        return None
    return Usage(
        input_tokens=given.get("inputTokens", 0),
        output_tokens=given["outputTokens"],
        cached_input_tokens=given.get("cachedInputTokens", 0),
        reasoning_tokens=given.get("reasoningTokens", 0),
        estimated=given["estimated"],
    )

"""Clients that do not give up: each asks once, by a key, and finds its answer again wherever it may be read."""

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import httpx
from websockets.exceptions import WebSocketException

from tests.chaos.provider import Plan
from tests.product import Client, chat, completion, model, rejoined

CANCEL = "mutation($input:CancelInvocationInput!){cancelInvocation(input:$input){invocation{status} errors{code}}}"
TROUBLE = (OSError, WebSocketException, httpx.HTTPError, AssertionError, TimeoutError, json.JSONDecodeError)
QUIET_S = 20.0


@dataclass(slots=True, kw_only=True)
class Seen:
    """What a client has had of its call. `end` is the terminal event; None where it left before."""

    plan: Plan
    invocation_id: str | None = None
    texts: dict[int, str] = field(default_factory=dict)
    last: int = -1
    end: Any = None
    refused: str | None = None
    lost: int = 0

    @property
    def delivered(self) -> int:
        """Return how many tokens it was given."""
        return sum(map(len, self.texts.values())) // 4


async def call(apis: Callable[[], Sequence[Client]], plan: Plan, seed: int, until: float) -> Seen:
    """Make one call and follow it to its end, or as far as the plan says; through any process that answers."""
    dice, seen, loop = random.Random(seed), Seen(plan=plan), asyncio.get_running_loop()
    while loop.time() < until:
        try:
            if await _follow(dice.choice(list(apis())), plan, seen):
                return seen
        except TROUBLE:
            seen.lost += 1
        await asyncio.sleep(dice.uniform(0.05, 0.3))
    return seen


async def _follow(api: Client, plan: Plan, seen: Seen) -> bool:
    """Read on from where the client is; tell whether it is done."""
    given = chat(plan.prompt, model=model("counted"), idempotencyKey=f"chaos-{plan.number}")
    async with asyncio.timeout(QUIET_S + plan.chunks * plan.delay_s), api.socket() as ws:
        events = completion(ws, given) if seen.invocation_id is None else rejoined(ws, seen.invocation_id, seen.last)
        async with aclosing(events):
            async for event in events:
                if _is_over(event, seen):
                    return True
                if event["__typename"] == "CompletionInterrupted":
                    return False
                if event["invocationId"] is None:  # refused before it began: asked again
                    return False
                if _has(seen, plan.leave_after):
                    ws.transport.abort()
                    return True
                if _has(seen, plan.cancel_after):
                    await api.ask(CANCEL, input={"id": seen.invocation_id})
    return False


def _is_over(event: Any, seen: Seen) -> bool:
    """Take note of an event; tell whether it is the last one."""
    kind = event["__typename"]
    if event["invocationId"] is not None:
        seen.invocation_id = event["invocationId"]
        seen.last = max(seen.last, event["sequence"])
    if kind == "TextDelta":
        seen.texts[event["sequence"]] = event["text"]
    if kind == "CompletionFailed" and event["invocationId"] is None:
        code = event["error"]["code"]
        if code in {"SERVER_UNAVAILABLE", "INTERNAL"}:
            return False
        seen.refused = code
        return True
    if kind in {"CompletionFinished", "CompletionFailed"}:
        seen.end = event
        return True
    return False


def _has(seen: Seen, count: int | None) -> bool:
    return count is not None and seen.delivered >= count

"""A provider that counts: what each call was sent, chunk by chunk, whoever was there to read it."""

import asyncio
import json
import random
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from aiohttp import web

CHUNK = "abc "
"""One token of output: four bytes, so that whoever counts four bytes as one counts the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How one call goes: what the provider sends, and what its client does."""

    number: int
    chunks: int
    delay_s: float
    cut_after: int | None
    cancel_after: int | None
    leave_after: int | None

    @property
    def prompt(self) -> str:
        """Return the text by which the provider knows the plan."""
        return json.dumps(asdict(self))


def plans(count: int, seed: int) -> list[Plan]:
    """Return the plans of a run: of ten calls about five are to be cut, by the provider or by their client."""
    dice = random.Random(seed)
    made = []
    for number in range(count):
        chunks = dice.randint(4, 120)
        fate, place = dice.random(), dice.randint(1, max(1, chunks - 3))
        made.append(
            Plan(
                number=number,
                chunks=chunks,
                delay_s=dice.choice((0.002, 0.01, 0.03)),
                cut_after=place if fate < 0.15 else None,
                cancel_after=place if 0.15 <= fate < 0.3 else None,
                leave_after=place if 0.3 <= fate < 0.45 else None,
            )
        )
    return made


@dataclass(slots=True, kw_only=True)
class Sent:
    """What a call was given: how often it was asked, and the tokens that were counted."""

    requests: int = 0
    prompt: int = 0
    output: int = 0


@dataclass(slots=True)
class CountingProvider:
    """An OpenAI-compatible server. `sent` is its own count, by the number of the call."""

    sent: dict[int, Sent] = field(default_factory=dict)
    url: str = ""
    _runner: web.AppRunner | None = None

    async def __aenter__(self) -> "CountingProvider":
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
        with suppress(ConnectionError):  # who asked is gone
            await self._say(request, answer)
        return answer

    async def _say(self, request: web.Request, answer: web.StreamResponse) -> None:
        text = (await request.json())["messages"][-1]["content"]
        plan = Plan(**json.loads(text))
        sent = self.sent.setdefault(plan.number, Sent())
        sent.requests += 1
        sent.prompt += len(text) // 3 + 11  # its own way of counting, which is not ours
        await answer.prepare(request)
        for place in range(plan.chunks):
            if place == plan.cut_after:
                if request.transport is not None:  # who asked may be gone already
                    request.transport.abort()
                return
            sent.output += 1  # counted before it leaves: who reads it can never have more
            await _write(answer, {"choices": [{"index": 0, "delta": {"content": CHUNK}}]})
            await asyncio.sleep(plan.delay_s)
        await _write(answer, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        usage = {"prompt_tokens": sent.prompt, "completion_tokens": sent.output}
        await _write(answer, {"choices": [], "usage": {**usage, "total_tokens": sum(usage.values())}})
        await answer.write(b"data: [DONE]\n\n")


async def _write(answer: web.StreamResponse, chunk: dict[str, Any]) -> None:
    body = {"id": "c", "object": "chat.completion.chunk", "model": "m", **chunk}
    await answer.write(b"data: " + json.dumps(body).encode() + b"\n\n")

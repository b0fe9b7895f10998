"""The owner of one call whose result comes whole, and what waits for it."""

import asyncio
from dataclasses import dataclass
from typing import Generic, TypeVar
from uuid import UUID

from core.app import App
from core.deadline import timeout_text
from core.entities import Invocation
from core.errors import ModelyardError, Problem, UpstreamTimeout
from core.model_types import ModelType, Usage
from core.owner import Owner
from core.plan import Step
from core.pool import Tries, Try
from core.provider import Call
from core.running import Owned, Unread
from core.work import Requests, Work

T = TypeVar("T")

_SHORT = frozenset({ModelType.TEXT_EMBEDDING, ModelType.RERANK, ModelType.MODERATION})
"""Types whose requests are answered soon, so that silence tells; a recording may take long to be written down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Generic[T]):
    """How an admitted call ended: with a result, or with a problem."""

    invocation_id: UUID
    result: T | None
    problem: Problem | None


class Wait(Unread, Generic[T]):
    """A call whose result comes whole."""

    def __init__(self, invocation: Invocation) -> None:
        super().__init__(invocation)
        self.owned: Owned
        self.outcome: asyncio.Future[Outcome[T]] = asyncio.get_running_loop().create_future()

    @property
    def ended(self) -> bool:
        """Tell whether the outcome is there."""
        return self.outcome.done()

    async def finished(self) -> Outcome[T]:
        """Wait for the outcome."""
        return await asyncio.shield(self.outcome)


class WholeOwner(Owner[Step], Generic[T]):
    """Runs one call whose result comes whole."""

    def __init__(
        self, app: App, invocation: Invocation, tries: Tries[Step], wait: Wait[T], work: Work[T], *, is_kept: bool
    ) -> None:
        super().__init__(app, invocation, tries)
        self._is_kept = is_kept
        self._wait = wait
        self._work = work
        self._requests: dict[Try[Step], Requests] = {}
        self._result: T | None = None

    async def _try(self, one: Try[Step]) -> None:
        step = one.step
        call = Call(model=step.model, card=step.card, values=await self._values(step))
        loop, call_s = asyncio.get_running_loop(), self._app.settings.call_seconds
        end = loop.time() + call_s
        first_s = min(one.first_s, call_s) if one.gives_way and step.key.type in _SHORT else call_s
        deadline = asyncio.timeout_at(loop.time() + first_s)

        def answered() -> None:
            self._decide(one)
            if not deadline.expired():
                deadline.reschedule(end)

        requests = self._requests[one] = Requests(answered)
        try:
            async with deadline:
                self._result = await self._work.attempt(call, requests)
        except TimeoutError:
            text = timeout_text(step.key.provider, spoke=False, total=loop.time() >= end, seconds=first_s)
            raise UpstreamTimeout(text) from None

    def _usage(self) -> Usage | None:
        used = self._work.usage()
        for lost in self._lost:  # its provider had read what it was sent when it was called off
            for foreseen in self._requests[lost].unanswered if lost in self._requests else ():
                used = (used or Usage(requests=0)).plus(foreseen)
        return used

    async def _keep(self) -> None:
        if self._is_kept:
            await self._app.results.keep(self._invocation.id, self._result)

    async def _end(self, error: ModelyardError | None, record: Invocation) -> None:
        problem = Problem.of(error) if error is not None else None
        result = self._result if error is None else None
        self._wait.outcome.set_result(Outcome(invocation_id=record.id, result=result, problem=problem))

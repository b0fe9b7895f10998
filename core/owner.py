"""The owner of one call of any type: tries its attempts in order, settles once, ends once."""

import asyncio
import logging
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Generic, TypeVar

from core.app import App
from core.entities import Invocation, InvocationStatus
from core.errors import Cancelled, ErrorCode, Internal, ModelyardError, Problem, ServerUnavailable
from core.ids import uuid7
from core.model_types import Usage
from core.model_types.llm import Attempt
from core.plan import Step
from core.pool import Tries
from core.pricing import cost
from core.running import Owned
from core.validation import validate_soon

log = logging.getLogger(__name__)

SETTLE_WAIT_S = 5.0
SETTLE_RETRY_S = (0.5, 1.0, 2.0, 5.0, 10.0)

S = TypeVar("S", bound=Step)


class Owner(ABC, Generic[S]):
    """Runs one admitted call to its one end. A type says how one attempt is made, what was used, and how it ends."""

    def __init__(self, app: App, invocation: Invocation, tries: Tries[S]) -> None:
        self._app = app
        self._invocation = invocation
        self._tries = tries
        self._id = str(invocation.id)
        self._attempts: list[Attempt] = []
        self._began = app.clock.monotonic()
        self._first_delta: float | None = None
        self._step = tries.current
        self._attempt_began = self._began
        self.owned: Owned | None = None

    @abstractmethod
    async def _try(self, step: S) -> None:
        """Make one attempt; `_spoke` is called when something of it has been delivered."""

    @abstractmethod
    def _usage(self) -> Usage | None:
        """Return what was used so far, counted here where the provider reported nothing; None for nothing."""

    @abstractmethod
    async def _end(self, error: ModelyardError | None, record: Invocation) -> None:
        """Tell whoever waits that it has ended."""

    def _reroute(self, failed: Attempt, following: S) -> None:
        """Tell that another attempt follows a failed one."""

    async def run(self) -> None:
        """Try, settle, end. Never raises."""
        error: ModelyardError | None = None
        try:
            await self._try_all()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            error = self._reason()
        except ModelyardError as failure:
            error = failure
        except Exception:
            error_id = uuid7()
            log.exception("call %s failed inside, error id %s", self._id, error_id)
            error = Internal(f"A fault of this server; its log has it under {error_id}.")
        self._tries.ended(served=False)
        if self.owned is not None:
            self.owned.settling = True
        await self._finish(error)

    def _spoke(self) -> None:
        """Note that something was delivered: from now on nothing is tried again."""
        if self._first_delta is None:
            self._first_delta = self._app.clock.monotonic()
            self._tries.spoke(self._first_delta - self._attempt_began)

    # ---- trying

    async def _try_all(self) -> None:
        while True:
            step = self._step = self._tries.current
            started = self._app.clock.now().timestamp()
            self._attempt_began = self._app.clock.monotonic()
            try:
                await self._try(step)
            except asyncio.CancelledError:
                self._attempted(step, started, Problem.of(self._reason()))
                self._tries.ended(served=False)
                raise
            except ModelyardError as error:
                failed = self._attempted(step, started, Problem.of(error))
                await self._tries.failed(error)
                if error.rests is None or self._first_delta is not None or not await self._tries.advance():
                    raise
                self._reroute(failed, self._tries.current)
            else:
                self._attempted(step, started, None)
                self._tries.ended(served=True)
                return

    def _attempted(self, step: S, started: float, error: Problem | None) -> Attempt:
        attempt = Attempt(
            model=step.key,
            credential_id=str(step.credential.id) if step.credential is not None else None,
            credential_name=step.credential_name,
            started_at=started,
            duration=self._app.clock.monotonic() - self._attempt_began,
            error=error,
        )
        self._attempts.append(attempt)
        if step.credential is not None and error is not None and error.code is ErrorCode.UPSTREAM_AUTHENTICATION:
            self._app.running.background(validate_soon(self._app, step.credential))
        return attempt

    def _reason(self) -> ModelyardError:
        reason = self.owned.reason if self.owned is not None else None
        return reason or ServerUnavailable("This server is stopping; ask again in a moment.")

    # ---- ending

    async def _finish(self, error: ModelyardError | None) -> None:
        record = self._record(error, self._usage())
        settled = await self._settle(record)
        await self._end(error, record)
        for pause in (*SETTLE_RETRY_S, *([SETTLE_RETRY_S[-1]] * 60)):
            if settled or self._app.running.closing:
                return
            await asyncio.sleep(pause)
            settled = await self._settle(record)

    async def _settle(self, record: Invocation) -> bool:
        try:
            async with asyncio.timeout(SETTLE_WAIT_S):
                await self._app.invocations.settle(record)
        except Exception:
            log.exception("the settlement of invocation %s has to be tried again", self._id)
            return False
        return True

    def _record(self, error: ModelyardError | None, usage: Usage | None) -> Invocation:
        step = self._step
        return replace(
            self._invocation,
            model=step.key,
            provider_type=step.provider_type,
            credential_id=step.credential.id if step.credential is not None else None,
            credential_name=step.credential_name,
            pricing=step.card.pricing,
            status=_status(error),
            usage=usage,
            cost=cost(usage, step.card.pricing) if usage is not None else None,
            attempts=tuple(self._attempts),
            error=Problem.of(error) if error is not None else None,
            ended_at=self._app.clock.now(),
            time_to_first_token=self._first_delta - self._began if self._first_delta is not None else None,
        )


def _status(error: ModelyardError | None) -> InvocationStatus:
    if error is None:
        return InvocationStatus.SUCCEEDED
    return InvocationStatus.CANCELLED if isinstance(error, Cancelled) else InvocationStatus.FAILED

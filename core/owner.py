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
from core.pool import Tries, Try
from core.ports.unsettled import Settlement
from core.pricing import cost
from core.provider import Values
from core.running import Owned
from core.settling import Settling
from core.validation import validate_soon

log = logging.getLogger(__name__)

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
        self._step = tries.current.step
        self._racing: dict[Try[S], asyncio.Task[None]] = {}
        self._lost: list[Try[S]] = []
        self._decided: Try[S] | None = None
        self._purse = tries.purse
        self.owned: Owned | None = None

    @abstractmethod
    async def _try(self, one: Try[S]) -> None:
        """Make one attempt; `_spoke` is called when something of it has been delivered."""

    @abstractmethod
    def _usage(self) -> Usage | None:
        """Return what was used so far, counted here where the provider reported nothing; None for nothing."""

    @abstractmethod
    async def _end(self, error: ModelyardError | None, record: Invocation) -> None:
        """Tell whoever waits that it has ended."""

    async def _keep(self) -> None:
        """Keep what a repeat of the call is given, before its record says that it went well."""

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
        self._tries.call_off()
        if self.owned is not None:
            self.owned.settling = True
        await self._finish(error)

    def _spoke(self, one: Try[S]) -> None:
        """Note that something of an attempt is delivered: from now on nothing is tried again."""
        if self._first_delta is None:
            self._decide(one)
            self._first_delta = self._app.clock.monotonic()
            self._tries.spoke(one)

    # ---- trying

    async def _try_all(self) -> None:
        while True:
            try:
                await self._race(self._tries.current)
            except ModelyardError as error:
                may_follow = error.rests is not None or error.is_of_model
                if not may_follow or self._first_delta is not None:
                    raise
                if not await self._tries.advance():
                    last = await self._tries.last_word(error)
                    if last is error:
                        raise
                    raise last from error
            else:
                return
            self._follow(self._attempts[-1], self._tries.current)

    async def _race(self, first: Try[S]) -> None:
        """Make an attempt, and one more beside it where it is late to speak; whoever speaks first goes on alone."""
        self._decided = None
        if first.late_s is None:
            await self._make(first)
            return
        racing = self._racing = {first: asyncio.create_task(self._make(first))}
        try:
            await asyncio.wait(racing.values(), timeout=first.late_s)
            is_late = self._decided is None and not racing[first].done()
            second = await self._tries.beside() if is_late else None
            if second is not None and self._decided is not None:  # the first spoke while it was being picked
                self._tries.ended(second, served=False)
            elif second is not None:
                racing[second] = asyncio.create_task(self._make(second))
                if racing[first].done():
                    self._follow(self._attempts[-1], second)
            await asyncio.wait(racing.values())
        finally:
            for task in racing.values():
                task.cancel()
            await asyncio.gather(*racing.values(), return_exceptions=True)
        await racing[self._decided or list(racing)[-1]]

    async def _make(self, one: Try[S]) -> None:
        """Make one attempt, and report what becomes of it."""
        try:
            await self._try(one)
        except asyncio.CancelledError:
            if one not in self._lost:
                self._attempted(one, Problem.of(self._reason()))
                self._tries.ended(one, served=False)
            raise
        except ModelyardError as error:
            failed = self._attempted(one, Problem.of(error))
            await self._tries.failed(one, error)
            if error.rests is None and not error.is_of_model:
                self._decide(one)
            other = self._other(one)
            if self._decided is None and other is not None and self._step is one.step:
                self._follow(failed, other)
            raise
        else:
            self._decide(one)
            if self._first_delta is None:
                self._tries.spoke(one)
            self._attempted(one, None)
            self._tries.ended(one, served=True)

    def _other(self, one: Try[S]) -> Try[S] | None:
        """Return the attempt under way beside this one."""
        return next((other for other, task in self._racing.items() if other is not one and not task.done()), None)

    def _decide(self, one: Try[S]) -> None:
        """Let an attempt go on alone."""
        if self._decided is not None:
            return
        self._decided = one
        other = self._other(one)
        if other is not None:
            lost = self._lose(other)
            if self._step is not one.step:
                self._follow(lost, one)

    def _lose(self, one: Try[S]) -> Attempt:
        """Call an attempt off because the other one was faster."""
        self._lost.append(one)
        self._racing[one].cancel()
        self._tries.overtaken(one)
        return self._attempted(one, Problem.of(Cancelled("Another member of the pool was faster.")))

    def _follow(self, failed: Attempt, following: Try[S]) -> None:
        self._step = following.step
        self._reroute(failed, following.step)

    def _attempted(self, one: Try[S], error: Problem | None) -> Attempt:
        step = one.step
        attempt = Attempt(
            model=step.key,
            credential_id=str(step.credential.id) if step.credential is not None else None,
            credential_name=step.credential_name,
            started_at=one.started_at,
            duration=self._app.clock.monotonic() - one.began,
            error=error,
        )
        self._attempts.append(attempt)
        if step.credential is not None and error is not None and error.code is ErrorCode.UPSTREAM_AUTHENTICATION:
            self._app.running.background(validate_soon(self._app, step.credential))
        return attempt

    def _reason(self) -> ModelyardError:
        reason = self.owned.reason if self.owned is not None else None
        return reason or ServerUnavailable("This server is stopping; ask again in a moment.")

    # ---- paying

    async def _values(self, step: S) -> Values:
        """Return the opened values that an attempt is made with, which holds what it may use by then.

        Raises:
            QuotaExceeded: no quota of the model has enough left.
            BudgetExceeded: a budget has not enough left for it.
            CredentialUnreadable: the credential cannot be opened.
        """
        await self._purse.pay_for(self._invocation, step)
        if step.hosted is not None and step.quotas:
            return step.hosted.values
        return await self._app.vault.open(step.credential) if step.credential is not None else {}

    # ---- ending

    async def _finish(self, error: ModelyardError | None) -> None:
        if error is None:
            await self._keep()
        usage = self._usage()
        record = self._record(error, usage.credible() if usage is not None else None)
        charges, spent = (of(self._step, record.usage) for of in (self._purse.charges, self._purse.spent))
        settling = Settling(self._app, Settlement(invocation=record, charges=charges, spent=spent))
        await settling.secure()
        await self._purse.tell(record.usage)
        await self._end(error, record)
        await settling.finish()

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

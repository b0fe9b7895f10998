"""The owner of one completion: tries the plan, numbers the events, settles once, ends once."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from itertools import groupby

from core.app import App
from core.counting import estimate_usage
from core.entities import Invocation, InvocationStatus
from core.errors import (
    Cancelled,
    Internal,
    ModelyardError,
    Problem,
    ServerUnavailable,
    UpstreamProtocol,
    UpstreamTimeout,
)
from core.ids import uuid7
from core.model_types import Usage
from core.model_types.llm import (
    Attempt,
    CompletionEvent,
    CompletionFailed,
    CompletionFinished,
    CompletionRerouted,
    CompletionStarted,
    ContinuationPiece,
    FinishPiece,
    FinishReason,
    Piece,
    ReasoningDelta,
    ReasoningPiece,
    TextDelta,
    TextPiece,
    ToolCallDelta,
    ToolCallPiece,
    UsagePiece,
)
from core.plan import Step
from core.pricing import cost
from core.provider import Call
from core.running import Owned
from core.stream import EventStream

log = logging.getLogger(__name__)

MAX_ANSWER = 7 * 1024 * 1024
"""An answer of more bytes is taken for a fault of the provider."""

MAX_LOGGED = MAX_ANSWER + 768 * 1024
"""What its events may take in the log, which has room for 8 MiB."""

JOINED_ABOVE = 16
"""How many pieces that came at once are passed on as they are; more are joined where they are of a kind."""

SETTLE_WAIT_S = 5.0
SETTLE_RETRY_S = (0.5, 1.0, 2.0, 5.0, 10.0)


class Answer:
    """What is known of the answer besides the events: its size in bytes, and what belongs to its end."""

    __slots__ = ("continuation", "finish", "size", "usage")

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.finish: FinishReason | None = None
        self.continuation: str | None = None
        self.size = 0


class Owner:
    """Runs one admitted completion to its one terminal event."""

    def __init__(
        self, app: App, invocation: Invocation, stream: EventStream, steps: Sequence[Step], *, streaming: bool
    ) -> None:
        self._app = app
        self._invocation = invocation
        self._stream = stream
        self._steps = steps
        self._streaming = streaming
        self._id = str(invocation.id)
        self._answer = Answer()
        self._attempts: list[Attempt] = []
        self._began = app.clock.monotonic()
        self._first_delta: float | None = None
        self._step = steps[0]
        self.owned: Owned | None = None
        first = steps[0]
        stream.append(
            (
                CompletionStarted(
                    invocation_id=self._id,
                    sequence=0,
                    model=first.key,
                    provider_type=first.provider_type,
                    credential_name=first.credential_name,
                ),
            )
        )

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
            log.exception("completion %s failed inside, error id %s", self._id, error_id)
            error = Internal(f"A fault of this server; its log has it under {error_id}.")
        if self.owned is not None:
            self.owned.settling = True
        await self._finish(error)

    # ---- trying

    async def _try_all(self) -> None:
        for number, step in enumerate(self._steps):
            self._step = step
            started = self._app.clock.now().timestamp()
            began = self._app.clock.monotonic()
            try:
                await self._try(step)
            except (ModelyardError, asyncio.CancelledError) as failure:
                error = failure if isinstance(failure, ModelyardError) else self._reason()
                failed = self._attempted(step, started, began, Problem.of(error))
                following = self._steps[number + 1] if number + 1 < len(self._steps) else None
                if failure is not error or following is None or error.rests is None or self._first_delta is not None:
                    raise
                self._reroute(failed, following)
            else:
                self._attempted(step, started, began, None)
                return

    async def _try(self, step: Step) -> None:
        values = await self._app.vault.open(step.credential) if step.credential is not None else {}
        call = Call(model=step.model, card=step.card, values=values)
        settings, loop = self._app.settings, asyncio.get_running_loop()
        end = loop.time() + settings.call_seconds
        first = settings.first_byte_seconds if self._streaming else settings.call_seconds
        deadline = asyncio.timeout_at(min(end, loop.time() + first))
        idle = _Idle(deadline, end, settings.idle_seconds)
        try:
            async with deadline:
                if not self._streaming:
                    self._take(await step.adapter.complete(call, step.chat))
                else:
                    async with aclosing(step.adapter.stream(call, step.chat)) as batches:
                        async for batch in batches:
                            idle.heard()
                            self._take(batch)
        except TimeoutError:
            raise UpstreamTimeout(_timeout_text(step, spoke=idle.ever_spoke, total=loop.time() >= end)) from None
        finally:
            idle.close()
        if self._answer.finish is None:
            raise UpstreamProtocol(f"The answer of {step.key.provider} ended before the model had finished.")

    def _take(self, pieces: Sequence[Piece]) -> None:
        """Turn pieces into numbered events and hand them to the readers."""
        answer, id_, sequence = self._answer, self._id, self._stream.next_sequence
        events: list[CompletionEvent] = []
        for piece in pieces if len(pieces) <= JOINED_ABOVE else _joined(pieces):
            if isinstance(piece, TextPiece):
                answer.size += _size(piece.text)
                events.append(TextDelta(invocation_id=id_, sequence=sequence + len(events), text=piece.text))
            elif isinstance(piece, ReasoningPiece):
                answer.size += _size(piece.text)
                events.append(ReasoningDelta(invocation_id=id_, sequence=sequence + len(events), text=piece.text))
            elif isinstance(piece, ToolCallPiece):
                answer.size += _size(piece.arguments)
                events.append(
                    ToolCallDelta(
                        invocation_id=id_,
                        sequence=sequence + len(events),
                        index=piece.index,
                        id=piece.id,
                        name=piece.name,
                        arguments=piece.arguments,
                    )
                )
            elif isinstance(piece, UsagePiece):
                answer.usage = piece.usage
            elif isinstance(piece, FinishPiece):
                answer.finish = piece.reason
            elif isinstance(piece, ContinuationPiece):
                answer.continuation = piece.continuation
        if answer.size > MAX_ANSWER or self._stream.journal.size > MAX_LOGGED:
            raise UpstreamProtocol("The answer is longer than 7 MiB and was cut off.")
        if events:
            if self._first_delta is None:
                self._first_delta = self._app.clock.monotonic()
            self._stream.append(events)

    def _reroute(self, failed: Attempt, following: Step) -> None:
        self._stream.append(
            (
                CompletionRerouted(
                    invocation_id=self._id,
                    sequence=self._stream.next_sequence,
                    failed=failed,
                    model=following.key,
                    credential_name=following.credential_name,
                ),
            )
        )

    def _attempted(self, step: Step, started: float, began: float, error: Problem | None) -> Attempt:
        attempt = Attempt(
            model=step.key,
            credential_id=str(step.credential.id) if step.credential is not None else None,
            credential_name=step.credential_name,
            started_at=started,
            duration=self._app.clock.monotonic() - began,
            error=error,
        )
        self._attempts.append(attempt)
        return attempt

    def _reason(self) -> ModelyardError:
        reason = self.owned.reason if self.owned is not None else None
        return reason or ServerUnavailable("This server is stopping; ask again in a moment.")

    # ---- ending

    async def _finish(self, error: ModelyardError | None) -> None:
        usage = self._usage()
        record = self._record(error, usage)
        settled = await self._settle(record)
        last = self._last_event(error, usage, record)
        self._stream.end(await self._app.recorder.end(self._stream, last))
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

    def _usage(self) -> Usage | None:
        if self._answer.usage is not None:
            return self._answer.usage
        if self._first_delta is None and self._answer.finish is None:
            return None
        return estimate_usage(self._step.chat, self._stream.written().produced)

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

    def _last_event(
        self, error: ModelyardError | None, usage: Usage | None, record: Invocation
    ) -> CompletionFinished | CompletionFailed:
        sequence = self._stream.next_sequence
        if error is not None:
            return CompletionFailed(invocation_id=self._id, sequence=sequence, error=Problem.of(error), usage=usage)
        assert self._answer.finish is not None
        assert usage is not None
        return CompletionFinished(
            invocation_id=self._id,
            sequence=sequence,
            finish_reason=self._answer.finish,
            message=self._stream.written().message(self._answer.continuation),
            usage=usage,
            cost=record.cost,
        )


class _Idle:
    """Moves the deadline of an answer on while it goes on, looking ten times an idle time at the least.

    Looking at the clock for every event would cost as much as the event.
    """

    def __init__(self, deadline: asyncio.Timeout, end: float, idle_seconds: float) -> None:
        self.ever_spoke = False
        self._spoke = False
        self._deadline = deadline
        self._end = end
        self._idle_s = idle_seconds
        self._every_s = min(1.0, idle_seconds / 10)
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(self._every_s, self._look)

    def heard(self) -> None:
        """Take note that something came."""
        self._spoke = True
        if not self.ever_spoke:
            self.ever_spoke = True
            self._move()

    def close(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _look(self) -> None:
        if self._spoke:
            self._spoke = False
            self._move()
        self._timer = self._loop.call_later(self._every_s, self._look)

    def _move(self) -> None:
        if not self._deadline.expired():
            self._deadline.reschedule(min(self._end, self._loop.time() + self._idle_s))


def _joined(pieces: Sequence[Piece]) -> list[Piece]:
    """Return the pieces with neighbours of a kind joined, as far as nothing but their number changes."""
    joined: list[Piece] = []
    for kind, group in groupby(pieces, _kind):
        if kind is TextPiece:
            joined.append(TextPiece("".join([piece.text for piece in group])))  # type: ignore[union-attr]
        elif kind is ReasoningPiece:
            joined.append(ReasoningPiece("".join([piece.text for piece in group])))  # type: ignore[union-attr]
        else:
            joined.extend(group)
    return joined


def _kind(piece: Piece) -> type:
    return type(piece)


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _status(error: ModelyardError | None) -> InvocationStatus:
    if error is None:
        return InvocationStatus.SUCCEEDED
    return InvocationStatus.CANCELLED if isinstance(error, Cancelled) else InvocationStatus.FAILED


def _timeout_text(step: Step, *, spoke: bool, total: bool) -> str:
    provider = step.key.provider
    if total:
        return f"The answer of {provider} took longer than a call may last; the operator sets MODELYARD_CALL_SECONDS."
    if spoke:
        return f"{provider} stopped sending in the middle of its answer."
    return f"{provider} did not begin to answer in time."

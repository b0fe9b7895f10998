"""The owner of one completion: turns the pieces of an answer into numbered events for its readers."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from itertools import groupby

import msgspec

from core.app import App
from core.counting import OutputCount, estimate_usage, estimated_input, wished_output
from core.deadline import Idle, timeout_text
from core.entities import Invocation
from core.errors import ModelyardError, Problem, UpstreamProtocol, UpstreamTimeout
from core.metering import known_ceiling
from core.model_types import ModelFeature, Usage
from core.model_types.llm import (
    Attempt,
    ChatRequest,
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
from core.owner import Owner
from core.plan import CompletionStep
from core.pool import Tries, Try
from core.provider import Call
from core.stream import EventStream

MAX_ANSWER = 7 * 1024 * 1024
"""An answer of more bytes is taken for a fault of the provider."""

MAX_LOGGED = MAX_ANSWER + 768 * 1024
"""What its events may take in the log, which has room for 8 MiB."""

JOINED_ABOVE = 16
"""How many pieces that came at once are passed on as they are; more are joined where they are of a kind."""


_DELTAS = (TextPiece, ReasoningPiece, ToolCallPiece)


class Answer:
    """What is known of the answer besides the events: its size in bytes, and what belongs to its end.

    `counted` is the size that it had when its provider reported the `usage`.
    """

    __slots__ = ("continuation", "counted", "finish", "size", "usage")

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.counted = 0
        self.finish: FinishReason | None = None
        self.continuation: str | None = None
        self.size = 0


class CompletionOwner(Owner[CompletionStep]):
    """Runs one admitted completion to its one terminal event."""

    def __init__(
        self,
        app: App,
        invocation: Invocation,
        stream: EventStream,
        tries: Tries[CompletionStep],
        *,
        streaming: bool,
    ) -> None:
        super().__init__(app, invocation, tries)
        self._stream = stream
        self._streaming = streaming
        self._answer = Answer()
        self._answers: dict[Try[CompletionStep], Answer] = {}
        first = tries.current.step
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

    async def _try(self, one: Try[CompletionStep]) -> None:
        step, answer = one.step, Answer()
        values, chat = await self._values(step), self._affordable(step)
        self._answers[one] = answer
        call = Call(model=step.model, card=step.card, values=values)
        paid = _output_count(step, chat) if self._purse.pays_for_output else None
        settings, loop = self._app.settings, asyncio.get_running_loop()
        end = loop.time() + settings.call_seconds
        # An answer that comes whole shows no sign of life before: it has the time of a whole call. Where another
        # attempt waits to take its place it is asked for as a stream and gathered, so that silence tells all the same.
        is_watched = self._streaming or one.gives_way
        first_s = one.first_s if is_watched else settings.call_seconds
        deadline = asyncio.timeout_at(min(end, loop.time() + first_s))
        thinks = ModelFeature.REASONING in step.card.features
        idle = Idle(deadline, end, settings.idle_seconds, waits=thinks or not one.gives_way)
        try:
            async with deadline:
                if not is_watched:
                    self._take(await step.adapter.complete(call, chat), one, answer)
                elif not self._streaming:
                    self._take(await _gathered(step.adapter.stream(call, chat), idle), one, answer)
                else:
                    async with aclosing(step.adapter.stream(call, chat)) as batches:
                        async for batch in batches:
                            idle.heard()
                            self._take(batch, one, answer)
                            if not idle.has_begun and self._decided is one:
                                idle.begun()
                            if paid is not None:
                                paid.add(batch)
                                await self._purse.pay(self._invocation.id, paid)
        except TimeoutError:
            raise UpstreamTimeout(
                timeout_text(step.key.provider, spoke=idle.has_begun, total=loop.time() >= end, seconds=first_s)
            ) from None
        finally:
            idle.close()
        if answer.finish is None:
            raise UpstreamProtocol(f"The answer of {step.key.provider} ended before the model had finished.")
        self._answer = answer

    def _affordable(self, step: CompletionStep) -> ChatRequest:
        """Return what is asked, its output lowered to what there is left to pay for it.

        A model that names no limit of its output is given the one that was held for.
        """
        ceiling = self._purse.ceiling(step)
        if ceiling is None or all(rule.name != "max_tokens" for rule in step.card.parameter_rules):
            return step.chat
        output = step.estimate.output
        if ceiling >= output and known_ceiling(step.card, wished_output(step.chat).most) is not None:
            return step.chat
        parameters = {**step.chat.parameters, "max_tokens": min(ceiling, output)}
        return msgspec.structs.replace(step.chat, parameters=parameters)

    def _take(self, pieces: Sequence[Piece], one: Try[CompletionStep], answer: Answer) -> None:
        """Turn pieces of an attempt into numbered events and hand them to the readers."""
        if self._first_delta is None and any(isinstance(piece, _DELTAS) for piece in pieces):
            self._answer = answer
            self._spoke(one)
        id_, sequence = self._id, self._stream.next_sequence
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
                answer.usage, answer.counted = piece.usage, answer.size
            elif isinstance(piece, FinishPiece):
                answer.finish = piece.reason
            elif isinstance(piece, ContinuationPiece):
                answer.continuation = piece.continuation
                answer.size += len(piece.continuation)
        if answer.size > MAX_ANSWER or self._stream.journal.size > MAX_LOGGED:
            raise _too_long()
        if events:
            self._stream.append(events)

    def _reroute(self, failed: Attempt, following: CompletionStep) -> None:
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

    def _usage(self) -> Usage | None:
        answer, used = self._answer, self._answer.usage
        has_more = answer.finish is None and answer.size > answer.counted
        if (used is None or has_more) and (self._first_delta is not None or answer.finish is not None):
            counted = estimate_usage(self._step.chat, self._stream.written().produced, self._step.card.vocabulary)
            used = counted if used is None else _at_least(used, counted.output_tokens)
        for lost in self._lost:  # its provider had read the input when it was called off
            if lost in self._answers:
                asked = Usage(input_tokens=estimated_input(lost.step.chat, lost.step.card.vocabulary), estimated=True)
                used = (used or Usage(requests=0)).plus(self._answers[lost].usage or asked)
        return used

    async def _end(self, error: ModelyardError | None, record: Invocation) -> None:
        self._stream.end(await self._app.recorder.end(self._stream, self._last_event(error, record)))

    def _last_event(self, error: ModelyardError | None, record: Invocation) -> CompletionFinished | CompletionFailed:
        sequence, usage = self._stream.next_sequence, record.usage
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


def _at_least(used: Usage, output_tokens: int) -> Usage:
    """Return the usage of an answer that was cut off after its provider had last reported one."""
    if used.output_tokens >= output_tokens:
        return used
    return msgspec.structs.replace(used, output_tokens=output_tokens, estimated=True)


def _output_count(step: CompletionStep, chat: ChatRequest) -> OutputCount:
    """Return what counts the output of an attempt that is asked this."""
    wish = wished_output(chat)
    ceiling = known_ceiling(step.card, wish.most)
    return OutputCount(step.card.vocabulary, ceiling * wish.times if ceiling is not None else None)


async def _gathered(batches: AsyncGenerator[Sequence[Piece], None], idle: Idle) -> list[Piece]:
    """Return all pieces of an answer that is wanted whole, once it has ended."""
    pieces: list[Piece] = []
    size = 0
    async with aclosing(batches):
        async for batch in batches:
            idle.heard()
            pieces += batch
            for piece in batch:
                if isinstance(piece, _DELTAS):
                    size += len(piece.arguments if isinstance(piece, ToolCallPiece) else piece.text)
                    if not idle.has_begun:
                        idle.begun()
            if size > MAX_ANSWER:
                raise _too_long()
    return pieces


def _too_long() -> UpstreamProtocol:
    return UpstreamProtocol("The answer is longer than 7 MiB and was cut off.")


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

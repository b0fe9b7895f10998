"""The use cases of the five model types besides language models: resolve, admit, try, settle, one way for all."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Generic, Protocol, TypeVar
from uuid import UUID

import msgspec

from core.access import Viewer
from core.admission import admit
from core.app import App
from core.capabilities import check_embedding, check_moderation, check_rerank, check_speech, check_transcription
from core.configuration import Configuration
from core.deadline import timeout_text
from core.entities import Invocation
from core.errors import Cancelled, ModelyardError, Problem, UpstreamTimeout
from core.media import fetch_audio
from core.metering import NOTHING, Estimate, expected
from core.model_types import ModelType, Usage, moderation, rerank, speech2text, text_embedding, tts
from core.model_types.llm import Media
from core.model_types.moderation import ModerationRequest, Verdict
from core.model_types.rerank import Ranking, RerankRequest
from core.model_types.speech2text import Transcript, TranscriptionRequest
from core.model_types.text_embedding import EmbeddingRequest, Embeddings
from core.model_types.tts import (
    Sound,
    SpeechChunk,
    SpeechEvent,
    SpeechFailed,
    SpeechFinished,
    SpeechRequest,
    SpeechStarted,
)
from core.once import begin_once, ended, no_longer_kept, once_of
from core.owner import Owner
from core.plan import ModelReference, Step, fitting, question, steps_of, unserved
from core.pool import Tries, Try
from core.provider import Call, EmbeddingModels, ModelCard, Provider, Values
from core.recorder import KEPT_S
from core.results import MAX_KEPT
from core.running import Owned
from core.stream import Reader

_Speak = Callable[[Call, SpeechRequest], AsyncGenerator[bytes | Usage, None]]
T = TypeVar("T")
A = TypeVar("A")
R_co = TypeVar("R_co", covariant=True)

BATCHES_AT_ONCE = 4
"""How many requests of one embedding are under way together."""

CHUNK_BYTES = 48 * 1024
"""The most bytes of sound in one event; divisible by 3, so that chunks in base64 need no padding."""

CHUNKS_AHEAD = 16
"""How many chunks wait for a slow reader before the provider is read no further."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What every caller says besides the request itself; `model` None is the workspace's default of the type."""

    workspace_id: UUID | None = None
    model: ModelReference | None = None
    credential_id: UUID | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Generic[T]):
    """How an admitted call ended: with a result, or with a problem."""

    invocation_id: UUID
    result: T | None
    problem: Problem | None


async def embed(app: App, viewer: Viewer, asked: Asked, request: EmbeddingRequest) -> Outcome[Embeddings]:
    """Embed texts, in as many requests as the provider needs for them. A refusal is raised, here and below."""

    async def work(plan: _Plan) -> _Embedding:
        adapter = plan.adapter(plan.provider.text_embedding)
        plan.leave_out(partial(check_embedding, request))
        return _Embedding(adapter, request)

    foreseen = text_embedding.estimate_usage(request)
    return await _Asking(app, viewer, asked, _EMBEDDING, request, request.end_user, foreseen).made(work)


async def rerank_documents(app: App, viewer: Viewer, asked: Asked, request: RerankRequest) -> Outcome[Ranking]:
    """Order documents by how well they answer a query, the best first."""
    foreseen = rerank.estimate_usage(request)

    async def work(plan: _Plan) -> _Single[Ranking]:
        adapter = plan.adapter(plan.provider.rerank)
        plan.leave_out(partial(check_rerank, request))

        async def attempt(call: Call) -> Ranking:
            ranking = await adapter.rerank(call, request)
            return msgspec.structs.replace(ranking, hits=rerank.best(request, ranking.hits))

        estimate = expected(foreseen, rerank.bound_usage(request))
        return _Single(attempt, lambda found: found.usage or foreseen, foreseen, estimate)

    return await _Asking(app, viewer, asked, _RERANK, request, request.end_user, foreseen).made(work)


async def transcribe(
    app: App, viewer: Viewer, asked: Asked, audio: Media, request: Callable[[speech2text.Audio], TranscriptionRequest]
) -> Outcome[Transcript]:
    """Write down a recording, which is fetched first where it is given by its address."""
    nothing = request(speech2text.Audio(content=b"", mime_type="", filename=""))

    async def work(plan: _Plan) -> _Single[Transcript]:
        adapter = plan.adapter(plan.provider.speech2text)
        given = request(await fetch_audio(app.http, audio))
        plan.leave_out(partial(check_transcription, given))
        foreseen = speech2text.estimate_usage(given, "")
        return _Single(
            partial(adapter.transcribe, request=given),
            lambda found: found.usage or speech2text.estimate_usage(given, found.text),
            foreseen,
            expected(foreseen, speech2text.bound_usage(given)),
        )

    return await _Asking(app, viewer, asked, _TRANSCRIPTION, (audio, nothing), nothing.end_user).made(work)


async def moderate(app: App, viewer: Viewer, asked: Asked, request: ModerationRequest) -> Outcome[Verdict]:
    """Judge whether a text is harmful."""
    foreseen = moderation.estimate_usage(request)

    async def work(plan: _Plan) -> _Single[Verdict]:
        adapter = plan.adapter(plan.provider.moderation)
        plan.leave_out(partial(check_moderation, request))
        attempt = partial(adapter.moderate, request=request)
        return _Single(attempt, lambda found: found.usage or foreseen, foreseen, expected(foreseen))

    return await _Asking(app, viewer, asked, _MODERATION, request, request.end_user, foreseen).made(work)


async def speak(app: App, viewer: Viewer, asked: Asked, request: SpeechRequest) -> AsyncGenerator[SpeechEvent, None]:
    """Yield the events of speech as it is made; leaving ends the call, one with a key after the grace time.

    A repeat is given the events once the call has ended. A refusal is one SpeechFailed.
    """
    asking = _Asking(app, viewer, asked, _SPEECH, request, request.end_user)
    try:
        source = await asking.spoken(request)
    except ModelyardError as refusal:
        yield SpeechFailed(invocation_id=None, sequence=0, error=Problem.of(refusal))
        return
    async with aclosing(source) as events:
        async for event in events:
            yield event


# ---- one path for all


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What a call will try, once it is known that the configuration allows it."""

    configuration: Configuration
    steps: list[Step]

    @property
    def provider(self) -> Provider:
        """Return the provider of every attempt: one model is tried, with one credential after the other."""
        return self.steps[0].provider

    def leave_out(self, check: Callable[[ModelCard], object]) -> None:
        """Leave out the attempts at whose model `check` finds something wrong; raise that if none would be left."""
        self.steps[:] = [step for step, _ in fitting(self.steps, check)]

    def expecting(self, estimate: Estimate) -> "_Plan":
        """Return the plan with what an attempt is known to use now."""
        return replace(self, steps=[replace(step, expects=lambda: estimate) for step in self.steps])

    def adapter(self, found: A | None) -> A:
        """Return the provider's adapter of the type.

        Raises:
            InvalidInput: it has none.
        """
        if found is None:
            raise unserved(self.steps[0].key)
        return found


@dataclass(frozen=True, slots=True)
class _Kind(Generic[T]):
    """A kind of call: its models, what its keys are for, and what it gives."""

    model_type: ModelType
    operation: str
    result: type[T]


_EMBEDDING = _Kind(ModelType.TEXT_EMBEDDING, "embed", Embeddings)
_RERANK = _Kind(ModelType.RERANK, "rerank", Ranking)
_TRANSCRIPTION = _Kind(ModelType.SPEECH2TEXT, "transcribe", Transcript)
_MODERATION = _Kind(ModelType.MODERATION, "moderate", Verdict)
_SPEECH = _Kind(ModelType.TTS, "speech", Sound)


class _Asking(Generic[T]):
    """One request, made at most once for its key. `given` is all that makes a repeat the same."""

    def __init__(
        self,
        app: App,
        viewer: Viewer,
        asked: Asked,
        kind: _Kind[T],
        given: object,
        end_user: str | None,
        foreseen: Usage | None = None,
    ) -> None:
        self._app = app
        self._viewer = viewer
        self._asked = asked
        self._kind = kind
        self._end_user = end_user
        self._estimate = expected(foreseen) if foreseen is not None else NOTHING
        what = (replace(asked, workspace_id=None, idempotency_key=None), given)
        self._once = once_of(viewer, kind.operation, asked.idempotency_key, what)

    async def made(self, work: "Callable[[_Plan], Awaitable[_Work[T]]]") -> Outcome[T]:
        """Make a call whose result comes whole and wait for its end, or for that of the one that its key stands for.

        Whoever leaves before leaves it running for the grace time.
        """
        app = self._app

        async def plan(configuration: Configuration) -> "tuple[_Plan, _Work[T]]":
            found = self._plan(configuration)
            asked = await work(found)
            return found.expecting(asked.estimate(found.steps[0].card)), asked

        async def begin(planned: "tuple[_Plan, _Work[T]]") -> Outcome[T]:
            wait = await app.running.finish(self._begin(*planned), lambda begun: begun.owned.abandoned())
            await wait.owned.wait()
            return wait.outcome.result()

        return await begin_once(app, self._viewer, self._asked.workspace_id, self._once, plan, begin, self._join)

    async def spoken(self, request: SpeechRequest) -> AsyncGenerator[SpeechEvent, None]:
        """Begin to speak, or wait for the end of what the key stands for; return the events."""
        app = self._app

        async def plan(configuration: Configuration) -> tuple[_Plan, SpeechRequest, _Speak]:
            found = self._plan(configuration)
            adapter = found.adapter(found.provider.tts)
            found.leave_out(partial(check_speech, request))
            checked = check_speech(request, found.steps[0].card)
            estimate = expected(tts.usage_of(checked), tts.bound_usage(checked))
            return found.expecting(estimate), checked, adapter.speak

        async def begin(planned: tuple[_Plan, SpeechRequest, _Speak]) -> AsyncGenerator[SpeechEvent, None]:
            line = await app.running.finish(self._begin_speech(*planned), lambda begun: begun.leave())
            return line.events()

        return await begin_once(app, self._viewer, self._asked.workspace_id, self._once, plan, begin, self._hear)

    def _plan(self, configuration: Configuration) -> _Plan:
        asked = self._asked
        wanted = question(
            self._viewer, configuration.workspace_id, self._kind.model_type, asked.model, asked.credential_id
        )
        steps = steps_of(self._app.catalog, configuration, wanted, lambda _: self._estimate)
        return _Plan(configuration=configuration, steps=steps)

    async def _admit(self, plan: _Plan) -> tuple[Invocation, Tries[Step]]:
        workspace_id = plan.configuration.workspace_id
        once = partial(self._once, workspace_id) if self._once is not None else None
        tags, end_user = self._asked.tags, self._end_user
        return await admit(self._app, self._viewer, workspace_id, plan.steps, end_user=end_user, tags=tags, once=once)

    async def _begin(self, plan: _Plan, work: "_Work[T]") -> "_Wait[T]":
        invocation, tries = await self._admit(plan)
        wait: _Wait[T] = _Wait(invocation)
        owner = _WholeOwner(self._app, invocation, tries, wait, work, is_kept=self._once is not None)
        wait.owned = owner.owned = self._app.running.start(wait, owner.run(), self._app.settings.grace_seconds)
        return wait

    async def _begin_speech(self, plan: _Plan, request: SpeechRequest, speak: _Speak) -> "_Line":
        invocation, tries = await self._admit(plan)
        is_kept = self._once is not None
        line = _Line(invocation, is_kept=is_kept)
        owner = _SpeechOwner(self._app, invocation, tries, line, speak, request)
        grace_s = self._app.settings.grace_seconds if is_kept else 0
        owned = owner.owned = self._app.running.start(line, owner.run(), grace_s)
        if not is_kept:
            line.on_abandoned = lambda: owned.cancel(Cancelled("The reader of the speech has left."))
        return line

    async def _join(self, invocation_id: UUID) -> Outcome[T]:
        """Return how the call ends, or has ended, that the key stands for."""
        owned = self._app.running.find(invocation_id)
        if owned is not None and isinstance(owned.stream, _Wait):
            await owned.wait()
            here: Outcome[T] = owned.stream.outcome.result()
            return here
        record = await self._ended(invocation_id)
        if record.error is not None:
            return Outcome(invocation_id=invocation_id, result=None, problem=record.error)
        return Outcome(invocation_id=invocation_id, result=await self._result(invocation_id), problem=None)

    async def _hear(self, invocation_id: UUID) -> AsyncGenerator[SpeechEvent, None]:
        """Return the events of the speech that the key stands for, once it has ended."""
        record = await self._ended(invocation_id)
        sound = await self._result(invocation_id) if record.error is None else None
        return _again(record, sound if isinstance(sound, Sound) else None)

    async def _ended(self, invocation_id: UUID) -> Invocation:
        """Return the record of a call that has ended, not so long ago that nobody is told any more how."""
        record = await ended(self._app, self._viewer, invocation_id)
        since = self._app.clock.now() - (record.ended_at or record.started_at)
        if since.total_seconds() > KEPT_S:
            raise no_longer_kept(invocation_id)
        return record

    async def _result(self, invocation_id: UUID) -> T:
        found = await self._app.results.find(invocation_id, self._kind.result)
        if found is None:
            raise no_longer_kept(invocation_id)
        return found


class _Followed(ABC):
    """A call that has no events to join: whose it is, and when it has ended."""

    readers: Sequence[Reader] = ()

    def __init__(self, invocation: Invocation) -> None:
        self.invocation_id = invocation.id
        self.workspace_id = invocation.workspace_id
        self.token_id = invocation.token_id
        self.on_joined: Callable[[], None] | None = None
        self.on_abandoned: Callable[[], None] | None = None

    @property
    @abstractmethod
    def ended(self) -> bool:
        """Tell whether the end is there."""


class _Wait(_Followed, Generic[T]):
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


class _Asked:
    """The requests of one attempt; `answers` is called whenever one is answered."""

    def __init__(self, answers: Callable[[], None]) -> None:
        self._answers = answers
        self.unanswered: list[Usage] = []
        """What those are likely to use that were sent, and not answered."""

    async def ask(self, request: Awaitable[A], foreseen: Usage) -> A:
        """Wait for the answer of a request."""
        self.unanswered.append(foreseen)
        found = await request
        self.unanswered.remove(foreseen)
        self._answers()
        return found


class _Work(Protocol[R_co]):
    """What one type expects to use, does in an attempt, and what the answers of all attempts together have used."""

    def estimate(self, card: ModelCard) -> Estimate: ...
    async def attempt(self, call: Call, asked: _Asked) -> R_co: ...
    def usage(self) -> Usage | None: ...


class _Single(Generic[T]):
    """One request, one answer."""

    def __init__(
        self,
        attempt: Callable[[Call], Awaitable[T]],
        used: Callable[[T], Usage],
        foreseen: Usage,
        estimate: Estimate,
    ) -> None:
        self._attempt = attempt
        self._estimate = estimate
        self._used = used
        self._foreseen = foreseen
        self._found: T | None = None

    def estimate(self, card: ModelCard) -> Estimate:
        """Return what the request may use."""
        return self._estimate

    async def attempt(self, call: Call, asked: _Asked) -> T:
        """Ask once."""
        self._found = await asked.ask(self._attempt(call), self._foreseen)
        return self._found

    def usage(self) -> Usage | None:
        """Return what the answer used."""
        return self._used(self._found) if self._found is not None else None


class _Embedding:
    """Texts in batches as large as the model takes; what one attempt has got, the next does not ask for again."""

    def __init__(self, adapter: EmbeddingModels, request: EmbeddingRequest) -> None:
        self._adapter = adapter
        self._request = request
        self._found: dict[int, Embeddings] = {}

    async def attempt(self, call: Call, asked: _Asked) -> Embeddings:
        """Ask for all batches that are missing, a few at once."""
        texts, size = self._request.texts, self._batch_size(call.card)
        waiting = [start for start in range(0, len(texts), size) if start not in self._found]
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(BATCHES_AT_ONCE, len(waiting))):
                    group.create_task(self._ask(call, asked, waiting, size))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        batches = [self._found[start] for start in sorted(self._found)]
        return Embeddings(vectors=tuple(vector for batch in batches for vector in batch.vectors), usage=self.usage())

    def estimate(self, card: ModelCard) -> Estimate:
        """Return what all batches may use."""
        requests = -(-len(self._request.texts) // self._batch_size(card))
        return expected(msgspec.structs.replace(text_embedding.estimate_usage(self._request), requests=requests))

    def _batch_size(self, card: ModelCard) -> int:
        """Return how many texts go into a request."""
        return _whole(card.properties.get("max_texts")) or self._adapter.max_texts

    def usage(self) -> Usage | None:
        """Return what the batches have used that were answered."""
        if not self._found:
            return None
        counted = [batch.usage for batch in self._found.values()]
        usages = [usage for usage in counted if usage is not None]
        return Usage(
            input_tokens=sum(usage.input_tokens for usage in usages),
            requests=len(counted),
            estimated=any(usage.estimated for usage in usages),
        )

    async def _ask(self, call: Call, asked: _Asked, waiting: list[int], size: int) -> None:
        while waiting:
            start = waiting.pop(0)
            request = msgspec.structs.replace(self._request, texts=self._request.texts[start : start + size])
            foreseen = text_embedding.estimate_usage(request)
            found = await asked.ask(self._adapter.embed(call, request), foreseen)
            self._found[start] = msgspec.structs.replace(found, usage=found.usage or foreseen)


class _WholeOwner(Owner[Step], Generic[T]):
    """Runs one call whose result comes whole."""

    def __init__(
        self, app: App, invocation: Invocation, tries: Tries[Step], wait: _Wait[T], work: _Work[T], *, is_kept: bool
    ) -> None:
        super().__init__(app, invocation, tries)
        self._is_kept = is_kept
        self._wait = wait
        self._work = work
        self._asked: dict[Try[Step], _Asked] = {}
        self._result: T | None = None

    async def _try(self, one: Try[Step]) -> None:
        step = one.step
        call = _opened(await self._values(step), step)
        asked = self._asked[one] = _Asked(partial(self._decide, one))
        try:
            async with asyncio.timeout(self._app.settings.call_seconds):
                self._result = await self._work.attempt(call, asked)
        except TimeoutError:
            raise UpstreamTimeout(timeout_text(step.key.provider, spoke=False, total=True)) from None

    def _usage(self) -> Usage | None:
        used = self._work.usage()
        for lost in self._lost:  # its provider had read what it was sent when it was called off
            for foreseen in self._asked[lost].unanswered if lost in self._asked else ():
                used = (used or Usage(requests=0)).plus(foreseen)
        return used

    async def _keep(self) -> None:
        if self._is_kept:
            await self._app.results.keep(self._invocation.id, self._result)

    async def _end(self, error: ModelyardError | None, record: Invocation) -> None:
        problem = Problem.of(error) if error is not None else None
        result = self._result if error is None else None
        self._wait.outcome.set_result(Outcome(invocation_id=record.id, result=result, problem=problem))


class _Line(_Followed):
    """The events of speech on their way to their one reader, who is waited for when they are slow.

    What `is_kept` is collected for repeats, as long as it is not too much; its reader may leave it running.
    """

    def __init__(self, invocation: Invocation, *, is_kept: bool) -> None:
        super().__init__(invocation)
        self.kept: bytearray | None = bytearray() if is_kept else None
        self._has_left = False
        self._id = str(invocation.id)
        self._room = asyncio.Semaphore(CHUNKS_AHEAD)
        self._queue: asyncio.Queue[SpeechEvent] = asyncio.Queue()
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.next_sequence = 1
        started = SpeechStarted(invocation_id=self._id, sequence=0, model=invocation.model)
        self._queue.put_nowait(started)

    @property
    def ended(self) -> bool:
        """Tell whether the terminal event is there."""
        return self._end.done()

    async def finished(self) -> None:
        """Wait for the terminal event."""
        await asyncio.shield(self._end)

    async def put(self, audio: bytes, mime_type: str) -> None:
        """Add a chunk, once there is room for it, or the reader has left."""
        if self.kept is not None:
            self.kept += audio
            if len(self.kept) > MAX_KEPT:
                self.kept = None
        if not self._has_left:
            await self._room.acquire()
        if self._has_left:
            return
        chunk = SpeechChunk(invocation_id=self._id, sequence=self.next_sequence, audio=audio, mime_type=mime_type)
        self.next_sequence += 1
        self._queue.put_nowait(chunk)

    def end(self, event: SpeechFinished | SpeechFailed) -> None:
        """Add the terminal event."""
        self._queue.put_nowait(event)
        self._end.set_result(None)

    def leave(self) -> None:
        """Read no further."""
        self._has_left = True
        self._room.release()
        if not self.ended and self.on_abandoned is not None:
            self.on_abandoned()

    async def events(self) -> AsyncGenerator[SpeechEvent, None]:
        """Yield the events, the terminal one last; closing this leaves."""
        try:
            while True:
                event = await self._queue.get()
                yield event
                if isinstance(event, SpeechFinished | SpeechFailed):
                    return
                if isinstance(event, SpeechChunk):
                    self._room.release()
        finally:
            self.leave()


class _SpeechOwner(Owner[Step]):
    """Runs one call that speaks."""

    def __init__(
        self,
        app: App,
        invocation: Invocation,
        tries: Tries[Step],
        line: _Line,
        speak: _Speak,
        request: SpeechRequest,
    ) -> None:
        super().__init__(app, invocation, tries)
        self._line = line
        self._speak = speak
        self._told: Usage | None = None
        self._request = request

    async def _try(self, one: Try[Step]) -> None:
        step = one.step
        call = _opened(await self._values(step), step)
        loop = asyncio.get_running_loop()
        end = loop.time() + self._app.settings.call_seconds
        first = self._app.settings.first_byte_seconds
        wait, spoke = min(first, self._tries.left_s() or first), False
        mime_type = tts.mime_type_of(self._request.format or "")
        async with aclosing(self._speak(call, self._request)) as sound:
            while True:
                try:
                    async with asyncio.timeout_at(min(end, loop.time() + wait)):
                        data = await anext(sound, None)
                except TimeoutError:
                    total = loop.time() >= end
                    raise UpstreamTimeout(timeout_text(step.key.provider, spoke=spoke, total=total)) from None
                if data is None:
                    return
                if isinstance(data, Usage):
                    self._told = data
                    continue
                wait, spoke = self._app.settings.idle_seconds, True
                for start in range(0, len(data), CHUNK_BYTES):
                    self._spoke(one)
                    try:
                        async with asyncio.timeout_at(end):
                            await self._line.put(data[start : start + CHUNK_BYTES], mime_type)
                    except TimeoutError:
                        raise UpstreamTimeout(timeout_text(step.key.provider, spoke=True, total=True)) from None

    def _usage(self) -> Usage | None:
        if self._first_delta is None:
            return None
        counted = tts.usage_of(self._request)
        used = msgspec.structs.replace(self._told, characters=counted.characters) if self._told else counted
        for _ in self._lost:  # its provider had read the text when it was called off
            used = used.plus(msgspec.structs.replace(counted, estimated=True))
        return used

    async def _keep(self) -> None:
        if self._line.kept is not None:
            sound = Sound(audio=bytes(self._line.kept), mime_type=tts.mime_type_of(self._request.format or ""))
            await self._app.results.keep(self._invocation.id, sound)

    async def _end(self, error: ModelyardError | None, record: Invocation) -> None:
        sequence = self._line.next_sequence
        if error is not None:
            self._line.end(SpeechFailed(invocation_id=self._id, sequence=sequence, error=Problem.of(error)))
            return
        assert record.usage is not None
        self._line.end(SpeechFinished(invocation_id=self._id, sequence=sequence, usage=record.usage, cost=record.cost))


async def _again(record: Invocation, sound: Sound | None) -> AsyncGenerator[SpeechEvent, None]:
    """Yield the events of speech that has ended, its sound cut anew; None: it failed."""
    id_, sequence = str(record.id), 1
    yield SpeechStarted(invocation_id=id_, sequence=0, model=record.model)
    if sound is None:
        assert record.error is not None
        yield SpeechFailed(invocation_id=id_, sequence=sequence, error=record.error)
        return
    for start in range(0, len(sound.audio), CHUNK_BYTES):
        audio = sound.audio[start : start + CHUNK_BYTES]
        yield SpeechChunk(invocation_id=id_, sequence=sequence, audio=audio, mime_type=sound.mime_type)
        sequence += 1
    yield SpeechFinished(invocation_id=id_, sequence=sequence, usage=record.usage or Usage(), cost=record.cost)


def _opened(values: Values, step: Step) -> Call:
    return Call(model=step.model, card=step.card, values=values)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None

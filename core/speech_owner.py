"""The owner of one call that speaks, and the line on which its sound comes."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from typing import TypeVar

import msgspec

from core.app import App
from core.deadline import timeout_text
from core.entities import Invocation
from core.errors import ModelyardError, Problem, UpstreamTimeout
from core.model_types import Usage, tts
from core.model_types.tts import (
    Sound,
    SpeechChunk,
    SpeechEvent,
    SpeechFailed,
    SpeechFinished,
    SpeechRequest,
    SpeechStarted,
)
from core.owner import Owner
from core.plan import Step
from core.pool import Tries, Try
from core.provider import Call
from core.results import MAX_KEPT
from core.running import Unread

A = TypeVar("A")

Speak = Callable[[Call, SpeechRequest], AsyncGenerator[bytes | Usage, None]]

CHUNK_BYTES = 48 * 1024
"""The most bytes of sound in one event; divisible by 3, so that chunks in base64 need no padding."""

CHUNKS_AHEAD = 16
"""How many chunks wait for a slow reader before the provider is read no further."""


class Line(Unread):
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


class SpeechOwner(Owner[Step]):
    """Runs one call that speaks."""

    def __init__(
        self,
        app: App,
        invocation: Invocation,
        tries: Tries[Step],
        line: Line,
        speak: Speak,
        request: SpeechRequest,
    ) -> None:
        super().__init__(app, invocation, tries)
        self._line = line
        self._speak = speak
        self._told: Usage | None = None
        self._request = request

    async def _try(self, one: Try[Step]) -> None:
        step, settings = one.step, self._app.settings
        call = Call(model=step.model, card=step.card, values=await self._values(step))
        loop, provider = asyncio.get_running_loop(), step.key.provider
        end = loop.time() + settings.call_seconds
        wait, spoke = one.first_s, False
        mime_type = tts.mime_type_of(self._request.format or "")
        async with aclosing(self._speak(call, self._request)) as sound:
            while True:
                due = min(end, loop.time() + wait)
                data = await _in_time(anext(sound, None), provider, due, spoke=spoke, total=due >= end, seconds=wait)
                if data is None:
                    return
                if isinstance(data, Usage):
                    self._told = data
                    continue
                wait, spoke = settings.idle_seconds, True
                for chunk in _chunks(data):
                    self._spoke(one)
                    await _in_time(self._line.put(chunk, mime_type), provider, end, spoke=True, total=True)

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


async def again(record: Invocation, sound: Sound | None) -> AsyncGenerator[SpeechEvent, None]:
    """Yield the events of speech that has ended, its sound cut anew; None: it failed."""
    id_, sequence = str(record.id), 1
    yield SpeechStarted(invocation_id=id_, sequence=0, model=record.model)
    if sound is None:
        assert record.error is not None
        yield SpeechFailed(invocation_id=id_, sequence=sequence, error=record.error)
        return
    for audio in _chunks(sound.audio):
        yield SpeechChunk(invocation_id=id_, sequence=sequence, audio=audio, mime_type=sound.mime_type)
        sequence += 1
    yield SpeechFinished(invocation_id=id_, sequence=sequence, usage=record.usage or Usage(), cost=record.cost)


def _chunks(audio: bytes) -> Iterator[bytes]:
    return (audio[start : start + CHUNK_BYTES] for start in range(0, len(audio), CHUNK_BYTES))


async def _in_time(
    work: Awaitable[A], provider: str, due: float, *, spoke: bool, total: bool, seconds: float = 0.0
) -> A:
    """Return what comes of some work before it is due, by the loop's time.

    Raises:
        UpstreamTimeout: it came to nothing until then; `spoke`, `total` and `seconds` say how far it had got.
    """
    try:
        async with asyncio.timeout_at(due):
            return await work
    except TimeoutError:
        raise UpstreamTimeout(timeout_text(provider, spoke=spoke, total=total, seconds=seconds)) from None

"""The use case of speech: resolve, admit, try, speak to one reader, settle."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from uuid import UUID

from core.access import Viewer
from core.app import App
from core.asking import Asked, Asking, Kind, Plan
from core.capabilities import check_speech
from core.configuration import Configuration
from core.errors import Cancelled, ModelyardError, Problem
from core.metering import expected
from core.model_types import ModelType, tts
from core.model_types.tts import Sound, SpeechEvent, SpeechFailed, SpeechRequest
from core.once import begin_once
from core.speech_owner import Line, Speak, SpeechOwner, again

_SPEECH = Kind(ModelType.TTS, "speech", Sound)


async def speak(app: App, viewer: Viewer, asked: Asked, request: SpeechRequest) -> AsyncGenerator[SpeechEvent, None]:
    """Yield the events of speech as it is made; leaving ends the call, one with a key after the grace time.

    A repeat is given the events once the call has ended. A refusal is one SpeechFailed.
    """
    asking = _Spoken(app, viewer, asked, _SPEECH, request, request.end_user)
    try:
        source = await asking.made(request)
    except ModelyardError as refusal:
        yield SpeechFailed(invocation_id=None, sequence=0, error=Problem.of(refusal))
        return
    async with aclosing(source) as events:
        async for event in events:
            yield event


class _Spoken(Asking[Sound]):
    """One request for speech."""

    async def made(self, request: SpeechRequest) -> AsyncGenerator[SpeechEvent, None]:
        """Begin to speak, or wait for the end of what the key stands for; return the events."""
        app = self._app

        async def plan(configuration: Configuration) -> tuple[Plan, SpeechRequest, Speak]:
            found = self._plan(configuration)
            adapter = found.adapter(found.provider.tts)
            found.leave_out(partial(check_speech, request))
            checked = check_speech(request, found.steps[0].card)
            estimate = expected(tts.usage_of(checked), tts.bound_usage(checked))
            return found.expecting(estimate), checked, adapter.speak

        async def begin(planned: tuple[Plan, SpeechRequest, Speak]) -> AsyncGenerator[SpeechEvent, None]:
            line = await app.running.finish(self._begin(*planned), lambda begun: begun.leave())
            return line.events()

        return await begin_once(app, self._viewer, self._asked.workspace_id, self._once, plan, begin, self._hear)

    async def _begin(self, plan: Plan, request: SpeechRequest, speak: Speak) -> Line:
        invocation, tries = await self._admit(plan)
        is_kept = self._once is not None
        line = Line(invocation, is_kept=is_kept)
        owner = SpeechOwner(self._app, invocation, tries, line, speak, request)
        grace_s = self._app.settings.grace_seconds if is_kept else 0
        owned = owner.owned = self._app.running.start(line, owner.run(), grace_s)
        if not is_kept:
            line.on_abandoned = lambda: owned.cancel(Cancelled("The reader of the speech has left."))
        return line

    async def _hear(self, invocation_id: UUID) -> AsyncGenerator[SpeechEvent, None]:
        """Return the events of the speech that the key stands for, once it has ended."""
        record = await self._ended(invocation_id)
        sound = await self._result(invocation_id) if record.error is None else None
        return again(record, sound)

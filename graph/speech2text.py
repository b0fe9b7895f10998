"""Transcription: a recording to its words."""

import re
from typing import Annotated

import strawberry

from core.errors import InvalidInput
from core.invoke import transcribe
from core.model_types.llm import MediaKind
from core.model_types.speech2text import Audio, TranscriptionRequest
from graph.calls import CallInput, CallPayload
from graph.completion_input import MediaInput
from graph.context import Info
from graph.mutations import INPUT, mutation
from graph.problems import UserError
from graph.types import attribute, input_type, object_type

_LANGUAGE = re.compile(r"[a-zA-Z]{2,3}(-[a-zA-Z0-9]{2,8}){0,2}")


@input_type
class TranscribeInput(CallInput):
    """What is to be written down."""

    audio: MediaInput = attribute(
        "The recording: WAV, MP3, M4A, OGG, FLAC, WebM, AAC or AIFF. An address is fetched by this server, 25 MB at most."
    )
    language: str | None = attribute("The language spoken, such as en; left out, the model finds out.", default=None)

    def request(self, audio: Audio) -> TranscriptionRequest:
        """Return what core takes, of a recording that has been looked at."""
        return TranscriptionRequest(
            audio=audio, language=self.language, end_user=self.end_user, provider_options=self.options()
        )

    def check(self) -> None:
        """Let an input pass whose language is one.

        Raises:
            InvalidInput: it is none.
        """
        if self.language is not None and not _LANGUAGE.fullmatch(self.language):
            raise InvalidInput("`language` is a code such as en or pt-BR.", path=("language",))


@object_type
class TranscribePayload(CallPayload):
    """What came of a transcription."""

    text: str | None = attribute("The words; null when it failed.", default=None)


@strawberry.type(name="Mutation")
class TranscriptionMutations:
    """Transcription."""

    @mutation(TranscribePayload)
    async def transcribe(self, info: Info, input: Annotated[TranscribeInput, INPUT]) -> TranscribePayload:
        """Writes down a recording. A document has at most one such field.

        Needs MODEL_INVOKE.
        """
        context = info.context
        input.check()
        audio = input.audio.part(MediaKind.AUDIO, ("audio",))
        outcome = await transcribe(context.app, context.who, input.asked(), audio, input.request)
        return TranscribePayload(
            text=outcome.result.text if outcome.result is not None else None,
            invocation_id=outcome.invocation_id,
            errors=UserError.listed(outcome.problem),
        )

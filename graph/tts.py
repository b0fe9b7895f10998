"""Speech: text spoken, streamed as it is made."""

import base64
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, cast
from uuid import UUID

import strawberry

from core.errors import InvalidInput, ModelyardError, Problem
from core.model_types import tts
from core.model_types.tts import SpeechRequest
from core.speech import speak
from graph import links
from graph.calls import CallInput, check_text
from graph.completion_events import global_id
from graph.context import Context, Info
from graph.links import InvocationLink
from graph.problems import UserError
from graph.types import argument, attribute, input_type, object_type, resolved, streamed
from graph.values import Cost, ModelKey, Usage

MAX_CHARACTERS = 100_000
MAX_NAME = 256


@input_type
class SpeechInput(CallInput):
    """What is to be spoken."""

    text: str = attribute("The text.")
    voice: str | None = attribute(
        "Who speaks, by an id of `Model.voices`; left out, the model's usual voice.", default=None
    )
    format: str | None = attribute(
        "The format of the sound, such as mp3 or wav; left out, the model's usual one.", default=None
    )

    def request(self) -> SpeechRequest:
        """Return what core takes.

        Raises:
            InvalidInput: a value breaks its rules; its path says which.
        """
        check_text(self.text, "`text`", ("text",), MAX_CHARACTERS)
        for name, given in (("voice", self.voice), ("format", self.format)):
            if given is not None and (not 1 <= len(given) <= MAX_NAME or not given.isprintable()):
                raise InvalidInput(f"`{name}` has 1 to {MAX_NAME} characters.", path=(name,))
        return SpeechRequest(
            text=self.text,
            voice=self.voice,
            format=self.format,
            end_user=self.end_user,
            provider_options=self.options(),
        )


@object_type
class SpeechStarted:
    """The call was admitted. Sent before the first byte goes to the provider, so that it can be cancelled."""

    invocation_id: strawberry.ID = attribute("The invocation that the event belongs to.")
    sequence: int = attribute("The event's number: from 0, without gaps.")
    model: ModelKey = attribute("The model that speaks.")


@object_type
class SpeechChunk:
    """More of the sound."""

    invocation_id: strawberry.ID = attribute("The invocation that the event belongs to.")
    sequence: int = attribute("The event's number: from 0, without gaps.")
    audio: str = attribute("What to append: bytes in base64, each chunk by itself.")
    mime_type: str = attribute("The type of the whole sound.")


@object_type
class SpeechFinished:
    """The end of speech that went well."""

    invocation_id: strawberry.ID = attribute("The invocation that the event belongs to.")
    sequence: int = attribute("The event's number: from 0, without gaps.")
    usage: Usage = attribute("What it used.")
    cost: Cost | None = attribute("What it cost; null where no price is known.")
    record: strawberry.Private[str]

    @resolved
    async def invocation(self, info: Info) -> InvocationLink | None:
        """The record of the call."""
        return await links.invocation(info.context, UUID(self.record))


@object_type
class SpeechFailed:
    """The end of speech that failed, or was refused or cancelled."""

    invocation_id: strawberry.ID | None = attribute(
        "The invocation that the event belongs to; null in a call that was refused before it was admitted."
    )
    sequence: int = attribute("The event's number: from 0, without gaps.")
    error: UserError = attribute("Why.")


SpeechEvent = Annotated[
    SpeechStarted | SpeechChunk | SpeechFinished | SpeechFailed,
    strawberry.union("SpeechEvent", description="What happens while text is spoken, in order."),
]


@strawberry.type(name="Subscription")
class SpeechSubscriptions:
    """Speech."""

    @streamed
    async def speech(
        self,
        info: Info,
        input: Annotated[SpeechInput, argument("What is to be spoken.")],
    ) -> AsyncGenerator[SpeechEvent, None]:
        """Streams speech: its sound in chunks as it is made, then SpeechFinished or SpeechFailed.

        Leaving ends the call, and a slow reader slows it. A document has at most one such field. Needs MODEL_INVOKE.
        """
        async with aclosing(_events(info.context, input)) as events:
            async for event in events:
                yield _shown(event)


async def _events(context: Context, given: SpeechInput) -> AsyncGenerator[tts.SpeechEvent, None]:
    try:
        asked, request = given.asked(), given.request()
    except ModelyardError as refusal:
        yield tts.SpeechFailed(invocation_id=None, sequence=0, error=Problem.of(refusal))
        return
    async with aclosing(speak(context.app, context.who, asked, request)) as events:
        async for event in events:
            yield event


def _shown(event: tts.SpeechEvent) -> SpeechStarted | SpeechChunk | SpeechFinished | SpeechFailed:
    if isinstance(event, tts.SpeechFailed):
        found = global_id(event.invocation_id) if event.invocation_id is not None else None
        return SpeechFailed(invocation_id=found, sequence=event.sequence, error=UserError.of(event.error))
    invocation_id = global_id(event.invocation_id)
    if isinstance(event, tts.SpeechChunk):
        return SpeechChunk(
            invocation_id=invocation_id,
            sequence=event.sequence,
            audio=base64.b64encode(event.audio).decode(),
            mime_type=event.mime_type,
        )
    if isinstance(event, tts.SpeechStarted):
        return SpeechStarted(invocation_id=invocation_id, sequence=event.sequence, model=ModelKey.of(event.model))
    return SpeechFinished(
        invocation_id=invocation_id,
        sequence=event.sequence,
        usage=cast("Usage", Usage.of(event.usage)),
        cost=Cost.of(event.cost),
        record=event.invocation_id,
    )

"""The use case of voices: who can speak with a model, by its manifest or by the provider's own list."""

import asyncio
from collections.abc import Sequence

from core.app import App
from core.capabilities import voices_of
from core.configuration import Configuration
from core.errors import UpstreamTimeout
from core.model_types import ModelType
from core.model_types.tts import Voice
from core.plan import steps_of
from core.provider import Call
from core.resolve import Known, Request, resolve

ASK_SECONDS = 10.0


async def list_voices(
    app: App, configuration: Configuration, model: Known, language: str | None
) -> Sequence[Voice] | None:
    """Return the voices that speak a language (such as en, or en-GB); None where nobody knows them.

    A provider that lists voices is asked with the credential that would serve a call; without one nobody is asked.

    Raises:
        ModelyardError: the provider was asked and failed.
    """
    if model.key.type is not ModelType.TTS:
        return None
    found: Sequence[Voice] | None = voices_of(model.card) or await _asked(app, configuration, model)
    return [voice for voice in found if speaks(voice, language)] if found is not None else None


async def _asked(app: App, configuration: Configuration, model: Known) -> Sequence[Voice] | None:
    request = Request(type=model.key.type, provider=model.key.provider, name=model.key.name)
    if resolve(configuration, app.catalog, request).problem is not None:
        return None
    step = steps_of(app.catalog, configuration, request)[0]
    if step.provider.tts is None:
        return None
    values = await app.vault.open(step.credential) if step.credential is not None else {}
    try:
        async with asyncio.timeout(ASK_SECONDS):
            return await step.provider.tts.voices(Call(model=step.model, card=step.card, values=values))
    except TimeoutError:
        raise UpstreamTimeout(f"{model.key.provider} did not list its voices in time.") from None


def speaks(voice: Voice, language: str | None) -> bool:
    """Tell whether a voice speaks a language; en finds en-GB, en-GB finds en, and who names none speaks all."""
    if language is None or not voice.languages:
        return True
    wanted = language.lower().split("-")
    return any(
        all(ours == theirs for ours, theirs in zip(wanted, spoken.lower().split("-"), strict=False))
        for spoken in voice.languages
    )

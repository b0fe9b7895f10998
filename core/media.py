"""Media by their address: fetched past the egress guard where this server has to hold them, never private ones."""

import asyncio
import base64

from core.errors import InvalidInput, UpstreamError
from core.model_types.llm import ChatRequest, Media
from core.model_types.speech2text import Audio, audio_of
from core.wire.egress import Egress
from core.wire.http import Http

MAX_AUDIO_BYTES = 25 * 1024 * 1024
FETCH_SECONDS = 30.0

# One text for refused, unknown and silent: who may enter a URL must not learn what listens where.
_UNFETCHED = (
    "The audio cannot be fetched from this address: give an https address that anybody can read and that does not "
    "redirect, or `base64`."
)
_UNKNOWN = "These bytes are no audio in a format that is known: send WAV, MP3, M4A, OGG, FLAC, WebM, AAC or AIFF."


async def fetch_audio(http: Http, media: Media) -> Audio:
    """Return a recording.

    Raises:
        InvalidInput: it cannot be had, is too large, or is no audio; nothing but its own address was asked.
    """
    if media.url is not None:
        path, content = ("audio", "url"), await _fetched(http, media.url)
        filename = media.filename or media.url.partition("?")[0].rpartition("/")[2]
    else:
        path, content = ("audio", "base64"), base64.b64decode(media.base64 or "")
        filename = media.filename or "audio"
    audio = audio_of(content, filename)
    if audio is None:
        raise InvalidInput(_UNKNOWN, path=path)
    return audio


def check_addresses(egress: Egress, request: ChatRequest) -> None:
    """Let a conversation pass whose media stand where anybody, or whom the operator allows, may look.

    Raises:
        InvalidInput: an address is a private one; the path names it.
    """
    for number, message in enumerate(request.messages):
        for place, part in enumerate(message.content):
            if isinstance(part, Media) and part.url is not None:
                kind = part.kind.value.lower()
                egress.check_reference(part.url, path=("messages", str(number), "content", str(place), kind, "url"))


async def _fetched(http: Http, url: str) -> bytes:
    path = ("audio", "url")
    http.egress.check_url(url, path=path)
    try:
        async with asyncio.timeout(FETCH_SECONDS), http.stream("GET", url, headers={}) as answer:
            if answer.status != 200:
                raise InvalidInput(_UNFETCHED, path=path)
            return await answer.read_all(MAX_AUDIO_BYTES)
    except (UpstreamError, TimeoutError) as error:
        is_long = "longer than" in str(error)
        text = f"The audio has more than {MAX_AUDIO_BYTES // 1024 // 1024} MB." if is_long else _UNFETCHED
        raise InvalidInput(text, path=path) from None

"""Speaks and writes down speech on loopback as OpenAI does: `python -m web.local_voices PORT`, until told to stop.

The voices are those of eSpeak NG, the ears PocketSphinx with its model of American English; both packages hold what
they need. They are an optional extra: `import web.local_voices` needs neither.
"""

import array
import ctypes
import email
import email.policy
import importlib.util
import io
import queue
import struct
import sys
import threading
import wave
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

VOICES = "espeak-ng"
EARS = "pocketsphinx-en-us"
USUAL_VOICE = "en-us+f2"
PACKAGES = ("espeakng-loader", "pocketsphinx")

_MODULES = ("espeakng_loader", "pocketsphinx")
_HEARD_RATE = 16_000
_LONGEST_TEXT = 4096
_LARGEST_SOUND = 25 * 1024 * 1024
_ENDLESS = 0xFFFFFFFF
"""The size in the head of a WAV whose end is not known when it begins."""


class RefusedError(Exception):
    """A request that cannot be served; the message says why."""


def is_installed() -> bool:
    """Tell whether the extra is there."""
    return all(importlib.util.find_spec(name) is not None for name in _MODULES)


class Voices:
    """eSpeak NG: one library, which speaks one text at a time."""

    _SYNCHRONOUS, _UTF8 = 2, 1  # AUDIO_OUTPUT_SYNCHRONOUS, espeakCHARS_UTF8

    def __init__(self) -> None:
        import espeakng_loader

        self._library: Any = ctypes.CDLL(espeakng_loader.get_library_path())
        self._lock = threading.Lock()
        data = espeakng_loader.get_data_path().encode()
        self.rate: int = self._library.espeak_Initialize(self._SYNCHRONOUS, 0, data, 0)
        self._said: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._goes_on = True
        played = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
        self._played = played(self._take)  # kept: the library calls it as long as it is loaded
        self._library.espeak_SetSynthCallback(self._played)

    def has(self, voice: str) -> bool:
        """Tell whether there is a voice of that name, and take it."""
        with self._lock:
            return bool(self._library.espeak_SetVoiceByName(voice.encode()) == 0)

    def speak(self, text: str, voice: str) -> Iterator[bytes]:
        """Yield a WAV as it is made: 16 bits, one channel."""
        yield wav_head(self.rate)
        with self._lock:
            self._said, self._goes_on = queue.SimpleQueue(), True
            speaking = threading.Thread(target=self._speak, args=(text, voice), daemon=True)
            speaking.start()
            try:
                while (sound := self._said.get()) is not None:
                    yield sound
            finally:
                self._goes_on = False
                speaking.join()

    def _speak(self, text: str, voice: str) -> None:
        try:
            said = text.encode()
            self._library.espeak_SetVoiceByName(voice.encode())
            self._library.espeak_Synth(said, len(said) + 1, 0, 1, 0, self._UTF8, None, None)
        finally:
            self._said.put(None)

    def _take(self, sound: int | None, count: int, _events: int | None) -> int:
        """Receive samples; anything but 0 stops the speech."""
        if sound and count > 0:
            self._said.put(ctypes.string_at(sound, 2 * count))
        return 0 if self._goes_on else 1


class Ears:
    """PocketSphinx: one decoder, which hears one recording at a time."""

    def __init__(self) -> None:
        from pocketsphinx import Decoder

        self._decoder: Any = Decoder(loglevel="FATAL")
        self._lock = threading.Lock()

    def hear(self, samples: bytes) -> str:
        """Return the words in samples of 16 bits, one channel, 16 kHz."""
        with self._lock:
            self._decoder.start_utt()
            self._decoder.process_raw(samples, no_search=False, full_utt=True)
            self._decoder.end_utt()
            found = self._decoder.hyp()
        return str(found.hypstr) if found is not None else ""


def application(voices: Voices, ears: Ears) -> Starlette:
    """Return the server's routes."""

    def models(_: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": name, "object": "model"} for name in (VOICES, EARS)]})

    async def speech(request: Request) -> Response:
        try:
            text, voice = _asked(await request.json())
            if not voices.has(voice):
                raise RefusedError(f"eSpeak NG has no voice {voice!r}.")
        except (RefusedError, ValueError) as error:
            return _refused(error)
        return StreamingResponse(voices.speak(text, voice), media_type="audio/wav")

    async def transcriptions(request: Request) -> Response:
        content_type = request.headers.get("content-type", "")
        body = await request.body()
        try:
            samples, seconds = await run_in_threadpool(lambda: heard_of(file_of(content_type, body)))
        except (RefusedError, ValueError, EOFError, wave.Error) as error:
            return _refused(error)
        text = await run_in_threadpool(ears.hear, samples)
        return JSONResponse({"text": text, "usage": {"type": "duration", "seconds": seconds}})

    routes = [
        Route("/v1/models", models),
        Route("/v1/audio/speech", speech, methods=["POST"]),
        Route("/v1/audio/transcriptions", transcriptions, methods=["POST"]),
    ]
    return Starlette(routes=routes)


def file_of(content_type: str, body: bytes) -> bytes:
    """Return the file of a form.

    Raises:
        RefusedError: there is none, or it is too large.
    """
    if len(body) > _LARGEST_SOUND:
        raise RefusedError("The recording is larger than 25 MB.")
    form = email.message_from_bytes(f"content-type: {content_type}\r\n\r\n".encode() + body, policy=email.policy.HTTP)
    for part in form.iter_parts() if form.is_multipart() else ():
        if part.get_param("name", header="content-disposition") == "file":
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            return content
    raise RefusedError("The form has no field `file`.")


def heard_of(content: bytes) -> tuple[bytes, float]:
    """Return the samples of a WAV as the ears take them, and how many seconds they last.

    Raises:
        RefusedError: it is no WAV of 16 bits.
    """
    if content[:4] != b"RIFF":
        raise RefusedError("PocketSphinx is given WAV only.")
    with wave.open(io.BytesIO(content)) as sound:
        if sound.getsampwidth() != 2:
            raise RefusedError("The samples of the WAV have to be of 16 bits.")
        rate, channels = sound.getframerate(), sound.getnchannels()
        samples = array.array("h", sound.readframes(sound.getnframes()))[::channels]
    return resampled(samples, rate, _HEARD_RATE).tobytes(), round(len(samples) / rate, 3)


def resampled(samples: "array.array[int]", rate: int, wanted: int) -> "array.array[int]":
    """Return samples at another rate, those between two on the line between them."""
    last, step = len(samples) - 1, rate / wanted
    made = array.array("h")
    for number in range(len(samples) * wanted // rate):
        place = int(number * step)
        share = number * step - place
        made.append(round(samples[place] * (1 - share) + samples[min(place + 1, last)] * share))
    return made


def wav_head(rate: int) -> bytes:
    """Return the head of a WAV of 16 bits and one channel that lasts until it ends."""
    form = struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16)
    return b"RIFF" + struct.pack("<I", _ENDLESS) + b"WAVEfmt " + form + b"data" + struct.pack("<I", _ENDLESS)


def _asked(given: Any) -> tuple[str, str]:
    text, voice = str(given.get("input") or ""), str(given.get("voice") or USUAL_VOICE)
    if not text.strip() or len(text) > _LONGEST_TEXT:
        raise RefusedError(f"`input` is a text of 1 to {_LONGEST_TEXT} characters.")
    if given.get("response_format", "wav") != "wav":
        raise RefusedError("`response_format` is wav here.")
    return text, voice


def _refused(error: Exception) -> Response:
    return JSONResponse({"error": {"message": str(error), "type": "invalid_request_error"}}, status_code=400)


def main() -> int:
    """Serve until SIGTERM."""
    if not is_installed():
        print(f"Not installed: {' and '.join(PACKAGES)}.", file=sys.stderr)
        return 1
    uvicorn.run(application(Voices(), Ears()), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.bench.decoding [FOLDER]`: what decoding one streamed chunk costs, in each dialect.

The streams are those of the fake provider, of 1,000 chunks each, and the recorded ones of FOLDER where one is named. An
event is fed as a network read of its own, as a provider sends it; a row is the best of several runs, in µs of CPU a chunk.
"""

import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from core.wire.conversing import Decoding
from tests.fake_dialects import anthropic, cohere, gemini, ollama, openai_chat, openai_responses
from tests.fake_dialects.base import Dialect, Request
from tests.wire.dialects import SPOKEN, recordings, spoken

MOST_US = 40.0
"""What a chunk may cost."""

RUNS = 7
CHUNKS = 1000
DIALECTS: dict[str, Dialect] = {
    "openai-chat": openai_chat,
    "openai-responses": openai_responses,
    "anthropic-messages": anthropic,
    "gemini": gemini,
    "cohere": cohere,
    "ollama": ollama,
}
_END = re.compile(rb"(?<=\n\n)|(?<=\r\n\r\n)")
_LINE = re.compile(rb"(?<=\n)")


def spoken_streams() -> Iterator[tuple[str, Callable[[], Decoding], list[bytes]]]:
    """Yield a name, what makes a decoder, and the chunks of a long text and of long reasoning."""
    for name, dialect in DIALECTS.items():
        request = Request(method="POST", path="/", headers={}, json={"model": "m", "stream": True})
        words = "word " * CHUNKS
        texts = {
            "text": replace(dialect.SCENARIOS["text"], text=words, pieces=CHUNKS),
            "reasoning": replace(dialect.SCENARIOS["reasoning"], reasoning=words, pieces=CHUNKS),
        }
        for kind, scenario in texts.items():
            yield f"{name} {kind}", SPOKEN[name].decoder, list(dialect.content(request, scenario))


def recorded_streams(folder: str) -> Iterator[tuple[str, Callable[[], Decoding], list[bytes]]]:
    """Yield those of a folder that are long enough to be measured."""
    for recording in recordings(folder):
        if recording.streaming and recording.status == 200:
            ends = _LINE if recording.name.startswith("ollama") else _END
            chunks = [chunk for chunk in ends.split(recording.body) if chunk]
            if len(chunks) >= 20:
                yield recording.name, spoken(recording).decoder, chunks


def cost_us(decoder: Callable[[], Decoding], chunks: list[bytes]) -> float:
    """Return the CPU time of one chunk, in µs: the best of some runs."""
    return min(_run(decoder(), chunks) for _ in range(RUNS)) / len(chunks) * 1e6


def _run(decoder: Decoding, chunks: list[bytes]) -> float:
    began = time.process_time()
    for chunk in chunks:
        decoder.feed(chunk)
    decoder.end()
    return time.process_time() - began


def main() -> int:
    """Print a row for each stream; fail where one costs more than it may."""
    folder = sys.argv[1] if len(sys.argv) > 1 else ""
    streams = [*spoken_streams(), *recorded_streams(folder)]
    found = [(cost_us(make, chunks), name, len(chunks)) for name, make, chunks in streams]
    for cost, name, count in found:
        print(f"{cost:7.1f} µs a chunk  {count:5d} chunks  {name}")
    dearest, name, _ = max(found)
    print(f"{dearest:7.1f} µs at most, of {MOST_US:.0f}: {name}")
    return 0 if dearest <= MOST_US else 1


if __name__ == "__main__":
    sys.exit(main())

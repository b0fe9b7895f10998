"""Every recorded answer of a dialect that is served decodes to what the official clients make of it."""

import os
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from core.cards import custom_card
from core.catalog import discover
from core.errors import ModelyardError
from core.model_types import ModelType
from core.model_types.llm import ChatRequest, Message, Piece, Role, Text
from core.provider import Call
from core.secret import Secret
from core.wire.egress import Egress
from core.wire.http import Http
from tests.wire.dialects import recordings, spoken
from tests.wire.recordings import Outcome, Recording, Replay, differences, outcome_of

FOLDER = os.environ.get("MODELYARD_RECORDINGS", "")
RECORDINGS = recordings(FOLDER)

pytestmark = pytest.mark.skipif(not FOLDER, reason="MODELYARD_RECORDINGS names no folder of recorded answers")

STREAMS = [recording for recording in RECORDINGS if recording.streaming and recording.status == 200]
each = pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.name)
REQUEST = ChatRequest(messages=(Message(role=Role.USER, content=(Text("hi"),)),))


@pytest.fixture(scope="module")
async def replay() -> AsyncIterator[Replay]:
    async with Replay.serve(RECORDINGS) as server:
        yield server


@pytest.fixture(scope="module")
async def http() -> AsyncIterator[Http]:
    async with Http.open(egress=Egress(["127.0.0.1:*"])) as client:
        yield client


def test_the_folder_holds_recordings() -> None:
    assert len(RECORDINGS) >= 120


@each
@pytest.mark.parametrize("piece_bytes", [0, 7])
async def test_a_recording_decodes_over_http(
    recording: Recording, piece_bytes: int, replay: Replay, http: Http
) -> None:
    replay.piece_bytes = piece_bytes

    outcome = await _ask(http, recording, replay)

    assert differences(outcome, recording.expected) == []


@pytest.mark.parametrize("recording", STREAMS, ids=lambda recording: recording.name)
@pytest.mark.parametrize("piece_bytes", [1, 7, 1000, 10**9])
def test_a_streamed_recording_decodes_however_it_is_cut(recording: Recording, piece_bytes: int) -> None:
    decoder = spoken(recording).decoder()
    pieces: list[Piece] = []

    for start in range(0, len(recording.body), piece_bytes):
        pieces += decoder.feed(recording.body[start : start + piece_bytes])
        if decoder.failure or decoder.complete:
            break
    else:
        pieces += decoder.end()

    outcome = outcome_of(pieces, decoder.failure.code if decoder.failure else None)
    assert differences(outcome, recording.expected) == []


async def _ask(http: Http, recording: Recording, replay: Replay) -> Outcome:
    speaks = spoken(recording)
    provider = discover(http, echo=False).providers[speaks.provider]
    assert provider.llm is not None
    base_url = replay.base_url(recording) + speaks.ending
    values = {"base_url": base_url, **speaks.values}
    card = custom_card(provider.manifest, "m", ModelType.LLM, values)
    call = Call(model="m", card=card, values={**values, "api_key": Secret("sk-test")})
    pieces: list[Piece] = []
    try:
        if recording.streaming:
            async with aclosing(provider.llm.stream(call, REQUEST)) as batches:
                async for batch in batches:
                    pieces += batch
        else:
            pieces += await provider.llm.complete(call, REQUEST)
    except ModelyardError as error:
        return outcome_of(pieces, error.code)
    return outcome_of(pieces)

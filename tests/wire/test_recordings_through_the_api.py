"""Every answer of a dialect that is served comes through the whole product as it is, however it is cut on its way.

The answers are those that the fake provider makes and, where a folder of recorded ones is named, those as the official
clients read them.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conftest import settings_for
from tests.product import Product, chat, model, running
from tests.wire.dialects import recordings, spoken
from tests.wire.made import made_recordings
from tests.wire.recordings import (
    MUTATION,
    SUBSCRIPTION,
    Outcome,
    Recording,
    Replay,
    differences,
    outcome_of_events,
    outcome_of_payload,
)

FOLDER = os.environ.get("MODELYARD_RECORDINGS", "")
RECORDINGS = made_recordings() + recordings(FOLDER)


@pytest.fixture(scope="module")
async def replay() -> AsyncIterator[Replay]:
    async with Replay.serve(RECORDINGS) as server:
        yield server


@pytest.fixture(scope="module")
async def product(
    sqlite_template: Path, redis_url: str, tmp_path_factory: pytest.TempPathFactory, replay: Replay
) -> AsyncIterator[Product]:
    folder = tmp_path_factory.mktemp("recordings")
    path = folder / "modelyard.db"
    path.write_bytes(sqlite_template.read_bytes())
    settings = settings_for(f"sqlite+aiosqlite:///{path}", redis_url, folder, EGRESS_ALLOW="127.0.0.0/8:*")
    async with running(settings) as started:
        for recording in RECORDINGS:
            speaks = spoken(recording)
            base_url = replay.base_url(recording) + speaks.ending
            await started.add_model(recording.name, base_url, provider=speaks.provider, **speaks.values)
        yield started


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.name)
@pytest.mark.parametrize("piece_bytes", [0, 1, 7, 1000])
async def test_a_recording_comes_through_as_it_is(
    recording: Recording, piece_bytes: int, product: Product, replay: Replay
) -> None:
    replay.piece_bytes = piece_bytes

    outcome = await (subscribe(product, recording) if recording.streaming else complete(product, recording))

    assert differences(outcome, recording.expected) == []


async def subscribe(product: Product, recording: Recording) -> Outcome:
    given = {"input": chat(model=named(recording))}
    async with product.socket() as ws, asyncio.timeout(20):
        payload = {"query": SUBSCRIPTION, "variables": given}
        await ws.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))
        events = []
        while (message := json.loads(await ws.recv()))["type"] == "next":
            assert "errors" not in message["payload"], message
            events.append(message["payload"]["data"]["completion"])
        assert message["type"] == "complete", message
        return outcome_of_events(events)


async def complete(product: Product, recording: Recording) -> Outcome:
    data = await product.data(MUTATION, input=chat(model=named(recording)))
    return outcome_of_payload(data["complete"])


def named(recording: Recording) -> dict[str, str]:
    return model(recording.name, spoken(recording).provider)

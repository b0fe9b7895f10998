"""Every answer of a dialect that is served comes through the whole product as it is, however it is cut on its way.

The answers are those that the fake provider makes and, where a folder of recorded ones is named, those as the official
clients read them.
"""

import asyncio
import json
import os

import pytest

from tests.product import Product, chat, model
from tests.waiting import LIMIT_S
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


async def add(product: Product, base_url: str, recording: Recording) -> None:
    """Add the model that answers as recorded."""
    speaks = spoken(recording)
    await product.add_model(recording.name, base_url + speaks.ending, provider=speaks.provider, **speaks.values)


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
    async with product.socket() as ws, asyncio.timeout(LIMIT_S):
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

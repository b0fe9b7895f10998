"""The pace of streams: slower while the process is behind, nothing lost, and the first word never held."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ModelyardError
from core.model_types import ModelType
from core.model_types.llm import ChatRequest, FinishPiece, Message, Piece, Role, Text, TextPiece
from core.provider import Call, Manifest, ModelCard, Value
from core.providers import openai_compatible
from core.secret import Secret
from core.wire.http import Http
from core.wire.pacing import BEAT_S, LATE_S, MOST_S, Pace
from tests.fake_provider import SCENARIOS, FakeProvider
from tests.wire.recordings import outcome_of

PIECES = 40
TEXT = " ".join(f"word{number}" for number in range(PIECES))


class Behind(Pace):
    """The pace of a process that never catches up."""

    def __init__(self) -> None:
        super().__init__()
        self.rest_s = MOST_S

    def note(self, late_s: float) -> None:
        self.rest_s = MOST_S


@given(st.lists(st.floats(0, 2)))
def test_a_rest_is_never_longer_than_may_be(lates: list[float]) -> None:
    pace = Pace()

    for late in lates:
        pace.note(late)

        assert 0 <= pace.rest_s <= MOST_S


def test_whoever_keeps_up_does_not_rest_and_soon_no_more() -> None:
    pace = Pace()

    pace.note(LATE_S)
    assert pace.rest_s == 0

    for _ in range(100):
        pace.note(1)
    assert pace.rest_s == MOST_S

    for _ in range(int(2 / BEAT_S)):
        pace.note(0)
    assert pace.rest_s == 0


def test_a_single_stall_slows_nobody_down_for_long() -> None:
    pace = Pace()

    pace.note(4 * LATE_S)
    assert pace.rest_s == 0

    pace.note(0.2)
    assert pace.rest_s > 0


async def test_those_who_rest_go_on_together() -> None:
    pace = Pace()
    pace.rest_s = MOST_S
    gone_on: list[int] = []

    async def rest(number: int) -> None:
        await pace.rest()
        gone_on.append(number)

    first, left, last = (asyncio.create_task(rest(number)) for number in range(3))
    await asyncio.sleep(0)
    left.cancel()
    await first

    assert last.done()
    assert gone_on == [0, 2]


async def test_a_loop_that_is_held_up_slows_streams_down_until_none_is_open() -> None:
    pace = Pace()

    with pace.stream():
        while not pace.rest_s:
            time.sleep(10 * LATE_S)
            await asyncio.sleep(BEAT_S)

    async with asyncio.timeout(30):
        while pace.rest_s:
            await asyncio.sleep(BEAT_S)


async def batches(http: Http, provider: FakeProvider) -> tuple[list[Sequence[Piece]], ModelyardError | None]:
    """Ask for a stream; return which pieces came at once, and how it failed."""
    manifest = Manifest(
        name="p", label="", description="", model_types=(), methods=frozenset(), dialect="openai_chat", options={}
    )
    found = openai_compatible.build(manifest, http)
    values: dict[str, Value] = {"base_url": provider.url, "api_key": Secret("sk-test-0123456789abcdefghij")}
    call = Call(model="m", card=ModelCard(name="m", label="m", type=ModelType.LLM), values=values)
    request = ChatRequest(messages=(Message(role=Role.USER, content=(Text("hi"),)),))
    assert found.llm is not None
    came: list[Sequence[Piece]] = []
    try:
        async with aclosing(found.llm.stream(call, request)) as coming:
            async for batch in coming:
                if batch:
                    came.append(batch)  # noqa: PERF401 - what came before a failure counts
    except ModelyardError as error:
        return came, error
    return came, None


async def test_behind_pieces_come_joined_and_none_is_lost(http: Http, provider: FakeProvider) -> None:
    provider.answers(text=TEXT, pieces=PIECES, delay_s=0.005)
    http.pace = Behind()

    found, _ = await batches(http, provider)

    assert "".join(piece.text for batch in found for piece in batch if isinstance(piece, TextPiece)) == TEXT
    assert isinstance(found[0][0], TextPiece)
    assert TEXT.startswith(found[0][0].text)
    assert len(found[0][0].text) < len(TEXT) / 2, "the first words do not wait for the others"
    assert any(isinstance(piece, FinishPiece) for batch in found for piece in batch)
    assert len(found) < PIECES


@pytest.mark.parametrize("scenario", sorted(set(SCENARIOS) - {"stall", "silent", "endless"}))
async def test_behind_every_answer_comes_to_the_same_end(scenario: str, http: Http, provider: FakeProvider) -> None:
    provider.answers(scenario)

    expected, problem = await batches(http, provider)
    http.pace = Behind()
    found, other = await batches(http, provider)

    assert outcome_of([piece for batch in found for piece in batch]) == outcome_of(
        [piece for batch in expected for piece in batch]
    )
    assert (type(other), str(other)) == (type(problem), str(problem))


async def test_behind_a_stream_that_is_left_early_closes_its_connection(http: Http, provider: FakeProvider) -> None:
    provider.answers("stall")
    http.pace = Behind()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(4 * MOST_S):
            await batches(http, provider)

    async with asyncio.timeout(30):
        while provider.open_connections:
            await asyncio.sleep(BEAT_S)

"""Results of calls with a key: in Redis for every process, in memory while it is away, never too much of either."""

from pathlib import Path

import pytest

from core.errors import ServerUnavailable
from core.ids import uuid7
from core.model_types.speech2text import Transcript
from core.results import MAX_KEPT, MEMORY_BYTES, Results
from storage.redis import open_pool
from storage.results import RedisResults
from tests.conftest import MovableClock

TEXT = Transcript(text="words")


async def test_a_result_is_found_by_every_process(redis_url: str, clock: MovableClock) -> None:
    pool = open_pool(redis_url)
    one, two = (Results(RedisResults(pool), clock) for _ in range(2))
    known, large = uuid7(), uuid7()

    await one.keep(known, TEXT)
    await one.keep(large, Transcript(text="x" * MAX_KEPT))

    assert await two.find(known, Transcript) == TEXT
    assert await one.find(large, Transcript) is None
    await pool.aclose()


async def test_without_redis_a_result_is_kept_by_its_own_process_for_ten_minutes(
    tmp_path: Path, clock: MovableClock
) -> None:
    pool = open_pool(f"unix://{tmp_path}/nothing.sock")
    results, other = (Results(RedisResults(pool), clock) for _ in range(2))
    known = uuid7()

    await results.keep(known, TEXT)

    assert await results.find(known, Transcript) == TEXT
    with pytest.raises(ServerUnavailable):
        await other.find(known, Transcript)
    clock.advance(601)
    with pytest.raises(ServerUnavailable):
        await results.find(known, Transcript)
    await pool.aclose()


async def test_without_redis_the_oldest_results_go_first(tmp_path: Path, clock: MovableClock) -> None:
    pool = open_pool(f"unix://{tmp_path}/nothing.sock")
    results = Results(RedisResults(pool), clock)
    size = MAX_KEPT // 2
    made = [uuid7() for _ in range(MEMORY_BYTES // size + 1)]

    for one in made:
        await results.keep(one, Transcript(text="x" * size))

    with pytest.raises(ServerUnavailable):
        await results.find(made[0], Transcript)
    assert await results.find(made[-1], Transcript) is not None
    assert await results.find(made[2], Transcript) is not None
    await pool.aclose()

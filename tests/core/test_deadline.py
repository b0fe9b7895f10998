"""How long an answer is waited for: until it begins, and between two signs of life."""

import asyncio

from core.deadline import Idle

LONG_S = 600.0


async def test_what_comes_before_the_answer_moves_the_deadline_on_where_it_may() -> None:
    """A reasoning model says that it is there, and thinks; another one that only says so gives way to the next."""
    loop = asyncio.get_running_loop()
    moved = []
    for waits in (True, False):
        async with asyncio.timeout_at(loop.time() + 30) as deadline:
            before = deadline.when()
            idle = Idle(deadline, loop.time() + LONG_S, 90, waits=waits)
            idle.heard()
            after = deadline.when()
            assert before is not None
            assert after is not None
            moved.append(after > before + 30)
            idle.close()

    assert moved == [True, False]


async def test_once_the_answer_has_begun_each_pause_has_its_own_time_within_that_of_the_call() -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + 100
    async with asyncio.timeout_at(loop.time() + 30) as deadline:
        idle = Idle(deadline, end, 90, waits=False)
        idle.begun()
        begun = deadline.when()
        late = Idle(deadline, loop.time() + 5, 90)
        late.begun()
        last = deadline.when()
        for one in (idle, late):
            one.close()

    assert begun is not None
    assert last is not None
    assert loop.time() + 60 < begun < end
    assert last < loop.time() + 6

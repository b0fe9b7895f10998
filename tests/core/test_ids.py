"""Ids: in the order of their making, also within a millisecond, and with the time that they were made at."""

import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from core.ids import first_id, id_of, uuid7


def test_ids_of_a_process_are_in_the_order_of_their_making() -> None:
    made = [uuid7() for _ in range(20_000)]

    assert all(one < other for one, other in pairwise(made))
    assert {(one.version, one.variant) for one in made} == {(7, "specified in RFC 4122")}
    assert (made[-1].int >> 80) - (made[0].int >> 80) < 60_000


def test_a_clock_that_is_set_back_a_little_changes_no_order_and_one_set_back_far_is_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = time.time_ns()
    before = uuid7()

    monkeypatch.setattr(time, "time_ns", lambda: now - 500_000_000)
    late = [uuid7() for _ in range(3)]
    monkeypatch.setattr(time, "time_ns", lambda: now - 3_600_000_000_000)
    earlier = [uuid7() for _ in range(3)]

    assert [before, *late] == sorted([before, *late])
    assert earlier == sorted(earlier)
    assert earlier[0].int >> 80 == (now - 3_600_000_000_000) // 1_000_000
    monkeypatch.undo()
    assert uuid7().int >> 80 >= now // 1_000_000


@pytest.mark.parametrize("microsecond", [0, 1, 999, 1000, 999_999])
def test_an_id_of_a_moment_is_in_its_millisecond(microsecond: int) -> None:
    moment = datetime(2026, 11, 21, 10, 0, 0, microsecond, tzinfo=UTC)

    made = id_of(moment)

    assert first_id(moment) <= made < first_id(moment + timedelta(milliseconds=1))
    assert made < id_of(moment + timedelta(microseconds=1))
    assert uuid7(made.int >> 80).int >> 80 == made.int >> 80

"""How a pool chooses: fair, in proportion, and never nobody."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from core.entities import PoolStrategy
from core.strategies import ENOUGH, Contender, Turns, choose, late_after, observe

NO_CHANCE = (0.0, 0.0)


def contenders(*weights: int) -> list[Contender]:
    return [Contender(key=f"m{place}", place=place, weight=weight) for place, weight in enumerate(weights)]


def chosen(strategy: PoolStrategy, among: list[Contender], times: int) -> list[str]:
    turns, found = Turns(), []
    for _ in range(times):
        one, turns = choose(strategy, among, turns, NO_CHANCE)
        found.append(one.key)
    return found


def test_one_after_the_other_in_stable_order() -> None:
    assert chosen(PoolStrategy.ROUND_ROBIN, contenders(1, 1, 1), 7) == ["m0", "m1", "m2", "m0", "m1", "m2", "m0"]


def test_weights_are_exact_and_without_bursts() -> None:
    assert chosen(PoolStrategy.WEIGHTED, contenders(5, 3, 2), 10) == [
        "m0", "m1", "m2", "m0", "m0", "m1", "m0", "m2", "m1", "m0",
    ]  # fmt: skip


@given(st.lists(st.integers(1, 20), min_size=1, max_size=6))
def test_any_weights_are_exact_in_each_round(weights: list[int]) -> None:
    among, total = contenders(*weights), sum(weights)
    found = chosen(PoolStrategy.WEIGHTED, among, 3 * total)
    for start in range(0, 3 * total, total):
        assert Counter(found[start : start + total]) == {one.key: one.weight for one in among}


def test_the_least_busy_for_its_weight_goes_and_equals_take_turns() -> None:
    busy = [
        Contender(key="a", place=0, weight=4, in_flight=4),
        Contender(key="b", place=1, weight=1, in_flight=0),
        Contender(key="c", place=2, weight=2, in_flight=0),
    ]
    assert chosen(PoolStrategy.LEAST_BUSY, busy, 3) == ["b", "c", "b"]


def test_the_unknown_is_tried_first_then_the_faster_of_two() -> None:
    slow = Contender(key="slow", place=0, latency_s=2.0)
    fast = Contender(key="fast", place=1, latency_s=0.5)
    new = Contender(key="new", place=2)
    assert choose(PoolStrategy.LOWEST_LATENCY, [slow, fast, new], Turns(), NO_CHANCE)[0] is new
    assert choose(PoolStrategy.LOWEST_LATENCY, [slow, fast], Turns(), (0.1, 0.9))[0] is fast
    loaded = Contender(key="fast", place=1, latency_s=0.5, in_flight=9)
    assert choose(PoolStrategy.LOWEST_LATENCY, [slow, loaded], Turns(), (0.1, 0.9))[0] is slow


def test_the_unknown_waits_for_its_first_call_to_answer() -> None:
    slow, fast = Contender(key="slow", place=0, latency_s=2.0), Contender(key="fast", place=1, latency_s=0.5)
    silent = Contender(key="silent", place=2, in_flight=1)
    busier = Contender(key="busier", place=3, in_flight=2)
    assert choose(PoolStrategy.LOWEST_LATENCY, [slow, fast, silent], Turns(), (0.9, 0.9))[0] is fast
    assert choose(PoolStrategy.LOWEST_LATENCY, [slow, silent], Turns(), (0.9, 0.9))[0] is slow
    assert choose(PoolStrategy.LOWEST_LATENCY, [busier, silent], Turns(), NO_CHANCE)[0] is silent


def test_nobody_is_ahead_by_weights_that_were_changed() -> None:
    turns = Turns(last=1, ahead={"m0": -400, "m1": 400}, version=3)
    assert turns.by(3) is turns
    assert turns.by(2) is turns, "a process that has not heard of the change yet"
    assert turns.by(4) == Turns(last=1, version=4)


def test_a_worse_time_counts_at_once_a_better_one_by_and_by() -> None:
    assert observe(None, 0, 0.4) == 0.4
    assert observe(0.4, 1, 3.0) == 3.0
    assert 0.4 < observe(3.0, 1, 0.4) < 3.0
    assert observe(3.0, 100, 0.4) < 0.41


def test_late_is_what_so_many_were_not_and_is_not_known_of_few() -> None:
    recent = [float(n) for n in range(1, 101)]
    assert late_after(recent[::-1], 50) == 50.0
    assert late_after(recent, 99) == 99.0
    assert late_after(recent[: ENOUGH - 1], 50) is None


members = st.builds(
    Contender,
    key=st.just(""),
    place=st.just(0),
    weight=st.integers(1, 100),
    in_flight=st.integers(0, 50),
    latency_s=st.none() | st.floats(0.001, 100),
)


@given(st.sampled_from(PoolStrategy), st.lists(members, min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_somebody_is_always_chosen(strategy: PoolStrategy, drawn: list[Contender], chance: random.Random) -> None:
    among = [
        Contender(key=f"m{n}", place=n * 2, weight=one.weight, in_flight=one.in_flight, latency_s=one.latency_s)
        for n, one in enumerate(drawn)
    ]
    turns = Turns()
    for _ in range(5):
        one, turns = choose(strategy, among, turns, (chance.random(), chance.random()))
        assert one in among
        assert turns.last == one.place

"""How a pool chooses among its members: pure functions over what all processes share.

`storage/pool_state.py` says the same in the language of Redis, where it is done in one atomic step; a test holds the
two to each other.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from core.entities import PoolStrategy

LATENCY_TAU_S = 10.0
"""How fast a member's time to first token is forgotten."""

RECENT = 50
"""How many of a pool's times to first token are remembered."""

ENOUGH = 10
"""Of fewer times it cannot be said which are late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A member that may be chosen. `place` is its place in the whole pool, `latency_s` None: not yet known.

    Of a member through which nothing goes, `latency_s` has `faded`.
    """

    key: str
    place: int
    weight: int = 1
    in_flight: int = 0
    latency_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """What a pool remembers between choices: who was last, and how far each weighted member is ahead.

    `version` is the pool's by whose weights they are ahead.
    """

    last: int = -1
    ahead: Mapping[str, int] = field(default_factory=dict)
    version: int = 0

    def by(self, version: int) -> "Turns":
        """Return what counts for a pool of this version: nobody is ahead yet by weights that are new."""
        return self if version <= self.version else Turns(last=self.last, version=version)


Chances = tuple[float, float]
"""Two numbers from 0 up to 1, by chance."""


def choose(
    strategy: PoolStrategy, contenders: Sequence[Contender], turns: Turns, chances: Chances
) -> tuple[Contender, Turns]:
    """Return who is chosen of at least one contender, in order of their places, and what to remember."""
    chosen, after = _STRATEGIES[strategy](contenders, turns, chances)
    return chosen, replace(after, last=chosen.place)


def observe(latency_s: float | None, since_s: float, seen_s: float) -> float:
    """Return a peak-sensitive moving average: a worse time counts at once, a better one by and by."""
    if latency_s is None or seen_s >= latency_s:
        return seen_s
    keeps = math.exp(-max(since_s, 0.0) / LATENCY_TAU_S)
    return latency_s * keeps + seen_s * (1.0 - keeps)


def faded(latency_s: float, since_s: float) -> float:
    """Return what is left of the time of a member through which nothing goes, so long after it was seen.

    Whoever was slow once is asked again by and by; else nobody would learn that it no longer is.
    """
    return latency_s * math.exp(-max(since_s, 0.0) / LATENCY_TAU_S)


def late_after(recent_s: Sequence[float], percentile: int) -> float | None:
    """Return which time to first token that share of the recent ones did not exceed; None while too few are known."""
    if len(recent_s) < ENOUGH:
        return None
    return sorted(recent_s)[math.ceil(len(recent_s) * percentile / 100) - 1]


def _round_robin(contenders: Sequence[Contender], turns: Turns, chances: Chances) -> tuple[Contender, Turns]:
    return next((one for one in contenders if one.place > turns.last), contenders[0]), turns


def _weighted(contenders: Sequence[Contender], turns: Turns, chances: Chances) -> tuple[Contender, Turns]:
    """Smooth weighted round-robin: who is furthest ahead goes, and pays what all have gained."""
    ahead = {one.key: turns.ahead.get(one.key, 0) + one.weight for one in contenders}
    chosen = max(contenders, key=lambda one: (ahead[one.key], -one.place))
    ahead[chosen.key] -= sum(one.weight for one in contenders)
    return chosen, replace(turns, ahead={**turns.ahead, **ahead})


def _least_busy(contenders: Sequence[Contender], turns: Turns, chances: Chances) -> tuple[Contender, Turns]:
    least = min(one.in_flight / one.weight for one in contenders)
    return _round_robin([one for one in contenders if one.in_flight / one.weight == least], turns, chances)


def _lowest_latency(contenders: Sequence[Contender], turns: Turns, chances: Chances) -> tuple[Contender, Turns]:
    """The better of two by chance; whose time is not known yet goes first, but waits for its first call to answer."""
    unknown = [one for one in contenders if one.latency_s is None]
    known = [one for one in contenders if one.latency_s is not None]
    unasked = [one for one in unknown if not one.in_flight]
    if unasked or not known:
        return _least_busy(unasked or unknown, turns, chances)
    first = int(chances[0] * len(known))
    second = int(chances[1] * (len(known) - 1)) if len(known) > 1 else first
    second += second >= first and len(known) > 1
    return min(known[first], known[second], key=_cost), turns


def _cost(one: Contender) -> float:
    assert one.latency_s is not None
    return one.latency_s * (one.in_flight + 1) / one.weight


_STRATEGIES: Mapping[PoolStrategy, Callable[[Sequence[Contender], Turns, Chances], tuple[Contender, Turns]]] = {
    PoolStrategy.ROUND_ROBIN: _round_robin,
    PoolStrategy.WEIGHTED: _weighted,
    PoolStrategy.LEAST_BUSY: _least_busy,
    PoolStrategy.LOWEST_LATENCY: _lowest_latency,
}

"""What one process knows of calls and tokens a minute: in its own memory, while Redis is away."""

import asyncio
import logging
from collections.abc import Sequence
from uuid import UUID

from core.errors import ServerUnavailable
from core.ports.clock import Clock
from core.ports.rates import Limited, Rate, Taken
from storage.rates import WINDOW_S, RedisRates

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often a Redis that is away is looked for."""

_MANY = 10_000


class _Second:
    """When a second last grew, and the calls and tokens of it."""

    __slots__ = ("calls", "last", "tokens")

    def __init__(self) -> None:
        self.last = 0.0
        self.calls = 0
        self.tokens = 0


class MemoryRates:
    """The rates as this process alone sees them, by the same rules."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._windows: dict[UUID, dict[int, _Second]] = {}

    async def take(self, rates: Sequence[Rate], tokens: int) -> Taken | Limited:
        """Count a call where each rate has room for it, else nowhere."""
        now, worst = self._clock.now().timestamp(), None
        for rate in rates:
            limited = self._limited(rate, tokens, now)
            if limited is not None and (worst is None or limited.retry_after > worst.retry_after):
                worst = limited
        if worst is not None:
            return worst
        if len(self._windows) > _MANY:
            self._windows = {id_: found for id_ in self._windows if (found := self._current(id_, now))}
        for rate in rates:
            second = self._windows.setdefault(rate.id, {}).setdefault(int(now), _Second())
            second.last, second.calls, second.tokens = max(second.last, now), second.calls + 1, second.tokens + tokens
        return Taken(rates=tuple(rates), at=now, tokens=tokens, is_local=True)

    async def correct(self, taken: Taken, tokens: int) -> None:
        """Count a call with the tokens that it has used in the end."""
        self._add(taken, 0, tokens - taken.tokens)

    async def give_back(self, taken: Taken) -> None:
        """Count a call no more: it was not made."""
        self._add(taken, -1, -taken.tokens)

    def _current(self, id_: UUID, now: float) -> dict[int, _Second]:
        """Return the seconds of the last minute, the others forgotten."""
        found = {at: one for at, one in self._windows.get(id_, {}).items() if one.last + WINDOW_S > now}
        self._windows[id_] = found
        return found

    def _limited(self, rate: Rate, tokens: int, now: float) -> Limited | None:
        seconds = sorted(self._current(rate.id, now).values(), key=lambda one: one.last)
        ends = [one.last + WINDOW_S for one in seconds]
        for_calls = _room(rate.requests, 1, [one.calls for one in seconds], ends)
        for_tokens = _room(rate.tokens, min(tokens, rate.tokens or 0), [one.tokens for one in seconds], ends)
        at = max(for_calls, for_tokens)
        return Limited(rate=rate, requests=for_calls >= for_tokens, retry_after=at - now) if at > now else None

    def _add(self, taken: Taken, calls: int, tokens: int) -> None:
        for rate in taken.rates:
            second = self._windows.get(rate.id, {}).get(int(taken.at))
            if second is not None:
                second.calls, second.tokens = max(second.calls + calls, 0), max(second.tokens + tokens, 0)


class SharedRates:
    """The rates of all processes, and while Redis is away those of this one: calls go on, and nothing waits long."""

    def __init__(self, shared: RedisRates, clock: Clock) -> None:
        self._shared = shared
        self._memory = MemoryRates(clock)
        self._is_away = False
        self._untold: list[tuple[Taken, int]] = []

    async def take(self, rates: Sequence[Rate], tokens: int) -> Taken | Limited:
        """Count a call where each rate has room for it, else nowhere; what calls have used since is told before."""
        if not self._is_away:
            try:
                _, found = await asyncio.gather(self._tell(), self._shared.take(rates, tokens))
            except ServerUnavailable:
                self._note_away()
            else:
                return found
        return await self._memory.take(rates, tokens)

    async def correct(self, taken: Taken, tokens: int) -> None:
        """Count a call with the tokens that it has used in the end: with the next call, or by `look`."""
        if taken.is_local:
            await self._memory.correct(taken, tokens)
        elif not self._is_away:
            self._untold.append((taken, tokens))

    async def give_back(self, taken: Taken) -> None:
        """Count a call no more, if what counts it is there."""
        if taken.is_local:
            await self._memory.give_back(taken)
        elif not self._is_away:
            try:
                await self._shared.give_back(taken)
            except ServerUnavailable:
                self._note_away()

    async def look(self) -> None:
        """Tell what calls have used; or look whether Redis is back, whose windows are those of a minute ago by now."""
        try:
            if self._is_away:
                await self._shared.ping()
                self._is_away = False
                log.warning("Redis is back: calls a minute are counted with the other processes again")
            elif self._untold:
                await self._tell()
        except ServerUnavailable:
            self._note_away()

    async def _tell(self) -> None:
        """Tell what calls have used since, in the round trip of whatever is asked at the same time."""
        untold, self._untold = self._untold, []
        await self._shared.correct_all(untold)

    def _note_away(self) -> None:
        if not self._is_away:
            log.warning("Redis is away: calls a minute are counted by each process alone")
        self._is_away = True
        self._untold.clear()


def _room(limit: int | None, need: int, amounts: Sequence[int], ends: Sequence[float]) -> float:
    """Return when there is room: -inf for now, else the end of the seconds that have to be over first."""
    total = sum(amounts)
    if limit is None or total + need <= limit:
        return float("-inf")
    for amount, end in zip(amounts, ends, strict=True):
        total -= amount
        if total + need <= limit:
            return end
    return ends[-1]

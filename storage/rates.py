"""Calls and tokens of the last minute, in Redis: a sliding window for each token and workspace that has a limit.

`modelyard:rate:<id>` is a hash: by the second, when it last grew, the calls and the tokens of it, parted by spaces. A
second counts until a minute after it last grew: the window of a lone call is exact, that of many is up to a second
longer and never shorter. Times are the callers', whose clocks agree within a second or so.
"""

from collections.abc import Sequence

from core.ports.clock import Clock
from core.ports.rates import Limited, Rate, Taken
from storage.commands import Commands

WINDOW_S = 60

# For each key: the limit of calls and that of tokens, 0 for none. Returns which key has no room (0: all have, and the
# call was counted), whether that is for calls, and when it has.
_TAKE = """
local now, window, tokens = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local refused, of_calls, free = 0, 0, now
local function room(seconds, place, sum, limit, need)
  if limit == 0 or sum + need <= limit then return now end
  for _, one in ipairs(seconds) do
    sum = sum - one[place]
    if sum + need <= limit then return one[1] + window end
  end
  return now + window
end
for number, key in ipairs(KEYS) do
  local flat, seconds, calls, used = redis.call('HGETALL', key), {}, 0, 0
  for i = 1, #flat, 2 do
    local last, count, size = string.match(flat[i + 1], '(%S+) (%S+) (%S+)')
    local one = {tonumber(last), tonumber(count), tonumber(size)}
    if one[1] + window <= now then
      redis.call('HDEL', key, flat[i])
    else
      seconds[#seconds + 1] = one
      calls, used = calls + one[2], used + one[3]
    end
  end
  table.sort(seconds, function(a, b) return a[1] < b[1] end)
  local most_calls, most_tokens = tonumber(ARGV[2 + 2 * number]), tonumber(ARGV[3 + 2 * number])
  local for_calls = room(seconds, 2, calls, most_calls, 1)
  local for_tokens = room(seconds, 3, used, most_tokens, math.min(tokens, most_tokens))
  local at = math.max(for_calls, for_tokens)
  if at > free then refused, of_calls, free = number, for_calls >= for_tokens and 1 or 0, at end
end
if refused > 0 then return {refused, of_calls, tostring(free - now)} end
for _, key in ipairs(KEYS) do
  local second = tostring(math.floor(now))
  local last, count, size = string.match(redis.call('HGET', key, second) or '0 0 0', '(%S+) (%S+) (%S+)')
  last = tonumber(last) > now and last or ARGV[1]
  redis.call('HSET', key, second, last .. ' ' .. (tonumber(count) + 1) .. ' ' .. (tonumber(size) + tokens))
  redis.call('EXPIRE', key, window + 10)
end
return {0, 0, '0'}
"""

# Adds to the calls and the tokens of a second of each key, if that is still there.
_ADD = """
for number, key in ipairs(KEYS) do
  local second, calls, tokens = ARGV[3 * number - 2], ARGV[3 * number - 1], ARGV[3 * number]
  local found = redis.call('HGET', key, second)
  if found then
    local last, count, size = string.match(found, '(%S+) (%S+) (%S+)')
    count, size = math.max(tonumber(count) + calls, 0), math.max(tonumber(size) + tokens, 0)
    if count == 0 and size == 0 then redis.call('HDEL', key, second)
    else redis.call('HSET', key, second, last .. ' ' .. count .. ' ' .. size) end
  end
end
"""


class RedisRates:
    """The rates of all processes. Raises ServerUnavailable where Redis does not answer soon."""

    def __init__(self, commands: Commands, clock: Clock) -> None:
        self._commands = commands
        self._clock = clock

    async def take(self, rates: Sequence[Rate], tokens: int) -> Taken | Limited:
        """Count a call where each rate has room for it, else nowhere; one round trip."""
        now = self._clock.now().timestamp()
        given: list[object] = [f"{now:.6f}", WINDOW_S, tokens]
        given += [limit or 0 for rate in rates for limit in (rate.requests, rate.tokens)]
        number, of_calls, wait = await self._commands.script(_TAKE, _keys(rates), given)
        if number:
            return Limited(rate=rates[number - 1], requests=bool(of_calls), retry_after=float(wait))
        return Taken(rates=tuple(rates), at=now, tokens=tokens)

    async def correct(self, taken: Taken, tokens: int) -> None:
        """Count a call with the tokens that it has used in the end."""
        await self.correct_all([(taken, tokens)])

    async def correct_all(self, used: Sequence[tuple[Taken, int]]) -> None:
        """Count calls with the tokens that each has used in the end, by one command; none where there are none."""
        await self._add([(taken, 0, tokens - taken.tokens) for taken, tokens in used])

    async def give_back(self, taken: Taken) -> None:
        """Count a call no more: it was not made."""
        await self._add([(taken, -1, -taken.tokens)])

    async def ping(self) -> None:
        """Ask whether Redis is there."""
        await self._commands.do("PING")

    async def _add(self, added: Sequence[tuple[Taken, int, int]]) -> None:
        keys = [key for taken, _, _ in added for key in _keys(taken.rates)]
        given = [one for taken, calls, tokens in added for _ in taken.rates for one in (int(taken.at), calls, tokens)]
        if keys:
            await self._commands.script(_ADD, keys, given)


def _keys(rates: Sequence[Rate]) -> list[str]:
    return [f"modelyard:rate:{rate.id.hex}" for rate in rates]

"""What all processes know of pools, in Redis: whose turn it is, who rests, what is under way. Each step is atomic.

`modelyard:pool:<pool>` is a hash: `last`; of a member `w:` how far it is ahead, by the weights of the pool's `version`,
`l:` and `t:` its time to first token and when that was seen, `s:` and `f:` calls served and failed,
`b:<member>:<process>` calls under way; of a credential `r:` its rest for this model, `p:` which process tries it;
`recent` times to first token, newest first. The times of answers that come whole stand under the same names with
`:whole` behind. `modelyard:rests:<workspace>` holds the rests of credentials for all models by their ids, and `p:`
which process tries one of them; `modelyard:deadlines` when rests are due. Calls under way of a process that no longer
says that it lives do not count. Times are the callers', whose clocks agree within a second or so.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import msgspec

from core.cooldown import VALIDATE_AGAIN_S, Cooldown, after_validation, later, on_trial, rest
from core.entities import Pool
from core.errors import ModelyardError, Scope
from core.ports.clock import Clock
from core.ports.pool_state import Due, Lease, MemberCounts, Picked, Place, PoolNow
from core.strategies import LATENCY_TAU_S, RECENT, Chances, late_after
from storage.commands import Commands
from storage.event_log import ALIVE_KEY

_KEPT_S = 90 * 24 * 60 * 60
_CLAIM_S = 180
_TRIES = 8
_DEADLINES = "modelyard:deadlines"
_POOL = "modelyard:pool:"
_RESTS = "modelyard:rests:"

_PICK = """
local now, strategy, me, kind = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[10]
local flat, map = redis.call('HGETALL', KEYS[1]), {}
for i = 1, #flat, 2 do map[flat[i]] = flat[i + 1] end
local known = {[me] = true}
local function lives(process)
  if known[process] == nil then known[process] = redis.call('EXISTS', ARGV[6] .. process) == 1 end
  return known[process]
end
local busy = {}
for name, count in pairs(map) do
  if string.sub(name, 1, 2) == 'b:' then
    local member, process = string.sub(name, 3, 34), string.sub(name, 36)
    if lives(process) then busy[member] = (busy[member] or 0) + tonumber(count)
    else redis.call('HDEL', KEYS[1], name) end
  end
end
if tonumber(ARGV[11]) > tonumber(map.version or '0') then
  for name in pairs(map) do
    if string.sub(name, 1, 2) == 'w:' then
      redis.call('HDEL', KEYS[1], name)
      map[name] = nil
    end
  end
  redis.call('HSET', KEYS[1], 'version', ARGV[11])
end
local contenders, earliest = {}, nil
for member, credential, place, weight in string.gmatch(ARGV[9], '(%x+) (%x+) (%d+) (%d+)') do
  local one = {member = member, credential = credential, place = tonumber(place), weight = tonumber(weight)}
  local deadline, forever = nil, false
  local shared = redis.call('HMGET', KEYS[2], one.credential, 'p:' .. one.credential)
  local rests = {{map['r:' .. one.credential], map['p:' .. one.credential]}, {shared[1], shared[2]}}
  one.trials = {}
  for place, rest in ipairs(rests) do
    if rest[1] then
      local known = cjson.decode(rest[1])
      local ends = known['until']
      if ends == cjson.null then forever = true
      elseif ends > now then deadline = math.max(deadline or 0, ends)
      elseif not known.has_spoken then one.trials[#one.trials + 1] = place end
    end
  end
  if not forever and not deadline then
    for _, place in ipairs(one.trials) do
      local claim = rests[place][2]
      if claim then
        local process, since = string.match(claim, '^(%x+) (.+)$')
        if lives(process) and now - tonumber(since) < tonumber(ARGV[7]) then deadline = now + 1 end
      end
    end
  end
  if forever then
  elseif deadline then
    if not earliest or deadline < earliest then earliest = deadline end
  else
    one.busy, one.latency = busy[one.member] or 0, tonumber(map['l:' .. one.member .. kind])
    if one.latency and one.busy == 0 then
      local since = now - tonumber(map['t:' .. one.member .. kind])
      one.latency = one.latency * math.exp(-math.max(since, 0) / tonumber(ARGV[12]))
    end
    contenders[#contenders + 1] = one
  end
end
if #contenders == 0 then return {'', earliest and tostring(earliest) or '', 0, '', 0} end
local last = tonumber(map.last or '-1')
local function round_robin(among)
  for _, one in ipairs(among) do if one.place > last then return one end end
  return among[1]
end
local function least_busy(among)
  local least, equal = nil, {}
  for _, one in ipairs(among) do
    local load = one.busy / one.weight
    if not least or load < least then least, equal = load, {one}
    elseif load == least then equal[#equal + 1] = one end
  end
  return round_robin(equal)
end
local chosen
if strategy == 'WEIGHTED' then
  local total, best = 0, nil
  for _, one in ipairs(contenders) do
    one.ahead = tonumber(map['w:' .. one.member] or '0') + one.weight
    total = total + one.weight
    if not best or one.ahead > best then best, chosen = one.ahead, one end
  end
  chosen.ahead = chosen.ahead - total
  for _, one in ipairs(contenders) do redis.call('HSET', KEYS[1], 'w:' .. one.member, one.ahead) end
elseif strategy == 'LEAST_BUSY' then
  chosen = least_busy(contenders)
elseif strategy == 'LOWEST_LATENCY' then
  local unknown, unasked, known = {}, {}, {}
  for _, one in ipairs(contenders) do
    if one.latency then known[#known + 1] = one
    else
      unknown[#unknown + 1] = one
      if one.busy == 0 then unasked[#unasked + 1] = one end
    end
  end
  if #unasked > 0 then
    chosen = least_busy(unasked)
  elseif #known == 0 then
    chosen = least_busy(unknown)
  else
    local n = #known
    local first = math.floor(tonumber(ARGV[4]) * n)
    local second = n > 1 and math.floor(tonumber(ARGV[5]) * (n - 1)) or first
    if n > 1 and second >= first then second = second + 1 end
    local a, b = known[first + 1], known[second + 1]
    local cost_a, cost_b = a.latency * (a.busy + 1) / a.weight, b.latency * (b.busy + 1) / b.weight
    chosen = cost_b < cost_a and b or a
  end
else
  chosen = round_robin(contenders)
end
redis.call('HSET', KEYS[1], 'last', chosen.place)
redis.call('HINCRBY', KEYS[1], 'b:' .. chosen.member .. ':' .. me, 1)
for _, place in ipairs(chosen.trials) do
  redis.call('HSET', KEYS[place], 'p:' .. chosen.credential, me .. ' ' .. ARGV[1])
end
return {chosen.member, '', #chosen.trials, ARGV[8] ~= '0' and map['recent' .. kind] or '', #contenders - 1}
"""

_SPOKE = """
local now, member, credential, seen, kind = tonumber(ARGV[1]), ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[7]
local healed = 0
for _, rest in ipairs({{KEYS[1], 'r:' .. credential}, {KEYS[2], credential}}) do
  local raw = redis.call('HGET', rest[1], rest[2])
  local known = raw and cjson.decode(raw)
  if known and not known.has_spoken and known['until'] ~= cjson.null and known['until'] <= now then
    known.has_spoken, healed = true, healed + 1
    redis.call('HSET', rest[1], rest[2], cjson.encode(known))
  end
end
local before = redis.call('HMGET', KEYS[1], 'l:' .. member .. kind, 't:' .. member .. kind, 'recent' .. kind)
local latency = seen
if before[1] and tonumber(before[1]) > seen then
  local keeps = math.exp(-math.max(now - tonumber(before[2]), 0) / tonumber(ARGV[5]))
  latency = tonumber(before[1]) * keeps + seen * (1 - keeps)
end
local recent, count = {ARGV[4]}, 1
for one in string.gmatch(before[3] or '', '%S+') do
  if count == tonumber(ARGV[6]) then break end
  count = count + 1
  recent[count] = one
end
redis.call('HSET', KEYS[1], 'l:' .. member .. kind, tostring(latency), 't:' .. member .. kind, ARGV[1],
  'recent' .. kind, table.concat(recent, ' '))
return healed
"""

_SILENT = """
local latency, seen_at = 'l:' .. ARGV[2], 't:' .. ARGV[2]
if tonumber(ARGV[3]) > tonumber(redis.call('HGET', KEYS[1], latency) or '0') then
  redis.call('HSET', KEYS[1], latency, ARGV[3], seen_at, ARGV[1])
end
"""

_DONE = """
local busy, tried = 'b:' .. ARGV[1] .. ':' .. ARGV[3], 'p:' .. ARGV[2]
if redis.call('HINCRBY', KEYS[1], busy, -1) <= 0 then redis.call('HDEL', KEYS[1], busy) end
if ARGV[6] == '1' then
  for _, key in ipairs(KEYS) do
    local claim = redis.call('HGET', key, tried)
    if claim and string.sub(claim, 1, #ARGV[3]) == ARGV[3] then redis.call('HDEL', key, tried) end
  end
end
if ARGV[4] ~= '' then redis.call('HINCRBY', KEYS[1], ARGV[4] .. ':' .. ARGV[1], 1) end
if ARGV[4] == 's' then
  for _, rest in ipairs({{KEYS[1], 'r:' .. ARGV[2]}, {KEYS[2], ARGV[2]}}) do
    local raw = redis.call('HGET', rest[1], rest[2])
    if raw and cjson.decode(raw).has_spoken then redis.call('HDEL', rest[1], rest[2]) end
  end
end
redis.call('EXPIRE', KEYS[1], ARGV[5])
"""

_ADD = """
redis.call('HINCRBY', KEYS[1], 's:' .. ARGV[1], ARGV[2])
redis.call('HINCRBY', KEYS[1], 'f:' .. ARGV[1], ARGV[3])
"""

_RECOUNT = """
local mine = {}
for member, count in string.gmatch(ARGV[2], '(%x+) (%d+)') do mine['b:' .. member .. ':' .. ARGV[1]] = count end
for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.sub(name, 1, 2) == 'b:' and string.sub(name, 36) == ARGV[1] and not mine[name] then
    redis.call('HDEL', KEYS[1], name)
  end
end
for name, count in pairs(mine) do redis.call('HSET', KEYS[1], name, count) end
"""

_SWAP = """
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[6])
if ARGV[5] ~= '' then
  local known = redis.call('ZSCORE', KEYS[2], ARGV[5])
  if not known or tonumber(known) > tonumber(ARGV[4]) then redis.call('ZADD', KEYS[2], ARGV[4], ARGV[5]) end
end
return 1
"""

_DUE = """
local now, told = tonumber(ARGV[1]), {}
for _, entry in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
  local workspace, pool, credential = string.match(entry, '(%x+) (%x+) (%x+)')
  local following, waits, ended = nil, false, false
  for _, rest in ipairs({{ARGV[3] .. workspace, credential}, {ARGV[4] .. pool, 'r:' .. credential}}) do
    local raw = redis.call('HGET', rest[1], rest[2])
    local ends = raw and cjson.decode(raw)['until']
    if ends == cjson.null then
      ends, waits = now + tonumber(ARGV[2]), true
    end
    if ends and ends > now then following = math.min(following or ends, ends)
    elseif ends then ended = true end
  end
  if following then redis.call('ZADD', KEYS[1], following, entry)
  else redis.call('ZREM', KEYS[1], entry) end
  if waits or ended then told[#told + 1] = {entry, waits and 1 or 0} end
end
return told
"""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Cooldown).decode


class RedisPoolState:
    """The pools of all processes. Raises ServerUnavailable where Redis does not answer soon."""

    def __init__(self, commands: Commands, process_id: UUID, clock: Clock) -> None:
        self._commands = commands
        self._redis = commands.redis
        self._me = process_id.hex
        self._clock = clock

    async def pick(
        self, workspace_id: UUID, pool: Pool, places: Sequence[Place], chances: Chances, *, whole: bool = False
    ) -> Picked:
        """Choose one that does not rest, and count a call that is under way; one round trip."""
        now = self._now()
        hedge = pool.hedge_percentile or 0
        arguments: list[Any] = [now, pool.strategy.value, self._me, *chances, ALIVE_KEY, _CLAIM_S, hedge]
        arguments.append(
            " ".join(f"{one.member_id.hex} {one.credential_id.hex} {one.number} {one.weight}" for one in places)
        )
        arguments += [_kind(whole=whole), pool.version, LATENCY_TAU_S]
        keys = _keys(workspace_id, pool.id)
        chosen, earliest, trial, recent, others = await self._commands.script(_PICK, keys, arguments)
        if not chosen:
            return Picked(retry_after=max(float(earliest) - now, 0.0) if earliest else None)
        found = next(place for place in places if place.member_id.hex == chosen.decode())
        return Picked(
            lease=Lease(
                workspace_id=workspace_id,
                pool_id=pool.id,
                place=found,
                is_trial=bool(trial),
                late_s=late_after([float(one) for one in recent.split()], hedge) if hedge else None,
                whole=whole,
                others=others,
            )
        )

    async def spoke(self, lease: Lease, seconds: float) -> bool:
        """Take note that a member answered so soon: it is healthy. Tell whether it was not before."""
        place = lease.place
        named = (place.member_id.hex, place.credential_id.hex)
        kind = _kind(whole=lease.whole)
        arguments: list[Any] = [self._now(), *named, round(seconds, 6), LATENCY_TAU_S, RECENT, kind]
        return bool(await self._commands.script(_SPOKE, _keys(lease.workspace_id, lease.pool_id), arguments))

    async def silent(self, lease: Lease, seconds: float) -> None:
        """Take note that a member has said nothing for so long: it is no faster than that."""
        name = f"{lease.place.member_id.hex}{_kind(whole=lease.whole)}"
        await self._commands.script(_SILENT, [_pool(lease.pool_id)], [self._now(), name, round(seconds, 6)])

    async def failed(self, lease: Lease, error: ModelyardError) -> Cooldown | None:
        """Let the member rest as the failure demands; return the rest, None where it demands none."""
        if error.rests is None:
            return None
        now, place = self._now(), lease.place
        pool_key, rests_key = _keys(lease.workspace_id, lease.pool_id)
        of_credential = error.rests.scope is Scope.CREDENTIAL
        key, name = (
            (rests_key, place.credential_id.hex) if of_credential else (pool_key, f"r:{place.credential_id.hex}")
        )
        entry = _entry(Due(workspace_id=lease.workspace_id, pool_id=lease.pool_id, credential_id=place.credential_id))
        return await self._change(key, name, lambda before: rest(before, error, now), entry)

    async def done(self, lease: Lease, *, served: bool | None) -> None:
        """Take note that a call is no longer under way; `served` None counts it as neither served nor failed."""
        place, counted = lease.place, "" if served is None else "s" if served else "f"
        named = (place.member_id.hex, place.credential_id.hex)
        arguments: list[Any] = [*named, self._me, counted, _KEPT_S, int(lease.is_trial)]
        await self._commands.script(_DONE, _keys(lease.workspace_id, lease.pool_id), arguments)

    async def add(self, pool_id: UUID, member_id: UUID, *, served: int, failed: int) -> None:
        """Count calls that have ended without this Redis."""
        await self._commands.script(_ADD, [_pool(pool_id)], [member_id.hex, served, failed])

    async def recount(self, pool_id: UUID, under_way: Mapping[UUID, int]) -> None:
        """Replace what is counted of this process's calls through a pool by what is under way, by the members' ids."""
        counts = " ".join(f"{member.hex} {count}" for member, count in under_way.items())
        await self._commands.script(_RECOUNT, [_pool(pool_id)], [self._me, counts])

    async def now(self, workspace_id: UUID, pools: Sequence[Pool]) -> Mapping[UUID, PoolNow]:
        """Return how each pool stands, by its id; two round trips for any number of pools."""
        async with self._commands.soon():
            pipe = self._redis.pipeline(transaction=False)
            pipe.hgetall(_rests(workspace_id))
            for pool in pools:
                pipe.hgetall(_pool(pool.id))
            rests, *found = await pipe.execute()
            processes = sorted({name[35:].decode() for fields in found for name in fields if name.startswith(b"b:")})
            told = await self._redis.mget([ALIVE_KEY + one for one in processes]) if processes else []
        alive = {one for one, said in zip(processes, told, strict=True) if said is not None} | {self._me}
        return {
            pool.id: PoolNow(
                counts={member.id: _counts(fields, member.id.hex.encode(), alive) for member in pool.members},
                rests=_all_rests(fields, rests),
            )
            for pool, fields in zip(pools, found, strict=True)
        }

    async def end_rests(self, workspace_id: UUID, pool_id: UUID, credential_id: UUID) -> bool:
        """Put a credential on trial: for all models, and for that of a pool. Tell whether it rested."""
        now = self._now()
        ended = [
            await self._end(_rests(workspace_id), credential_id.hex, lambda before: on_trial(before, now)),
            await self._end(_pool(pool_id), f"r:{credential_id.hex}", lambda before: on_trial(before, now)),
        ]
        return any(ended)

    async def validated(self, workspace_id: UUID, credential_id: UUID, *, is_new: bool) -> bool:
        """Put a credential on trial that was found valid, if it waits for that or has new values; tell whether so."""
        now = self._now()
        return await self._end(
            _rests(workspace_id), credential_id.hex, lambda before: after_validation(before, now, is_new=is_new)
        )

    async def _end(self, key: str, name: str, end: Callable[[Cooldown], Cooldown]) -> bool:
        """Let a rest end, if there is one; tell whether it rested and does so no more."""
        now, found = self._now(), False

        def ended(before: Cooldown | None) -> Cooldown | None:
            nonlocal found
            after = end(before) if before is not None else None
            found = before is not None and after is not None and before.rests(now) and not after.rests(now)
            return after

        await self._change(key, name, ended)
        return found

    async def carry(self, due: Due, known: Cooldown) -> None:
        """Take over a rest that a process knows of; it is due as one that was known here from the beginning."""
        of_credential = known.scope is Scope.CREDENTIAL
        key = _rests(due.workspace_id) if of_credential else _pool(due.pool_id)
        name = due.credential_id.hex if of_credential else f"r:{due.credential_id.hex}"
        await self._change(key, name, lambda before: later(before, known), _entry(due))

    async def ping(self) -> None:
        """Let Redis answer."""
        await self._commands.do("PING")

    async def close(self) -> None:
        """Wait until all that was asked is answered."""
        await self._commands.close()

    async def due(self) -> Sequence[Due]:
        """Return once every rest whose deadline has passed, and what waits long for a validation again and again.

        What waits stays due until `forget`, so that no process that dies takes it along.
        """
        arguments = [self._now(), VALIDATE_AGAIN_S, _RESTS, _POOL]
        found = await self._commands.script(_DUE, [_DEADLINES], arguments)
        return [replace(_due(entry), waits=bool(waits)) for entry, waits in found]

    async def forget(self, due: Due) -> None:
        """Let a rest be due no more whose validation nobody waits for."""
        await self._commands.do("ZREM", _DEADLINES, _entry(due))

    def _now(self) -> float:
        return self._clock.now().timestamp()

    async def _change(self, key: str, name: str, change: Any, entry: str = "") -> Cooldown | None:
        """Replace a rest by what a pure function makes of it, again where another process was faster.

        `entry` is what is due at its deadline, "" for nothing.
        """
        for _ in range(_TRIES):
            raw = await self._commands.do("HGET", key, name) or b""
            before = _decode(raw) if raw else None
            after: Cooldown | None = change(before)
            if after is None or after == before:
                return after
            deadline = after.until if after.until is not None else self._now() + VALIDATE_AGAIN_S
            arguments = [name, raw, _encode(after), deadline, entry, _KEPT_S]
            if await self._commands.script(_SWAP, [key, _DEADLINES], arguments):
                return after
        return after


def _kind(*, whole: bool) -> str:
    return ":whole" if whole else ""


def _keys(workspace_id: UUID, pool_id: UUID) -> list[str]:
    return [_pool(pool_id), _rests(workspace_id)]


def _pool(pool_id: UUID) -> str:
    return f"{_POOL}{pool_id.hex}"


def _entry(due: Due) -> str:
    return f"{due.workspace_id.hex} {due.pool_id.hex} {due.credential_id.hex}"


def _due(entry: bytes) -> Due:
    workspace_id, pool_id, credential_id = (UUID(hex=part) for part in entry.decode().split(" "))
    return Due(workspace_id=workspace_id, pool_id=pool_id, credential_id=credential_id)


def _rests(workspace_id: UUID) -> str:
    return f"{_RESTS}{workspace_id.hex}"


def _counts(fields: Mapping[bytes, bytes], member: bytes, alive: set[str]) -> MemberCounts:
    under_way = (
        int(count) for name, count in fields.items() if name.startswith(b"b:" + member) and name[35:].decode() in alive
    )
    return MemberCounts(
        in_flight=sum(under_way),
        served=int(fields.get(b"s:" + member, 0)),
        failed=int(fields.get(b"f:" + member, 0)),
    )


def _all_rests(fields: Mapping[bytes, bytes], rests: Mapping[bytes, bytes]) -> Mapping[UUID, tuple[Cooldown, ...]]:
    """Return the rests and trials of each credential, those for all models before those for the pool's."""
    known = [(name.decode(), _decode(raw)) for name, raw in rests.items() if not name.startswith(b"p:")]
    known += [(name[2:].decode(), _decode(raw)) for name, raw in fields.items() if name.startswith(b"r:")]
    found: dict[UUID, tuple[Cooldown, ...]] = {}
    for name, cooldown in known:
        if not cooldown.has_spoken:
            found[UUID(hex=name)] = (*found.get(UUID(hex=name), ()), cooldown)
    return found

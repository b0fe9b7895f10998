"""The event log of completions in Redis: a stream each, written in groups by one script, ended once.

`modelyard:log:<id>` is a Redis stream. The id of an entry is the count of events up to its end, so that whoever has n
events reads on from `n-0`. `l` holds lines of a journal, `e` the end, `t` stands in an end that was not the owner's.
`modelyard:log:<id>:meta` is a hash: head, fence, count, ended. The owner writes under fence 1; who takes over raises
it.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
from redis.asyncio import ConnectionPool, Redis

from core.model_types.llm import AssistantMessage, CompletionFailed, CompletionFinished
from core.ports.event_log import LogEntry, LogHead, LogState, LogWrite, Takeover
from core.recorder import KEPT_S
from storage.redis import answers_within

ALIVE_S = 3.0
"""How long a process counts as alive after it has said so."""

ALIVE_KEY = "modelyard:alive:"
"""Before a process's id: the key by which it says that it lives."""

_TIMEOUT_S = 5.0
_RUNNING_S = 24 * 60 * 60
_ENTRIES = 256
_PREFIX = "modelyard:log:"

_APPEND = """
local said = {}
for _, write in ipairs(cmsgpack.unpack(ARGV[3])) do
  local log, first, count, lines, ending, head = KEYS[1] .. write[1], write[2], write[3], write[4], write[5], write[6]
  local meta = log .. ':meta'
  local have = redis.call('HMGET', meta, 'fence', 'count', 'ended')
  if not have[1] and first == 0 then
    redis.call('DEL', log)
    redis.call('HSET', meta, 'head', head, 'fence', '1', 'count', '0', 'ended', '0')
    redis.call('EXPIRE', meta, ARGV[1])
    have = {'1', '0', '0'}
  end
  if not have[1] then
    said[#said + 1] = '0'
  elseif have[1] ~= '1' then
    said[#said + 1] = 'T'
  elseif have[3] == '1' then
    said[#said + 1] = 'E' .. have[2]
  elseif first > tonumber(have[2]) or count <= tonumber(have[2]) then
    said[#said + 1] = have[2]
  else
    if ending == '' then
      redis.call('XADD', log, count .. '-0', 'l', lines)
      redis.call('HSET', meta, 'count', count)
      if have[2] == '0' then redis.call('EXPIRE', log, ARGV[1]) end
      said[#said + 1] = count
    else
      redis.call('XADD', log, count .. '-0', 'l', lines, 'e', ending)
      redis.call('HSET', meta, 'count', count, 'ended', '1')
      redis.call('EXPIRE', log, ARGV[2])
      redis.call('EXPIRE', meta, ARGV[2])
      said[#said + 1] = 'E' .. count
    end
  end
end
return table.concat(said, ' ')
"""

_TAKE_OVER = """
local have = redis.call('HMGET', KEYS[2], 'fence', 'count', 'ended')
if not have[1] then return 'LOST' end
if have[3] == '1' then return 'ENDED' end
if redis.call('EXISTS', KEYS[3]) == 1 then return 'ALIVE' end
local count = tonumber(have[2]) + 1
redis.call('XADD', KEYS[1], count .. '-0', 'l', '', 'e', ARGV[1], 't', '1')
redis.call('HSET', KEYS[2], 'fence', tonumber(have[1]) + 1, 'count', count, 'ended', '1')
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[2])
return 'TAKEN'
"""

_encode = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder().encode
_decode_end = msgspec.json.Decoder(CompletionFinished | CompletionFailed).decode
_decode_head = msgspec.json.Decoder(LogHead).decode


class RedisEventLog:
    """The logs of all processes."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._redis: Redis = Redis(connection_pool=pool)
        self._append = self._redis.register_script(_APPEND)
        self._take_over = self._redis.register_script(_TAKE_OVER)

    async def append(self, writes: Sequence[LogWrite]) -> Sequence[LogState]:
        """Write each if it follows what is there and nothing has ended it, all in one round trip."""
        packed = _pack(
            [
                (
                    write.head.invocation_id.hex,
                    write.first,
                    write.first + write.count + (write.end is not None),
                    write.lines.decode(),  # the script's MessagePack knows text, and no bytes
                    _encode(_spare(write.end)).decode() if write.end is not None else "",
                    _encode(write.head).decode() if write.first == 0 else "",
                )
                for write in writes
            ]
        )
        async with answers_within(_TIMEOUT_S):
            said = await self._append(keys=[_PREFIX], args=[_RUNNING_S, int(KEPT_S), packed])
        return [_state(word) for word in said.split(b" ")]

    async def head(self, invocation_id: UUID) -> LogHead | None:
        """Return whose log it is; None where there is none any more, or not yet."""
        async with answers_within(_TIMEOUT_S):
            found = await self._redis.hget(f"{_log(invocation_id)}:meta", "head")  # type: ignore[misc]
        return _decode_head(found) if found else None

    async def read(self, counts: Mapping[UUID, int], wait_s: float) -> Mapping[UUID, Sequence[LogEntry]]:
        """Return what each log holds beyond that many events, waiting a while where that is nothing."""
        by_key = {_log(invocation_id): invocation_id for invocation_id in counts}
        positions: dict[Any, Any] = {key: f"{counts[invocation_id]}-0" for key, invocation_id in by_key.items()}
        async with answers_within(_TIMEOUT_S):
            found = await self._redis.xread(positions, count=_ENTRIES, block=max(int(wait_s * 1000), 1))
        return {by_key[key.decode()]: [_entry(*entry) for entry in entries] for key, entries in found}

    async def take_over(self, head: LogHead, end: CompletionFailed) -> Takeover:
        """End a completion if nobody has, unless its owner lives; the owner writes nothing afterwards."""
        key = _log(head.invocation_id)
        async with answers_within(_TIMEOUT_S):
            said = await self._take_over(
                keys=[key, f"{key}:meta", _alive(head.owner)], args=[_encode(end), int(KEPT_S)]
            )
        return Takeover(said.decode())

    async def renew(self, process_id: UUID) -> str:
        """Say that a process lives, for a few seconds; return what names this run of the server."""
        async with answers_within(_TIMEOUT_S):
            pipe = self._redis.pipeline(transaction=False)
            pipe.set(_alive(process_id), b"1", px=int(ALIVE_S * 1000))
            pipe.info("server")
            _, server = await pipe.execute()
        return str(server["run_id"])

    async def leave(self, process_id: UUID) -> None:
        """Say that a process has ended."""
        async with answers_within(_TIMEOUT_S):
            await self._redis.delete(_alive(process_id))

    async def alive(self, process_ids: Sequence[UUID]) -> frozenset[UUID]:
        """Return those that have said so lately."""
        async with answers_within(_TIMEOUT_S):
            found = await self._redis.mget([_alive(process_id) for process_id in process_ids])
        return frozenset(process_id for process_id, said in zip(process_ids, found, strict=True) if said is not None)


def _log(invocation_id: UUID) -> str:
    return _PREFIX + invocation_id.hex


def _alive(process_id: UUID) -> str:
    return ALIVE_KEY + process_id.hex


def _spare(end: CompletionFinished | CompletionFailed) -> CompletionFinished | CompletionFailed:
    """Return the end without what the lines before it say already."""
    if isinstance(end, CompletionFailed):
        return end
    return msgspec.structs.replace(end, message=AssistantMessage(continuation=end.message.continuation))


def _state(word: bytes) -> LogState:
    if word == b"T":
        return LogState(count=0, ended=True, is_taken=True)
    ended = word.startswith(b"E")
    return LogState(count=int(word[1:] if ended else word), ended=ended)


def _entry(entry_id: bytes, fields: Mapping[bytes, bytes]) -> LogEntry:
    lines, end = fields[b"l"], fields.get(b"e")
    count, upto = lines.count(b"\n"), int(entry_id.partition(b"-")[0])
    return LogEntry(
        first=upto - count - (end is not None),
        lines=lines,
        count=count,
        end=_decode_end(end) if end is not None else None,
        is_taken=b"t" in fields,
    )

"""What the server does in one atomic step: count the pods, hand out slices, pass on trips.

All of it takes one server: a Valkey or Redis primary, not a cluster (its keys would lie on several nodes). Times are
the server's own, so that no two pods' clocks are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sidecar.state.leases import Ask, Grant

PREFIX = "sidecar:1"
ALIVE_S = 5
"""A pod counts as alive this long after it was heard of; each is heard of once a second."""
YOUNG_S = 3
"""So long after a server lost its memory it hands out no more than equal shares: it hasn't heard of all holdings yet.
Longer than the longest pause between two tries of a pod, so that all have spoken by then."""
LINE = 9
TRIPS_HEARD = 200

_SCRIPT = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local pod, known, leaving = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'
local lines, trips = tonumber(ARGV[4]), tonumber(ARGV[5])
local function whole(x) return string.format('%.0f', x) end

if leaving then redis.call('ZREM', KEYS[1], pod) else redis.call('ZADD', KEYS[1], now, pod) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ALIVE_S)
redis.call('EXPIRE', KEYS[1], 60)
local alive = math.max(1, redis.call('ZCARD', KEYS[1]))
redis.call('SET', KEYS[2], whole(now * 1000), 'NX')
redis.call('EXPIRE', KEYS[2], 60)
local young = now * 1000 - tonumber(redis.call('GET', KEYS[2])) < YOUNG_S * 1000
local pods = alive
if young then pods = math.max(alive, known) end

local answer = {whole(pods)}
local at = 5
for line = 1, lines do
  local key, before = KEYS[2 + 2 * line], KEYS[3 + 2 * line]
  local span, limit = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local held, used = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  local need, claim, active = tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6]), ARGV[at + 7] == '1'
  local urgent, idle = tonumber(ARGV[at + 8]), tonumber(ARGV[at + 9])
  at = at + LINE
  local past = redis.call('HMGET', before, 't', 'd')
  local debt = math.max(0, (tonumber(past[1]) or 0) + (tonumber(past[2]) or 0) - limit)
  local found = redis.call('HMGET', key, 't', pod, 'w')
  local others = (tonumber(found[1]) or 0) - (tonumber(found[2]) or 0)
  local room = limit - debt - others
  local free = room - used
  local wanted = found[3] and now - tonumber(found[3]) < 5
  local head = 0
  if urgent > free then
    redis.call('HSET', key, 'w', whole(now))
    urgent = 0
  end
  if free > 0 and not leaving then
    local base = math.floor(free / (2 * pods))
    if base < claim and free >= pods * claim then base = claim end
    base = math.min(base, math.max(idle, claim))
    if wanted then base = 0 end
    head = math.max(math.min(need, math.floor(free / pods)), base, urgent)
    if active and claim <= free then head = math.max(head, claim) end
  end
  local target = math.min(used + head, room)
  if young then target = math.min(target, math.floor(limit / pods)) end
  target = math.max(target, used)
  local record = math.max(held, target)
  redis.call('HSET', key, pod, whole(record), 't', whole(others + record), 'd', whole(debt))
  redis.call('EXPIRE', key, span * 3)
  answer[#answer + 1] = whole(record)
  answer[#answer + 1] = whole(target)
  answer[#answer + 1] = whole(math.max(0, room - record))
end

for trip = 1, trips do
  redis.call('ZADD', KEYS[3], whole(now * 1000 + tonumber(ARGV[at + 1])), ARGV[at + 2])
  at = at + 2
end
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', whole(now * 1000))
redis.call('EXPIRE', KEYS[3], 3600)
local heard = redis.call('ZRANGEBYSCORE', KEYS[3], whole(now * 1000), '+inf', 'WITHSCORES', 'LIMIT', 0, TRIPS_HEARD)
for i = 1, #heard, 2 do
  answer[#answer + 1] = heard[i]
  answer[#answer + 1] = whole(tonumber(heard[i + 1]) - now * 1000)
end
return answer
""".strip()

_CONSTANTS = {"ALIVE_S": ALIVE_S, "YOUNG_S": YOUNG_S, "LINE": LINE, "TRIPS_HEARD": TRIPS_HEARD}


def _filled_in() -> str:
    text = _SCRIPT
    for name, value in _CONSTANTS.items():
        text = text.replace(name, str(value))
    return text


SCRIPT = _filled_in()


@dataclass(frozen=True, slots=True)
class Answer:
    """`trips`: who said it and of what (as it was written), and the milliseconds that it still holds."""

    pods: int
    grants: tuple[Grant, ...]
    trips: tuple[tuple[bytes, int], ...]


def call(
    pod: str, known: int, asks: Sequence[Ask], trips: Sequence[tuple[bytes, int]], *, leaving: bool
) -> list[str | bytes | int]:
    """The command. `trips` are this pod's new ones: what to pass on, and the milliseconds that it holds."""
    keys = [f"{PREFIX}:pods", f"{PREFIX}:born", f"{PREFIX}:trips"]
    args: list[str | bytes | int] = [pod, known, int(leaving), len(asks), len(trips)]
    for ask in asks:
        kind, name = ask.account
        keys += [f"{PREFIX}:{kind}:{name}:{ask.limit}:{window}" for window in (ask.window, ask.window - 1)]
        held = ask.used if leaving else ask.held
        args += [ask.span_s, ask.whole, held, ask.used, ask.need, ask.claim, int(ask.active), ask.urgent, ask.most_idle]
    for text, holds_ms in trips:
        args += [holds_ms, text]
    return ["EVAL", SCRIPT, len(keys), *keys, *args]


def read(raw: Any, asked: int) -> Answer:
    """Raises ValueError, TypeError or IndexError where it isn't what the script says."""
    if not isinstance(raw, list) or len(raw) < 1 + 3 * asked:
        raise ValueError("not an answer of the script")
    numbers = [int(item) for item in raw[: 1 + 3 * asked]]
    rest = raw[1 + 3 * asked :]
    return Answer(
        pods=numbers[0],
        grants=tuple(Grant(*numbers[at : at + 3]) for at in range(1, len(numbers), 3)),
        trips=tuple((bytes(rest[at]), int(rest[at + 1])) for at in range(0, len(rest) - 1, 2)),
    )

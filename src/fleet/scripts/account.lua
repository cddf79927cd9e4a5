-- What replicas agree on of an account: its calls, and what was learnt of its limit. All scripts about it begin with this.
-- The rules are those of `allowance::limit`, which decides where a replica is alone; time is the server's, in milliseconds.
-- KEYS: calls, hour, state, debts, and more   ARGV: epoch that is known, window, calls, reserve, hourly, careful, replicas,
-- replicas that are away, the latest call that is known, channel, until when that is known of replicas, for how long one that
-- is cut off may not hear of calls, and more from OWN on
local calls, hour, state, debts = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local epoch, window, top, reserve, hourly = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local careful, size, away, since, channel = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9], ARGV[10]
local sight, gap = tonumber(ARGV[11]), tonumber(ARGV[12])
local OWN, HOUR, KEPT = 13, 3601000, 7200000
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local micros = time[1] * 1000000 + time[2]

local is, flat = {}, redis.call('HGETALL', state)
for n = 1, #flat, 2 do is[flat[n]] = flat[n + 1] end
local function number(field, otherwise) return tonumber(is[field] or otherwise) end
local function put(field, value)
  is[field] = type(value) == 'number' and string.format('%.17g', value) or value
  redis.call('HSET', state, field, is[field])
end
local function clear(...)
  for _, field in ipairs({...}) do is[field] = nil end
  redis.call('HDEL', state, ...)
end

local function whole() return math.max(1, math.min(top, math.floor(number('limit', top)))) end
local function pace() return window / whole() end
local function is_careful() return is.refused_at ~= nil and now - number('refused_at') < careful end
local function probing() return is.probe ~= nil and number('probe_until', 0) > now end

-- The number of the call that has to leave the window before another goes. Those who are away may make their part of the
-- calls, which nobody hears of until they are back.
local function cap(most, kind)
  most = most - away * math.floor(most / size)
  if kind == 'r' then most = most - math.min(reserve, math.floor(most / 3)) end
  return most
end
-- Who is cut off does not know of calls that go until its part is left free. So that some of them are left to it, they are no
-- more than half of all: which is no less than may go in a window, unless that is short. See `Limit::go_alone`.
local function burst() return size > 1 and size <= top and 2 * gap <= window and top - math.floor(top / 2) end
local function nth(log, n) return tonumber(redis.call('ZREVRANGE', log, n - 1, n - 1, 'WITHSCORES')[2]) end

-- The earliest moment when a call may go.
local function slot(kind)
  local go = number('until', 0)
  if probing() then go = math.max(go, number('probe_until')) end
  local most = cap(whole(), kind)
  if most < 1 then return now + window end
  local first = nth(calls, most)
  if first then go = math.max(go, first + window) end
  first = burst() and nth(calls, burst())
  if first then go = math.max(go, first + gap) end
  if hourly > 0 then
    first = nth(hour, math.max(1, cap(hourly, kind)))
    if first then go = math.max(go, first + HOUR) end
  end
  if is_careful() then
    local last = nth(calls, 1)
    if last then go = math.max(go, last + pace()) end
  elseif kind == 'r' then
    go = math.max(go, number('last_refresh', 0) + pace())
  end
  return go
end

-- What replicas go by until they ask again: limit, ceiling, pause in ms, its cause, probe in ms, ms since a refusal and since a
-- refresh (-1: none), refusals, failures.
local function told()
  local left = function(at) return math.max(0, math.ceil((at or 0) - now)) end
  local ago = function(field) return is[field] and math.floor(now - number(field)) or -1 end
  return string.format('%.3f %.3f %d %s %d %d %d %d %d', number('limit', top), number('ceiling', top),
    left(number('until', 0)), is.cause or '-', probing() and left(number('probe_until')) or 0,
    ago('refused_at'), ago('last_refresh'), number('refusals', 0), number('failures', 0))
end
-- The answer to everything: a word, a number, the epoch, what is told, the time, and the calls that are not known yet.
local function answer(word, value)
  local out = {word, string.format('%.0f', value or 0), is.epoch or '', told(), string.format('%.0f', now)}
  for _, one in ipairs(redis.call('ZRANGEBYSCORE', calls, since, '+inf', 'WITHSCORES')) do out[#out + 1] = one end
  return out
end

-- May a call go now, and is it for this page?
-- KEYS: …, lease, page   ARGV: …, kind (m: somebody waits, r: nobody does), member, lease_ms, stamp that a page must have,
-- version of the page that is known, page's name (none: the call is not for a page), debt since, stamp that the page will have,
-- replica
local lease, page = KEYS[5], KEYS[6]
local kind, member, held_for, stamp, known = ARGV[OWN], ARGV[OWN + 1], tonumber(ARGV[OWN + 2]), tonumber(ARGV[OWN + 3]), tonumber(ARGV[OWN + 4])
local name, debt, replica = ARGV[OWN + 5], tonumber(ARGV[OWN + 6]), ARGV[OWN + 8]
if not is.epoch or is.epoch ~= epoch then return answer('join') end
-- What is known of replicas was known too long ago by the time it came here: somebody may make a part that was not left free.
if now > sight then return answer('wait', 10) end
if name ~= '' then
  local head = redis.call('GETRANGE', page, 2, 17)
  if #head == 16 then
    local fence, good = struct.unpack('>I8I8', head)
    if good >= stamp and fence > known then
      redis.call('ZREM', debts, name)
      return answer('newer', fence)
    end
  end
  -- Who asks does not fetch it: a lease of its own is of an answer that it did not get.
  local owner, good = string.match(redis.call('GET', lease) or '', '^%d+ (%S+) (%d+)$')
  if owner and owner ~= replica and tonumber(good) >= stamp then return answer('flying', redis.call('PTTL', lease)) end
  if debt > 0 then redis.call('ZINCRBY', debts, debt, name) end
end
-- One that was let go and did not hear of it has not gone. It goes now, if it may without the first time: else there could be
-- too many after it. That counts until then, in case it is this question that comes late.
local before, probe = redis.call('ZSCORE', calls, member), is.probe
if before then
  redis.call('ZREM', calls, member)
  redis.call('ZREM', hour, member)
  if probe == member then is.probe = nil end
end
local function wait(time)
  if before then
    redis.call('ZADD', calls, before, member)
    if hourly > 0 then redis.call('ZADD', hour, before, member) end
    is.probe = probe
  end
  return answer('wait', math.ceil(time))
end
local due = slot(kind)
if due > now then return wait(due - now) end
if kind == 'r' and name ~= '' then
  -- Who has the page that is owed most comes a little later, perhaps. Who does not come is owed less.
  local most = redis.call('ZREVRANGE', debts, 0, 0, 'WITHSCORES')
  local own = tonumber(redis.call('ZSCORE', debts, name) or 0)
  if most[1] and most[1] ~= name and tonumber(most[2]) > own then
    local grace = math.min(pace() / 4, 250)
    if now - due < grace then return wait(due + grace - now) end
    redis.call('ZADD', debts, tonumber(most[2]) / 2, most[1])
  end
end
local fence = math.max(number('fence', 0) + 1, micros)
put('fence', string.format('%.0f', fence))
if name ~= '' then
  redis.call('SET', lease, string.format('%.0f %s %s', fence, replica, ARGV[OWN + 7]), 'PX', held_for)
  redis.call('ZREM', debts, name)
end
redis.call('ZADD', calls, now, member)
redis.call('ZREMRANGEBYSCORE', calls, '-inf', now - window - 1000)
if hourly > 0 then
  redis.call('ZADD', hour, now, member)
  redis.call('ZREMRANGEBYSCORE', hour, '-inf', now - HOUR)
  redis.call('PEXPIRE', hour, 2 * HOUR)
end
if redis.call('ZCARD', calls) + reserve + 1 >= whole() then put('reached', 1) end
if kind == 'r' then
  -- When it was due: that somebody wakes a little late is not to add up.
  put('last_refresh', now - due < pace() and math.min(due, now) or now)
end
if is['until'] then
  put('probe', member)
  put('probe_until', now + held_for)
end
redis.call('PEXPIRE', calls, 2 * window)
redis.call('PEXPIRE', state, KEPT)
redis.call('PEXPIRE', debts, 10 * window)
redis.call('PUBLISH', channel, 'c ' .. member .. ' ' .. string.format('%.0f', now))
return answer('go', fence)

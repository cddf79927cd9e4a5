-- A call has ended: what is learnt of it?
-- ARGV: …, member, outcome (a: answered, m or h: refused for a minute or an hour, f: failed, l: lost, u: not made), floor,
-- pause_ms, ms since it was on its way to the vendor (-1: it never was)
local member, outcome, floor, pause = ARGV[OWN], ARGV[OWN + 1], tonumber(ARGV[OWN + 2]), tonumber(ARGV[OWN + 3])
local ago = tonumber(ARGV[OWN + 4])
local probe = is.probe == member
if not is.epoch or is.epoch ~= epoch then return answer('join') end

local function rest(cause, for_)
  put('cause', cause)
  put('until', now + for_)
  put('pauses', number('pauses', 0) + 1)
  clear('probe', 'probe_until')
end

-- It counts from when it was on its way, which is later than it was let go where a connection had to be made for it. What is said
-- of it takes time too: so much less is no news.
local JITTER = 50
-- One that was out for longer than a window is there no longer, and counts again.
local let_go = tonumber(redis.call('ZSCORE', calls, member) or 0)
if ago >= 0 and now - ago > let_go + JITTER then
  redis.call('ZADD', calls, now - ago, member)
  redis.call('PEXPIRE', calls, 2 * window)
  if hourly > 0 then
    redis.call('ZADD', hour, now - ago, member)
    redis.call('PEXPIRE', hour, 2 * HOUR)
  end
  -- The others ask only for calls that are later than those they know of.
  redis.call('PUBLISH', channel, 'c ' .. member .. ' ' .. string.format('%.0f', now - ago))
end
if outcome == 'u' then
  redis.call('ZREM', calls, member)
  redis.call('ZREM', hour, member)
  if probe then clear('probe', 'probe_until') end
elseif outcome == 'l' then
  if probe then clear('probe', 'probe_until') end
elseif outcome == 'a' then
  if is.failures then clear('failures') end
  if probe then clear('until', 'cause', 'probe', 'probe_until', 'kind', 'times') end
  if now - number('grown', 0) >= window then
    local limit, step, most = number('limit', top), 2, top
    if is_careful() then
      most = math.max(limit, number('ceiling', top) - 1)
      if limit >= number('ceiling', top) - 3 then step = 0.5 end
    else
      put('ceiling', top)
    end
    if is.reached then put('limit', math.min(most, limit + step)) end
    put('grown', now)
    clear('reached')
  end
elseif outcome == 'f' then
  put('failures', number('failures', 0) + 1)
  if probe or (number('failures', 0) >= 3 and not is['until']) then rest('f', 10000) end
else
  put('refusals', number('refusals', 0) + 1)
  if not (is.cause == 'r' and not probe) then
    local times = 1
    if probe and is.kind then
      if is.kind == outcome then times = number('times', 1) * 2 end
    else
      -- Somebody else has spent what we did not.
      local limit = number('limit', top)
      local ours = math.max(0, redis.call('ZCOUNT', calls, '(' .. (now - window), '+inf') - 1)
      local ceiling = math.max(floor, math.min(math.max(ours, 0.8 * limit), limit))
      put('ceiling', ceiling)
      put('limit', math.max(floor, 0.9 * ceiling))
    end
    times = math.min(times, outcome == 'h' and 6 or 4)
    put('kind', outcome)
    put('times', times)
    clear('reached')
    put('grown', now)
    put('refused_at', now)
    rest('r', outcome == 'h' and math.min(300000 * times, 1800000) or pause * times)
  end
end
redis.call('PEXPIRE', state, KEPT)
if outcome ~= 'a' or probe then redis.call('PUBLISH', channel, 's ' .. told() .. ' ' .. is.epoch) end
return answer('settled')

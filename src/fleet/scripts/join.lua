-- A replica comes, or comes back: it tells of the calls that it knows of, once for each, however often they are told.
-- ARGV: …, an epoch, limit, ceiling, ms since a refusal (-1: none), refusals, ms left of a pause, its cause (-: none), number of
-- calls that are guessed, then pairs of member and age in ms, those that are guessed last
local first, refused = not is.epoch, now - tonumber(ARGV[OWN + 3])
local left, cause = tonumber(ARGV[OWN + 5]), ARGV[OWN + 6]
-- One of about the same moment is the one that is known: to tell of it takes time.
local MOMENT = 1000
local news = refused <= now and (not is.refused_at or refused > number('refused_at') + MOMENT)
if first then
  put('epoch', ARGV[OWN])
  put('grown', now)
else
  -- Somebody was here before, and knows better than to guess.
  for _ = 1, 2 * tonumber(ARGV[OWN + 7]) do table.remove(ARGV) end
end
if first or news then
  put('limit', math.min(number('limit', top), tonumber(ARGV[OWN + 1])))
  put('ceiling', math.min(number('ceiling', top), tonumber(ARGV[OWN + 2])))
  put('refusals', math.max(number('refusals', 0), tonumber(ARGV[OWN + 4])))
  if news then put('refused_at', refused) end
  if cause ~= '-' and now + left > number('until', 0) then
    put('cause', cause)
    put('until', now + left)
    clear('probe', 'probe_until')
  end
  if news then redis.call('PUBLISH', channel, 's ' .. told() .. ' ' .. is.epoch) end
end
for n = OWN + 8, #ARGV, 2 do
  local at = now - tonumber(ARGV[n + 1])
  -- The others know of no call that they were not told of, since they ask only for later ones.
  if redis.call('ZADD', calls, 'NX', at, ARGV[n]) == 1 then
    redis.call('PUBLISH', channel, 'c ' .. ARGV[n] .. ' ' .. string.format('%.0f', at))
  end
  if hourly > 0 then redis.call('ZADD', hour, 'NX', at, ARGV[n]) end
end
redis.call('PEXPIRE', calls, 2 * window)
redis.call('PEXPIRE', state, KEPT)
if hourly > 0 then redis.call('PEXPIRE', hour, 2 * HOUR) end
return answer('joined')

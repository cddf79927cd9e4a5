-- A replica comes, or comes back: it tells of the calls that it knows of, once for each, however often they are told.
-- ARGV: …, an epoch, limit, ceiling, ms since a refusal (-1: none), number of calls that are guessed, then pairs of member and
-- age in ms, those that are guessed last
if not is.epoch then
  put('epoch', ARGV[OWN])
  put('grown', now)
  put('limit', math.min(top, tonumber(ARGV[OWN + 1])))
  put('ceiling', math.min(top, tonumber(ARGV[OWN + 2])))
  if tonumber(ARGV[OWN + 3]) >= 0 then put('refused_at', now - tonumber(ARGV[OWN + 3])) end
else
  -- Somebody was here before, and knows better than to guess.
  for _ = 1, 2 * tonumber(ARGV[OWN + 4]) do table.remove(ARGV) end
end
for n = OWN + 5, #ARGV, 2 do
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

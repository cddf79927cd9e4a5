-- Forgets that a store has lost, from somebody who knows.
-- KEYS: fleet, forgets   ARGV: channel, then pairs number, what
local fleet, forgets = KEYS[1], KEYS[2]
local latest = tonumber(redis.call('HGET', fleet, 'forgot') or '0')
for n = 2, #ARGV, 2 do
  local before = redis.call('ZSCORE', forgets, ARGV[n + 1])
  if not before or tonumber(before) < tonumber(ARGV[n]) then
    redis.call('ZADD', forgets, ARGV[n], ARGV[n + 1])
    redis.call('PUBLISH', ARGV[1], '0 ' .. ARGV[n] .. ' ' .. ARGV[n + 1])
  end
  latest = math.max(latest, tonumber(ARGV[n]))
end
redis.call('HSET', fleet, 'forgot', string.format('%.0f', latest))
return 'known'

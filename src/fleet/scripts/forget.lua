-- A forget: it gets the next number, and everybody hears of it.
-- KEYS: fleet, forgets   ARGV: the greatest number that is known, what, how many are remembered, channel
local fleet, forgets = KEYS[1], KEYS[2]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local before = tonumber(redis.call('HGET', fleet, 'forgot') or '0')
-- The time, so that a store that lost what it knew does not begin again from below.
local number = math.max(before + 1, now, tonumber(ARGV[1]) + 1)
local text = string.format('%.0f', number)
redis.call('HSET', fleet, 'forgot', text)
redis.call('ZADD', forgets, text, ARGV[2])
local most = tonumber(ARGV[3])
if redis.call('ZCARD', forgets) > most then
  redis.call('ZREMRANGEBYRANK', forgets, 0, -most - 1)
  redis.call('HSET', fleet, 'floor', redis.call('ZRANGE', forgets, 0, 0, 'WITHSCORES')[2])
end
redis.call('PUBLISH', ARGV[4], string.format('%.0f %s %s', before, text, ARGV[2]))
return {text, string.format('%.0f', before)}

-- A replica is here. Who else is, what time is it, and what was forgotten last?
-- KEYS: seats, fleet   ARGV: seat, lapse_ms, memory_ms, size it knew before it came back, check, 1 if it leaves, when it
-- said so in ms and no later (0: it only asks), for how long a lapsed seat is remembered in ms
local seats, fleet = KEYS[1], KEYS[2]
local seat, lapse, memory, knew, check = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local said, kept = tonumber(ARGV[7]), tonumber(ARGV[8])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local is = redis.call('HMGET', fleet, 'check', 'checked', 'size', 'until', 'forgot', 'floor')
-- Replicas that name things with another key would not meet the others anywhere but here.
if is[1] and is[1] ~= check and now - tonumber(is[2]) < memory then return {'other'} end
redis.call('HSET', fleet, 'check', check, 'checked', now)
if ARGV[6] == '1' then
  redis.call('ZREM', seats, seat)
elseif said > 0 then
  -- A seat has the time when it lapses. What is heard late was said early, and makes no seat longer: who is cut off counts on that.
  redis.call('ZADD', seats, 'GT', math.min(said, now) + lapse, seat)
end
redis.call('ZREMRANGEBYSCORE', seats, '-inf', now - kept)
-- A store that lost what it knew hears from those who come back how many they were.
local size = 0
if tonumber(is[4] or 0) > now then size = tonumber(is[3]) end
if knew > size then
  size = knew
  redis.call('HSET', fleet, 'size', size, 'until', now + kept)
end
local here, all = redis.call('ZCOUNT', seats, '(' .. now, '+inf'), redis.call('ZCARD', seats)
-- Who only asks is one of them before it has a seat.
if ARGV[6] ~= '1' and not redis.call('ZSCORE', seats, seat) then all = all + 1 end
return {'here', string.format('%s%06d', time[1], time[2]), math.max(size, all), here, is[5] or '0', is[6] or '0'}

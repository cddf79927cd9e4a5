-- A fetch has brought nothing to share.
-- KEYS: lease, page   ARGV: fence, page's name, channel, what it brought, 1 if what is there is of no more use
local held = redis.call('GET', KEYS[1])
if held and tonumber(string.match(held, '^(%d+)')) > tonumber(ARGV[1]) then return 'late' end
redis.call('DEL', KEYS[1])
if ARGV[5] == '1' then redis.call('UNLINK', KEYS[2]) end
redis.call('PUBLISH', ARGV[3], 'f ' .. ARGV[2] .. ' ' .. ARGV[4])
return 'released'

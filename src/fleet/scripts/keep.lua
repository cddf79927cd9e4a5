-- A page for the others, unless somebody began to fetch it later.
-- KEYS: page, list, lease   ARGV: fence, for_ms, page's name, entry, channel
local page, list, lease = KEYS[1], KEYS[2], KEYS[3]
local fence, keep, name = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local held = redis.call('GET', lease)
local holder = held and tonumber(string.match(held, '^(%d+)')) or 0
if holder > fence then return 'late' end
local head = redis.call('GETRANGE', page, 2, 9)
if #head == 8 and struct.unpack('>I8', head) > fence then return 'late' end
redis.call('SET', page, ARGV[4], 'PX', keep)
-- What a forget of the list has to find.
redis.call('SADD', list, name)
if redis.call('PTTL', list) < keep then redis.call('PEXPIRE', list, keep) end
if holder == fence then redis.call('DEL', lease) end
redis.call('PUBLISH', ARGV[5], 'l ' .. name)
return 'kept'

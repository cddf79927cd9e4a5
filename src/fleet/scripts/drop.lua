-- The pages of a list are not to stay.   KEYS: list   ARGV: what the names of its pages begin with
local dropped = 0
for _, page in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  dropped = dropped + redis.call('UNLINK', ARGV[1] .. page)
end
redis.call('UNLINK', KEYS[1])
return dropped

-- Count one more sign of life of a registered owner; never create one.
--
-- KEYS  1 owners  2 info  3 beat_at  4 held.<owner>  5 dead
-- ARGV  1 owner  2 info
--
-- Returns how many it holds, and how many owners are still to be buried.
local owner = ARGV[1]
if redis.call('HEXISTS', KEYS[1], owner) == 0 then return 'fenced' end
redis.call('HINCRBY', KEYS[1], owner, 1)
redis.call('HSET', KEYS[2], owner, ARGV[2])
redis.call('HSET', KEYS[3], owner, redis.call('TIME')[1])
return {redis.call('SCARD', KEYS[4]), redis.call('SCARD', KEYS[5])}

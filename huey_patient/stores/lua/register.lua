-- Announce an owner.
--
-- KEYS  1 owners  2 info  3 beat_at  4 dead  5 reaped.<owner>
-- ARGV  1 owner  2 info
local owner = ARGV[1]
if redis.call('EXISTS', KEYS[5]) == 1 or redis.call('SISMEMBER', KEYS[4], owner) == 1 then
    return 'fenced'
end
redis.call('HSETNX', KEYS[1], owner, '1')
redis.call('HSET', KEYS[2], owner, ARGV[2])
redis.call('HSET', KEYS[3], owner, redis.call('TIME')[1])
return 'ok'

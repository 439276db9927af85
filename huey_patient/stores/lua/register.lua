-- Announce an owner.
--
-- KEYS  1 owners  2 info  3 dead  4 reaped.<owner>
-- ARGV  1 owner  2 info
local owner = ARGV[1]
if redis.call('EXISTS', KEYS[4]) == 1 or redis.call('SISMEMBER', KEYS[3], owner) == 1 then
    return 'fenced'
end
redis.call('HSETNX', KEYS[1], owner, '1')
redis.call('HSET', KEYS[2], owner, ARGV[2])
return 'ok'

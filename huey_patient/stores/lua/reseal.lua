-- Put other bytes in the place of a request's, if they are still the ones expected.
--
-- KEYS  1 blob
-- ARGV  1 id  2 what is expected  3 what comes in its place
local id = ARGV[1]
if redis.call('HGET', KEYS[1], id) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], id, ARGV[3])
return 1

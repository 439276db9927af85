-- Second half of reaping: free a portion of what a fenced owner holds.
--
-- KEYS  1 dead  2 held.<owner>  3 who  4 strike  5 order  6 ready.suspect  7 bell
-- ARGV  1 owner  2 how many, at most
--
-- A portion, because a script that has written cannot be interrupted, and
-- nobody else is served while it runs.  Returns whether some are left.
local owner = ARGV[1]
if redis.call('SISMEMBER', KEYS[1], owner) == 0 then return 0 end
for _, id in ipairs(redis.call('SPOP', KEYS[2], ARGV[2])) do
    redis.call('HINCRBY', KEYS[4], id, 1)
    redis.call('ZADD', KEYS[6], redis.call('HGET', KEYS[5], id), id)
    redis.call('HDEL', KEYS[3], id)
end
if redis.call('EXISTS', KEYS[6]) == 1 and redis.call('LLEN', KEYS[7]) == 0 then
    redis.call('LPUSH', KEYS[7], '1')
end
if redis.call('EXISTS', KEYS[2]) == 1 then return 1 end
redis.call('SREM', KEYS[1], owner)
return 0

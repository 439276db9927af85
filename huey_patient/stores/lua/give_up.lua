-- Make an answer that is kept a dead letter.
--
-- KEYS  1 receipts  2 running  3 dead_letters
-- ARGV  1 id
local id = ARGV[1]
if redis.call('ZREM', KEYS[1], id) == 0 then return 0 end

local time = redis.call('TIME')
redis.call('SREM', KEYS[2], id)
redis.call('ZADD', KEYS[3], time[1] + time[2] / 1000000, id)
return 1

-- Put the message of a dead letter on Huey's queue again, as its first delivery.
--
-- KEYS  1 receipts  2 dead_letters  3 message  4 score  5 redelivered  6 lost
--       7 Huey's queue
-- ARGV  1 id  2 seconds until it is due  3 "list" or "sorted set", what Huey's queue is
--       4 what goes before the message there
local id = ARGV[1]
if not redis.call('ZSCORE', KEYS[2], id) then return 0 end

local message = ARGV[4] .. redis.call('HGET', KEYS[3], id)
if ARGV[3] == 'list' then
    redis.call('LPUSH', KEYS[7], message)
else
    redis.call('ZADD', KEYS[7], redis.call('HGET', KEYS[4], id) or '0', message)
end
redis.call('ZREM', KEYS[2], id)
redis.call('HDEL', KEYS[5], id)
redis.call('HDEL', KEYS[6], id)
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], time[1] + time[2] / 1000000 + ARGV[2], id)
return 1

-- Start to deliver an answer that is kept.
--
-- KEYS  1 receipts  2 running
-- ARGV  1 id  2 seconds until it is due again
local due = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not due then return 'gone' end

local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 and tonumber(due) > now then return 'busy' end

redis.call('SADD', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
return 'run'

-- Give a running answer more time, to run or to wait.
--
-- KEYS  1 receipts  2 running
-- ARGV  1 id  2 seconds until it is due  3 "running" or "waiting", what it is then
if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 0 then return 0 end

local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], time[1] + time[2] / 1000000 + ARGV[2], ARGV[1])
if ARGV[3] == 'waiting' then redis.call('SREM', KEYS[2], ARGV[1]) end
return 1

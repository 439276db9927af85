-- Start to deliver an answer that is kept.
--
-- KEYS  1 receipts  2 running
-- ARGV  1 id  2 seconds until it is due again
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 'gone' end
if redis.call('SADD', KEYS[2], ARGV[1]) == 0 then return 'busy' end

local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], time[1] + time[2] / 1000000 + ARGV[2], ARGV[1])
return 'run'

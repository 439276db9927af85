-- Put kept messages on Huey's queue again whose time has passed.
--
-- KEYS  1 receipts  2 running  3 dead_letters  4 message  5 score  6 redelivered
--       7 Huey's queue
-- ARGV  1 seconds until they are due again  2 after how many deliveries one is a dead letter
--       3 "list" or "sorted set", what Huey's queue is
--       4... what goes before each message there; as many as are put there, at most
--
-- A script is not rolled back, so the pushes come first: if one fails, it is
-- the first one.  Returns how many were put on the queue, and how many became
-- dead letters.
local time = redis.call('TIME')
local now = string.format('%.17g', time[1] + time[2] / 1000000)
local again, dead = {}, {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, #ARGV - 3)) do
    local deliveries = 1 + (redis.call('HGET', KEYS[6], id) or 0)
    local list = deliveries < tonumber(ARGV[2]) and again or dead
    list[#list + 1] = id
end

for n, id in ipairs(again) do
    local message = ARGV[3 + n] .. redis.call('HGET', KEYS[4], id)
    if ARGV[3] == 'list' then
        redis.call('LPUSH', KEYS[7], message)
    else
        redis.call('ZADD', KEYS[7], redis.call('HGET', KEYS[5], id) or '0', message)
    end
end
for _, id in ipairs(again) do
    redis.call('HINCRBY', KEYS[6], id, 1)
    redis.call('SREM', KEYS[2], id)
    redis.call('ZADD', KEYS[1], now + ARGV[1], id)
end
for _, id in ipairs(dead) do
    redis.call('ZREM', KEYS[1], id)
    redis.call('SREM', KEYS[2], id)
    redis.call('ZADD', KEYS[3], now, id)
end
return {#again, #dead}

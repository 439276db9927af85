-- Put kept messages on Huey's queue again whose time has passed.
--
-- KEYS  1 receipts  2 running  3 dead_letters  4 message  5 score  6 redelivered
--       7 lost  8 Huey's queue
-- ARGV  1 seconds until they are due again  2 after how many lost runs one is a dead letter
--       3 how often the seconds are doubled at most
--       4 "list" or "sorted set", what Huey's queue is
--       5... what goes before each message there; as many as are put there, at most
--
-- A script is not rolled back, so the pushes come first: if one fails, it is
-- the first one.  Returns how many were put on the queue, and how many became
-- dead letters.
local time = redis.call('TIME')
local now = string.format('%.17g', time[1] + time[2] / 1000000)
local again, dead, lost = {}, {}, {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, #ARGV - 4)) do
    local running = redis.call('SISMEMBER', KEYS[2], id)
    lost[id] = running + (redis.call('HGET', KEYS[7], id) or 0)
    local list = running == 1 and lost[id] >= tonumber(ARGV[2]) and dead or again
    list[#list + 1] = id
end

for n, id in ipairs(again) do
    local message = ARGV[4 + n] .. redis.call('HGET', KEYS[4], id)
    if ARGV[4] == 'list' then
        redis.call('LPUSH', KEYS[8], message)
    else
        redis.call('ZADD', KEYS[8], redis.call('HGET', KEYS[5], id) or '0', message)
    end
end
for _, id in ipairs(again) do
    local deliveries = redis.call('HINCRBY', KEYS[6], id, 1)
    if lost[id] > 0 then redis.call('HSET', KEYS[7], id, lost[id]) end
    redis.call('SREM', KEYS[2], id)
    local doublings = math.min(deliveries - lost[id], tonumber(ARGV[3]))
    redis.call('ZADD', KEYS[1], now + ARGV[1] * 2 ^ doublings, id)
end
for _, id in ipairs(dead) do
    redis.call('ZREM', KEYS[1], id)
    redis.call('SREM', KEYS[2], id)
    redis.call('ZADD', KEYS[3], now, id)
end
return {#again, #dead}

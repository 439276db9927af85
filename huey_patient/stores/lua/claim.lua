-- Hand the first requests of a lane to an owner.
--
-- KEYS  1 owners  2 the lane  3 held.<owner>  4 who  5 epoch  6 strike  7 blob
--       8 order  9 later  10 ready.fresh  11 ready.suspect  12 bell
-- ARGV  1 owner  2 limit  3 how many due requests to bring, at most
local owner, limit = ARGV[1], tonumber(ARGV[2])
if redis.call('HEXISTS', KEYS[1], owner) == 0 then return 'fenced' end

local time = redis.call('TIME')
local now = time[1] .. '.' .. string.format('%06d', time[2])
local due = redis.call('ZRANGEBYSCORE', KEYS[9], '-inf', now, 'LIMIT', 0, ARGV[3])
for _, id in ipairs(due) do
    local lane = redis.call('HEXISTS', KEYS[6], id) == 1 and KEYS[11] or KEYS[10]
    redis.call('ZADD', lane, redis.call('HGET', KEYS[8], id), id)
    redis.call('ZREM', KEYS[9], id)
end

if limit < 1 then return {} end
local ids = redis.call('ZRANGE', KEYS[2], 0, limit - 1)
if #ids == 0 then return {} end

redis.call('SADD', KEYS[3], unpack(ids))
redis.call('ZREM', KEYS[2], unpack(ids))
local epochs = {}
for i, id in ipairs(ids) do
    redis.call('HSET', KEYS[4], id, owner)
    epochs[i] = redis.call('HINCRBY', KEYS[5], id, 1)
end
-- The bell wakes one courier.  What this one left is for another.
if redis.call('EXISTS', KEYS[2]) == 1 and redis.call('LLEN', KEYS[12]) == 0 then
    redis.call('LPUSH', KEYS[12], '1')
end
return {ids, epochs, redis.call('HMGET', KEYS[6], unpack(ids)), redis.call('HMGET', KEYS[7], unpack(ids))}

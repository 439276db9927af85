-- Give requests back, each to its old place.
--
-- KEYS  1 who  2 epoch  3 strike  4 order  5 ready.fresh  6 ready.suspect
--       7 held.<owner>  8 bell
-- ARGV  1 owner  2 strikes to add  3... (id, epoch), one a lease
local owner, strikes, released = ARGV[1], tonumber(ARGV[2]), 0
for i = 3, #ARGV, 2 do
    local id = ARGV[i]
    local held = redis.call('HGET', KEYS[1], id) == owner
    if held and redis.call('HGET', KEYS[2], id) == ARGV[i + 1] then
        if strikes > 0 then redis.call('HINCRBY', KEYS[3], id, strikes) end
        local lane = redis.call('HEXISTS', KEYS[3], id) == 1 and KEYS[6] or KEYS[5]
        redis.call('ZADD', lane, redis.call('HGET', KEYS[4], id), id)
        redis.call('HDEL', KEYS[1], id)
        redis.call('SREM', KEYS[7], id)
        released = released + 1
    end
end
if released > 0 and redis.call('LLEN', KEYS[8]) == 0 then redis.call('LPUSH', KEYS[8], '1') end
return released

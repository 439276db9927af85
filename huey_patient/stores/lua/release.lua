-- Give requests back, each to its old place.
--
-- KEYS  1 who  2 epoch  3 strike  4 order  5 ready.fresh  6 ready.suspect
--       7 later  8 held.<owner>  9 bell
-- ARGV  1 owner  2 strikes to add  3 seconds until they are ready  4... (id, epoch), one a lease
local owner, strikes, pause, released = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), 0
local time = redis.call('TIME')
local due = string.format('%.17g', time[1] + time[2] / 1000000 + pause)

for i = 4, #ARGV, 2 do
    local id = ARGV[i]
    local held = redis.call('HGET', KEYS[1], id) == owner
    if held and redis.call('HGET', KEYS[2], id) == ARGV[i + 1] then
        if strikes > 0 then redis.call('HINCRBY', KEYS[3], id, strikes) end
        local lane = redis.call('HEXISTS', KEYS[3], id) == 1 and KEYS[6] or KEYS[5]
        if pause > 0 then
            redis.call('ZADD', KEYS[7], due, id)
        else
            redis.call('ZADD', lane, redis.call('HGET', KEYS[4], id), id)
        end
        redis.call('HDEL', KEYS[1], id)
        redis.call('SREM', KEYS[8], id)
        released = released + 1
    end
end
if released > 0 and redis.call('LLEN', KEYS[9]) == 0 then redis.call('LPUSH', KEYS[9], '1') end
return released

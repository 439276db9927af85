-- Store a request, unless it is there or was answered within the hour.
--
-- KEYS  1 tomb.<id>  2 blob  3 seq  4 order  5 ready.fresh  6 later  7 bell
-- ARGV  1 id  2 sealed  3 due in Unix seconds, or ""
--
-- It may be refused when memory is full: the HSETNX is the first write, so
-- nothing is half stored then.
local id, due = ARGV[1], tonumber(ARGV[3])
if redis.call('EXISTS', KEYS[1]) == 1 then return 'done' end
if redis.call('HSETNX', KEYS[2], id, ARGV[2]) == 0 then return 'duplicate' end

local place = redis.call('INCR', KEYS[3])
redis.call('HSET', KEYS[4], id, place)

local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
if due and due > now then
    redis.call('ZADD', KEYS[6], ARGV[3], id)
else
    redis.call('ZADD', KEYS[5], place, id)
    if redis.call('LLEN', KEYS[7]) == 0 then redis.call('LPUSH', KEYS[7], '1') end
end
return 'new'

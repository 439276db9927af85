-- Answer requests: each is removed, and its message goes on Huey's queue.
--
-- KEYS  1 blob  2 epoch  3 strike  4 who  5 order  6 ready.fresh  7 ready.suspect
--       8 later  9 held.<owner>  10 Huey's queue  11... tomb.<id>, one a settlement
-- ARGV  1 owner  2 seconds to keep a tomb  3 "list" or "sorted set", what Huey's queue is
--       4... (id, epoch or "any", epoch for the tomb, message, score), one a settlement
--
-- A script is not rolled back, so the one write that can fail comes first: the
-- push fails when the queue is of another type, and then nothing was removed.
--
-- "moved" says that somebody else holds it, whose held.<owner> is not among
-- the keys: the caller looks up who, and calls again.
local function push(message, score)
    if ARGV[3] == 'list' then
        redis.call('LPUSH', KEYS[10], message)
    else
        redis.call('ZADD', KEYS[10], score, message)
    end
end

local function settle(tomb, id, epoch, buried, message, score)
    if redis.call('HEXISTS', KEYS[1], id) == 0 then
        return redis.call('GET', tomb) == epoch and 'again' or 'gone'
    end
    local current = redis.call('HGET', KEYS[2], id) or '0'
    if epoch ~= 'any' and current ~= epoch then return 'stale' end
    local holder = redis.call('HGET', KEYS[4], id)
    if holder and holder ~= ARGV[1] then return 'moved' end

    push(message, score)
    redis.call('SET', tomb, buried, 'EX', ARGV[2])
    for key = 1, 5 do redis.call('HDEL', KEYS[key], id) end
    for key = 6, 8 do redis.call('ZREM', KEYS[key], id) end
    redis.call('SREM', KEYS[9], id)
    return 'ok'
end

local answers = {}
for i = 11, #KEYS do
    local first = 4 + 5 * (i - 11)
    answers[i - 10] = settle(KEYS[i], unpack(ARGV, first, first + 4))
end
return answers

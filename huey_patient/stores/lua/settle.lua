-- Answer requests: each is removed, and its message goes on Huey's queue.
--
-- KEYS  1 blob  2 epoch  3 strike  4 who  5 order  6 ready.fresh  7 ready.suspect
--       8 later  9 held.<owner>  10 Huey's queue  11... tomb.<id>, one a settlement
--       then, if a message is to be kept: receipts, message, score
-- ARGV  1 owner  2 seconds to keep a tomb  3 "list" or "sorted set", what Huey's queue is
--       4 how many settlements
--       5... (id, epoch or "any", epoch for the tomb, message, score), one a settlement
--       then, if a message is to be kept: seconds or "", one a settlement
--
-- A script is not rolled back, so the one write that can fail comes first: the
-- push fails when the queue is of another type, and then nothing was removed.
--
-- Ends early, with fewer answers, at one that somebody else holds, whose
-- held.<owner> is not among the keys: the caller looks up who, and goes on
-- from there.
local settlements = tonumber(ARGV[4])

local function push(message, score)
    if ARGV[3] == 'list' then
        redis.call('LPUSH', KEYS[10], message)
    else
        redis.call('ZADD', KEYS[10], score, message)
    end
end

local function keep(tomb, id, message, score, seconds)
    local receipts = 11 + settlements
    local time = redis.call('TIME')
    redis.call('ZADD', KEYS[receipts], time[1] + time[2] / 1000000 + seconds, id)
    -- Without the time that goes before it in a sorted set: it is given another one.
    if ARGV[3] ~= 'list' then message = string.sub(message, 9) end
    redis.call('HSET', KEYS[receipts + 1], id, message)
    if tonumber(score) ~= 0 then redis.call('HSET', KEYS[receipts + 2], id, score) end
    redis.call('PERSIST', tomb)
end

local function settle(tomb, id, epoch, buried, message, score, seconds)
    if redis.call('HEXISTS', KEYS[1], id) == 0 then
        return redis.call('GET', tomb) == epoch and 'again' or 'gone'
    end
    local current = redis.call('HGET', KEYS[2], id) or '0'
    if epoch ~= 'any' and current ~= epoch then return 'stale' end
    local holder = redis.call('HGET', KEYS[4], id)
    if holder and holder ~= ARGV[1] then return nil end

    push(message, score)
    redis.call('SET', tomb, buried, 'EX', ARGV[2])
    for key = 1, 5 do redis.call('HDEL', KEYS[key], id) end
    for key = 6, 8 do redis.call('ZREM', KEYS[key], id) end
    redis.call('SREM', KEYS[9], id)
    if seconds then keep(tomb, id, message, score, seconds) end
    return 'ok'
end

local answers = {}
for i = 1, settlements do
    local first = 5 * i
    local id, epoch, buried, message, score = unpack(ARGV, first, first + 4)
    local seconds = tonumber(ARGV[4 + 5 * settlements + i])
    local answer = settle(KEYS[10 + i], id, epoch, buried, message, score, seconds)
    if not answer then break end
    answers[i] = answer
end
return answers

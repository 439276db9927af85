-- How many requests are where, all at one moment.
--
-- KEYS  1 ready.fresh  2 ready.suspect  3 later  4 who  5 receipts  6 dead_letters
--
-- What is due is ready, though it is moved only by the next claim.
local time = redis.call('TIME')
local now = time[1] .. '.' .. string.format('%06d', time[2])
local due = redis.call('ZCOUNT', KEYS[3], '-inf', now)
return {
    redis.call('ZCARD', KEYS[1]) + due,
    redis.call('ZCARD', KEYS[2]),
    redis.call('ZCARD', KEYS[3]) - due,
    redis.call('HLEN', KEYS[4]),
    redis.call('ZCARD', KEYS[5]),
    redis.call('ZCARD', KEYS[6]),
}

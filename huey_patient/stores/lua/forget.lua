-- Forget an answer that is kept; from now on only its tombstone is there.
--
-- KEYS  1 receipts  2 running  3 dead_letters  4 message  5 score  6 redelivered  7 lost
--       8 tomb.<id>
-- ARGV  1 id  2 seconds to keep the tomb  3 "any", or "dead": only a dead letter
local id = ARGV[1]
local found = redis.call('ZREM', KEYS[3], id)
if found == 0 and ARGV[3] == 'any' then
    found = redis.call('ZREM', KEYS[1], id)
    redis.call('SREM', KEYS[2], id)
end
if found == 0 then return 0 end

for key = 4, 7 do redis.call('HDEL', KEYS[key], id) end
redis.call('EXPIRE', KEYS[8], ARGV[2])
return 1

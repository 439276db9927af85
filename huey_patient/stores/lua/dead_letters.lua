-- The dead letters, oldest first: id, how often redelivered, since when.
--
-- KEYS  1 dead_letters  2 redelivered
-- ARGV  1 how many, at most
local found = {}
local letters = redis.call('ZRANGE', KEYS[1], 0, ARGV[1] - 1, 'WITHSCORES')
for i = 1, #letters, 2 do
    found[#found + 1] = {letters[i], redis.call('HGET', KEYS[2], letters[i]) or '0', letters[i + 1]}
end
return found

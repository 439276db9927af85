-- First half of reaping: fence an owner, if it is still at the beat that was seen.
--
-- KEYS  1 owners  2 info  3 beat_at  4 dead  5 reaped.<owner>
-- ARGV  1 owner  2 beat seen  3 seconds to remember the name
--
-- From here on the owner gets nothing.  What it holds is freed by bury.lua, in
-- portions; until the last of them it stays in `dead`, so anybody can go on.
local owner = ARGV[1]
if redis.call('HGET', KEYS[1], owner) ~= ARGV[2] then return 0 end
redis.call('SADD', KEYS[4], owner)
redis.call('SET', KEYS[5], '1', 'EX', ARGV[3])
for key = 1, 3 do redis.call('HDEL', KEYS[key], owner) end
return 1

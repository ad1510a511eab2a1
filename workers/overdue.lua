-- Finds what is due and puts each off, so that two lookers never find the same. Keys: see campaign/transition.lua.
--
-- ARGV[1]  namespace     ARGV[2]  seconds to put off     ARGV[3]  how many at most
--
-- Returns "campaign/tile" of each.
local key = ARGV[1] .. ':due'
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local due = redis.call('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', 0, ARGV[3])
for _, member in ipairs(due) do redis.call('ZADD', key, now + ARGV[2], member) end
return due

-- Finds what is due, ends the hold of whoever let its lease end, and puts each off, so that two lookers never find the
-- same. Keys: see campaign/transition.lua.
--
-- ARGV[1]  namespace     ARGV[2]  seconds to put off     ARGV[3]  how many at most
--
-- Returns "campaign/tile", 1 where a worker held it and 0 where none did, "campaign/tile" ...
local ns = ARGV[1]
local key = ns .. ':due'
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local answer = {}
for _, member in ipairs(redis.call('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', 0, ARGV[3])) do
  local campaign, id = string.match(member, '^([^/]+)/(.+)$')
  redis.call('ZADD', key, now + ARGV[2], member)
  answer[#answer + 1] = member
  answer[#answer + 1] = redis.call('HDEL', ns .. ':c:' .. campaign .. ':t:' .. id, 'holder')
end
return answer

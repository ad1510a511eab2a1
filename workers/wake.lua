-- Gives the free room of a back-end to the tiles that wait first: each gets its slot now, and is due if the message
-- that tells a worker about it is lost. Keys: see campaign/transition.lua.
--
-- ARGV[1]  namespace     ARGV[2]  back-end     ARGV[3]  seconds until a woken tile is due
--
-- Returns the woken tiles as "campaign/tile", first come first.
local ns, backend, woken = ARGV[1], ARGV[2], {}
local prefix = ns .. ':b:' .. backend
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local limits = redis.call('HMGET', prefix, 'parallel_jobs', 'paused_until')
if not limits[1] or tonumber(limits[2] or 0) > now then return woken end
while redis.call('SCARD', prefix .. ':slots') < tonumber(limits[1]) do
  local first = redis.call('ZPOPMIN', prefix .. ':waiting')
  if #first == 0 then break end
  local member = first[1]
  local campaign, id = string.match(member, '^([^/]+)/(.+)$')
  local key = ns .. ':c:' .. campaign .. ':t:' .. id
  if redis.call('HGET', key, 'status') == 'not_started' then
    redis.call('SADD', prefix .. ':slots', member)
    redis.call('HSET', key, 'backend', backend)
    redis.call('ZADD', ns .. ':due', now + ARGV[3], member)
    for _, name in ipairs(redis.call('SMEMBERS', ns .. ':backends')) do
      redis.call('ZREM', ns .. ':b:' .. name .. ':waiting', member)
    end
    woken[#woken + 1] = member
  end
end
return woken

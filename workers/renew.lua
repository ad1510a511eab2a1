-- Renews the lease of a tile or of a tracker, if it is still held by who asks. Keys: see campaign/transition.lua.
--
-- KEYS[1]  a tile, or the tracker's key of a back-end
-- ARGV[1]  namespace     ARGV[2]  token     ARGV[3]  seconds     ARGV[4]  "campaign/tile", "" for a tracker
--
-- Returns 1 if it was.
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
if ARGV[4] == '' then
  if redis.call('GET', KEYS[1]) ~= ARGV[2] then return 0 end
  redis.call('PEXPIRE', KEYS[1], ARGV[3] * 1000)
  return 1
end
if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[2] then return 0 end
redis.call('ZADD', ARGV[1] .. ':due', 'XX', now + ARGV[3], ARGV[4])
return 1

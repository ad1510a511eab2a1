-- Pauses a back-end; a longer pause that is there already stays. Keys: see campaign/transition.lua.
--
-- KEYS[1]  the back-end                              N:b:B
-- ARGV[1]  until when, seconds since the epoch       ARGV[2]  why, for the user
-- ARGV[3]  "starts" or "everything": what waits      ARGV[4]  "1": requests come back slowly afterwards
-- ARGV[5]  "1": it is full, and the pause ends with the next job
local until_then = tonumber(ARGV[1])
local found = redis.call('HMGET', KEYS[1], 'paused_until', 'silent_until')
if ARGV[3] == 'everything' and tonumber(found[2] or 0) < until_then then
  redis.call('HSET', KEYS[1], 'silent_until', ARGV[1])
  if ARGV[4] == '1' then redis.call('HSET', KEYS[1], 'ramp_from', ARGV[1]) end
end
if tonumber(found[1] or 0) < until_then then
  redis.call('HSET', KEYS[1], 'paused_until', ARGV[1], 'paused_reason', ARGV[2])
  if ARGV[5] == '1' then redis.call('HSET', KEYS[1], 'full', 1) else redis.call('HDEL', KEYS[1], 'full') end
end

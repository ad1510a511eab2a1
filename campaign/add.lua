-- Adds tiles that are not there yet, each with its place in the status index and among those that wait for room.
-- room.lua stands before this script.
--
-- ARGV[1]  namespace     ARGV[2]  campaign
-- ARGV[3]  JSON list of {id, order, [back-ends it may go to], pinned, rank}
--
-- Returns how many were added.
local ns, campaign, added = ARGV[1], ARGV[2], 0
local index = ns .. ':c:' .. campaign .. ':s:not_started'
for _, tile in ipairs(cjson.decode(ARGV[3])) do
  local id, order, backends, pinned, rank = tile[1], tile[2], tile[3], tile[4], tile[5]
  local key = ns .. ':c:' .. campaign .. ':t:' .. id
  if redis.call('EXISTS', key) == 0 then
    redis.call('HSET', key, 'status', 'not_started', 'order', order, 'since', clock[1])
    if rank ~= order then redis.call('HSET', key, 'rank', rank) end
    if pinned then redis.call('HSET', key, 'backend', backends[1], 'pinned', 1) end
    redis.call('ZADD', index, order, id)
    wait_on(ns, backends, campaign, id, rank)
    added = added + 1
  end
end
return added

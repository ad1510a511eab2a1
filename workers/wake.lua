-- Gives the free room of a back-end to those that wait first: created jobs the right to be started, then tiles a place to
-- have their job created. Each is due if the message that tells a worker about it is lost. Keys: see
-- campaign/transition.lua; campaign/room.lua stands before this script.
--
-- ARGV[1]  namespace     ARGV[2]  back-end     ARGV[3]  seconds until a woken tile is due
--
-- Returns the woken tiles as "campaign/tile", first come first.
local ns, backend, woken = ARGV[1], ARGV[2], {}
local prefix = backend_key(ns, backend)

local function wake(member)
  redis.call('ZADD', ns .. ':due', now + ARGV[3], member)
  woken[#woken + 1] = member
end

local starts = starts_on(ns, backend)
for _, member in ipairs(starts > 0 and redis.call('ZRANGE', prefix .. ':ready', 0, -1) or {}) do
  if starts <= 0 then break end
  local campaign, id = string.match(member, '^([^/]+)/(.+)$')
  local tile = redis.call('HMGET', ns .. ':c:' .. campaign .. ':t:' .. id, 'status', 'order', 'rank')
  if tile[1] ~= 'created' then
    redis.call('ZREM', prefix .. ':ready', member)
  elseif not held_back(ns, campaign, tile[3] or tile[2]) then
    redis.call('ZREM', prefix .. ':ready', member)
    redis.call('SADD', prefix .. ':started', member)
    starts = starts - 1
    wake(member)
  end
end

-- The tile that waits first, of all campaigns that are not held back.
local function first_waiting()
  local first, id, least
  for _, campaign in ipairs(redis.call('SMEMBERS', prefix .. ':waiting')) do
    local head = redis.call('ZRANGE', prefix .. ':waiting:' .. campaign, 0, 0, 'WITHSCORES')
    if #head == 0 then
      redis.call('SREM', prefix .. ':waiting', campaign)
    elseif not held_back(ns, campaign, head[2]) and (not least or tonumber(head[2]) < least) then
      first, id, least = campaign, head[1], tonumber(head[2])
    end
  end
  return first, id
end

while select(2, places_on(ns, backend)) and may_submit(ns, backend) do
  local campaign, id = first_waiting()
  if not campaign then break end
  local key = ns .. ':c:' .. campaign .. ':t:' .. id
  wait_nowhere(ns, campaign, id)
  if redis.call('HGET', key, 'status') == 'not_started' then
    redis.call('SADD', prefix .. ':slots', campaign .. '/' .. id)
    redis.call('HSET', key, 'backend', backend)
    count_submission(ns, backend)
    wake(campaign .. '/' .. id)
  end
end
return woken

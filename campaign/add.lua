-- Puts tiles into the store in any status, each with its fields, its place in the status index, its room, its place among
-- those that wait and among those that are due: tiles that are not there yet, and, where it is said what has to be there
-- `instead`, tiles that get a job which nobody knew of. room.lua stands before this script; keys: see transition.lua.
--
-- ARGV[1]  namespace     ARGV[2]  campaign
-- ARGV[3]  JSON list of objects; what is left out is none:
--            id, order, rank, status
--            fields     field -> text
--            wait       back-ends on one of which it waits for room
--            slot       back-end on which it has a place
--            started    whether its job is or may be started there; one that is not waits for its start
--            due        seconds until somebody has to look at it
--            paid       how many jobs its costs are for
--            history    texts for its history
--            instead    {status, attempt} of the tile that is there, without a job and held by nobody
--
-- Returns how many were put there.
local ns, campaign, added = ARGV[1], ARGV[2], 0
local prefix = ns .. ':c:' .. campaign .. ':'

local function is_as_expected(key, instead)
  if not instead then return redis.call('EXISTS', key) == 0 end
  local tile = redis.call('HMGET', key, 'status', 'attempt', 'job_id', 'holder')
  return tile[1] == instead[1] and (tile[2] or '0') == instead[2] and not tile[3] and not tile[4]
end

-- Takes a tile from where it is; returns what its jobs cost.
local function leave(key, tile, member)
  local known = redis.call('HMGET', key, 'backend', 'costs', 'spent')
  if known[1] then
    redis.call('SREM', backend_key(ns, known[1]) .. ':slots', member)
    redis.call('SREM', backend_key(ns, known[1]) .. ':started', member)
    redis.call('ZREM', backend_key(ns, known[1]) .. ':ready', member)
  end
  wait_nowhere(ns, campaign, tile.id)
  redis.call('ZREM', ns .. ':due', member)
  redis.call('ZREM', prefix .. 's:' .. tile.instead[1], tile.id)
  redis.call('XADD', prefix .. 'events', 'MAXLEN', '~', 20000, '*', 'tile', tile.id, 'from', tile.instead[1],
    'to', tile.status, 'attempt', tile.fields.attempt or '0', 'backend', tile.slot or tile.fields.backend or '',
    'job_id', tile.fields.job_id or '')
  redis.call('DEL', key)
  return (known[2] or 0) + (known[3] or 0)
end

local function take_room(tile, member)
  redis.call('SADD', backend_key(ns, tile.slot) .. ':slots', member)
  if tile.started then
    redis.call('SADD', backend_key(ns, tile.slot) .. ':started', member)
  else
    redis.call('ZADD', backend_key(ns, tile.slot) .. ':ready', tile.rank, member)
  end
end

local function charge(tile, paid)
  local more = (tile.fields.costs or 0) + (tile.fields.spent or 0) - paid
  if more == 0 then return end
  redis.call('HINCRBYFLOAT', prefix .. 'control', 'spent', more)
  redis.call('HINCRBY', prefix .. 'control', 'jobs_paid', tile.paid or 1)
end

for _, tile in ipairs(cjson.decode(ARGV[3])) do
  local key, member = prefix .. 't:' .. tile.id, campaign .. '/' .. tile.id
  if is_as_expected(key, tile.instead) then
    local paid = tile.instead and leave(key, tile, member) or 0
    local set = {'status', tile.status, 'order', tile.order, 'since', clock[1]}
    for name, value in pairs(tile.fields or {}) do set[#set + 1] = name; set[#set + 1] = value end
    redis.call('HSET', key, unpack(set))
    redis.call('ZADD', prefix .. 's:' .. tile.status, tile.order, tile.id)
    if tile.wait then wait_on(ns, tile.wait, campaign, tile.id, tile.rank) end
    if tile.slot then take_room(tile, member) end
    if tile.due then redis.call('ZADD', ns .. ':due', now + tile.due, member) end
    if tile.fields then charge(tile, paid) end
    for _, text in ipairs(tile.history or {}) do redis.call('RPUSH', prefix .. 'history:' .. tile.id, text) end
    added = added + 1
  end
end
return added

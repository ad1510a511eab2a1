-- Puts tiles into the store in any status, each with its fields, its place in the status index, its slot, its place
-- among those that wait for room and among those that are due: tiles that are not there yet, and, where it is said what
-- has to be there `instead`, tiles that get a job which nobody knew of.
--
-- ARGV[1]  namespace     ARGV[2]  campaign
-- ARGV[3]  JSON list of objects; what is left out is none:
--            id, order, status
--            fields     field -> text
--            wait       back-ends on one of which it waits for room
--            slot       back-end on which it takes room
--            started    whether its job is or may be started there
--            due        seconds until somebody has to look at it
--            history    texts for its history
--            instead    {status, attempt} of the tile that is there, without a job and held by nobody
--
-- Returns how many were put there.
local ns, campaign, added = ARGV[1], ARGV[2], 0
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local prefix = ns .. ':c:' .. campaign .. ':'

local function slots(name) return ns .. ':b:' .. name .. ':slots' end

local function started(name) return ns .. ':b:' .. name .. ':started' end

local function waiting(name) return ns .. ':b:' .. name .. ':waiting' end

local function is_as_expected(key, instead)
  if not instead then return redis.call('EXISTS', key) == 0 end
  local tile = redis.call('HMGET', key, 'status', 'attempt', 'job_id', 'holder')
  return tile[1] == instead[1] and (tile[2] or '0') == instead[2] and not tile[3] and not tile[4]
end

local function leave(key, tile, member)
  local backend = redis.call('HGET', key, 'backend')
  if backend then
    redis.call('SREM', slots(backend), member)
    redis.call('SREM', started(backend), member)
  end
  for _, name in ipairs(redis.call('SMEMBERS', ns .. ':backends')) do redis.call('ZREM', waiting(name), member) end
  redis.call('ZREM', ns .. ':due', member)
  redis.call('ZREM', prefix .. 's:' .. tile.instead[1], tile.id)
  redis.call('XADD', prefix .. 'events', 'MAXLEN', '~', 20000, '*', 'tile', tile.id, 'from', tile.instead[1],
    'to', tile.status, 'attempt', tile.fields.attempt or '0', 'backend', tile.slot or tile.fields.backend or '',
    'job_id', tile.fields.job_id or '')
end

for _, tile in ipairs(cjson.decode(ARGV[3])) do
  local key, member = prefix .. 't:' .. tile.id, campaign .. '/' .. tile.id
  if is_as_expected(key, tile.instead) then
    if tile.instead then leave(key, tile, member) end
    local set = {'status', tile.status, 'order', tile.order, 'since', clock[1]}
    for name, value in pairs(tile.fields or {}) do set[#set + 1] = name; set[#set + 1] = value end
    if tile.instead then redis.call('DEL', key) end
    redis.call('HSET', key, unpack(set))
    redis.call('ZADD', prefix .. 's:' .. tile.status, tile.order, tile.id)
    for _, name in ipairs(tile.wait or {}) do redis.call('ZADD', waiting(name), tile.order, member) end
    if tile.slot then redis.call('SADD', slots(tile.slot), member) end
    if tile.slot and tile.started then redis.call('SADD', started(tile.slot), member) end
    if tile.due then redis.call('ZADD', ns .. ':due', now + tile.due, member) end
    for _, text in ipairs(tile.history or {}) do redis.call('RPUSH', prefix .. 'history:' .. tile.id, text) end
    added = added + 1
  end
end
return added

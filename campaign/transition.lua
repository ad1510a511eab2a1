-- The one compare-and-set of the fleet: moves a tile, its place in the status index, its slot on a back-end, its
-- entry among the things that are due, and its event, together or not at all.
--
-- Every key of a fleet (N = the namespace, C = a campaign, T = a tile, B = a back-end):
--   N:campaigns              set of campaign names
--   N:ticked                 when the fleet's clock ticked last
--   N:c:C:meta               hash: the campaign as it was enqueued (meta.py documents each field)
--   N:c:C:table              hash: number of a chunk -> 1,000 rows of the user's table (Parquet)
--   N:c:C:control            hash: what holds the campaign back, what it has spent (control.py documents each field)
--   N:c:C:catalog            hash: how many tiles the catalog stands for, when that was asked for, what went wrong
--   N:c:C:t:T                hash: the fields of one tile (tile.py documents each)
--   N:c:C:s:STATUS           sorted set of the tiles in that status, by their order in the table
--   N:c:C:history:T          list: one JSON object for each attempt or step that failed
--   N:c:C:events             stream of transitions, the newest 20,000 or so
--   N:backends               set of back-end names
--   N:b:B                    hash: the back-end's settings, its pause and when it is looked at next
--   N:b:B:slots              set of "C/T" that have a place there (submitting, created, queued, running; or woken to submit)
--   N:b:B:started            set of those of them whose job is started, or may be
--   N:b:B:ready              sorted set of "C/T" whose job is created and waits for a start, by rank
--   N:b:B:waiting            set of the campaigns that have tiles waiting for a place there
--   N:b:B:waiting:C          sorted set of these tiles, by rank
--   N:b:B:estimate           there while it is not to be asked what a job will cost
--   N:b:B:tracker            token of the worker that tracks it now
--   N:due                    sorted set of "C/T" by the time (seconds since the epoch) at which somebody has to look at
--                            them again: the end of the lease of a tile that a worker holds, the end of a wait before
--                            another try, or the time after which a message counts as lost
-- Not for Redis Cluster: keys are made here.
--
-- KEYS[1]  the tile                                  N:c:C:t:T
-- ARGV[1]  N      ARGV[2]  C      ARGV[3]  T
-- ARGV[4]  status the tile must be in
-- ARGV[5]  status it moves to (may be the same: a worker takes hold of it)
-- ARGV[6]  who must hold it: a token; "" = nobody, or a holder whose lease has ended; "*" = whoever
-- ARGV[7]  attempt it must be at, "" = any
-- ARGV[8]  who holds it afterwards, "" = nobody
-- ARGV[9]  seconds until it is due, "" = never
-- ARGV[10] room: "keep"; "take" = a place on one of the back-ends of ARGV[11]; "free" = give it back;
--          "wait" = give it back and wait for one on the back-ends of ARGV[11]; "start" = the right to start its job, or
--          wait for it, held by nobody; "started" = it is started, or about to be, whether there is room or not;
--          "ready" = give that right back and wait for it
-- ARGV[11] JSON list of back-ends
-- ARGV[12] token of this call: the same call made again, because its answer was lost, is answered the same
-- ARGV[13] JSON for the history of the tile, "" = nothing
-- ARGV[14...] field, value, field, value ... to set; "" removes a field
--
-- room.lua stands before this script.
--
-- Returns {"ok", time, back-end, holder}, {"lost", status now}, {"missing"} or {"full"} (the tile waits).
local ns, campaign, id = ARGV[1], ARGV[2], ARGV[3]
local from, to, expect_holder, expect_attempt = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local holder, due, room, call, failure = ARGV[8], ARGV[9], ARGV[10], ARGV[12], ARGV[13]
local member = campaign .. '/' .. id
local due_key = ns .. ':due'
local index = ns .. ':c:' .. campaign .. ':s:'
local tile = redis.call('HMGET', KEYS[1], 'status', 'attempt', 'holder', 'backend', 'order', 'call', 'rank', 'costs', 'spent')
local status, attempt, held_by, backend, order = tile[1], tile[2] or '0', tile[3], tile[4] or '', tile[5] or '0'
local rank, paid = tile[7] or order, (tile[8] or 0) + (tile[9] or 0)
if not status then return {'missing'} end
if tile[6] == call then return {'ok', redis.call('HGET', KEYS[1], 'since'), backend, held_by or ''} end
if status ~= from then return {'lost', status} end
if expect_attempt ~= '' and expect_attempt ~= attempt then return {'lost', status} end
if expect_holder == '' then
  if held_by and tonumber(redis.call('ZSCORE', due_key, member) or 0) > now then return {'lost', status} end
elseif expect_holder ~= '*' and expect_holder ~= held_by then
  return {'lost', status}
end

local function slots(name) return backend_key(ns, name) .. ':slots' end

local function started(name) return backend_key(ns, name) .. ':started' end

local function ready(name) return backend_key(ns, name) .. ':ready' end

if room == 'take' then
  local candidates, held, most = cjson.decode(ARGV[11]), held_back(ns, campaign, rank), nil
  local has_place = backend ~= '' and redis.call('SISMEMBER', slots(backend), member) == 1
  if has_place and held then redis.call('SREM', slots(backend), member) end
  if held or not has_place then
    backend = ''
    for _, name in ipairs(held and {} or candidates) do
      local free, any = places_on(ns, name)
      if any and (not most or free > most) and may_submit(ns, name) then backend, most = name, free end
    end
    if backend == '' then
      wait_on(ns, candidates, campaign, id, rank)
      redis.call('ZREM', due_key, member)
      return {'full'}
    end
    redis.call('SADD', slots(backend), member)
    count_submission(ns, backend)
  end
  redis.call('HSET', KEYS[1], 'backend', backend)
elseif room == 'started' then
  redis.call('SADD', started(backend), member)
elseif room == 'start' then
  local may = redis.call('SISMEMBER', started(backend), member) == 1 or starts_on(ns, backend) > 0
  if may and not held_back(ns, campaign, rank) then redis.call('SADD', started(backend), member) else room = 'ready' end
end
if (room == 'free' or room == 'wait') and backend ~= '' then
  redis.call('SREM', slots(backend), member)
  redis.call('SREM', started(backend), member)
  redis.call('ZREM', ready(backend), member)
elseif room == 'ready' then
  redis.call('SREM', started(backend), member)
  redis.call('ZADD', ready(backend), rank, member)
  holder, due = '', ''
end
if room ~= 'keep' then wait_nowhere(ns, campaign, id) end
if room == 'wait' then wait_on(ns, cjson.decode(ARGV[11]), campaign, id, rank) end

local set, drop = {'status', to, 'call', call}, {}
if holder == '' then drop[#drop + 1] = 'holder' else set[#set + 1] = 'holder'; set[#set + 1] = holder end
for i = 14, #ARGV, 2 do
  if ARGV[i + 1] == '' then drop[#drop + 1] = ARGV[i] else set[#set + 1] = ARGV[i]; set[#set + 1] = ARGV[i + 1] end
end
if to ~= from then
  set[#set + 1] = 'since'; set[#set + 1] = string.format('%.3f', now)
  redis.call('ZREM', index .. from, id)
  redis.call('ZADD', index .. to, order, id)
end
redis.call('HSET', KEYS[1], unpack(set))
if #drop > 0 then redis.call('HDEL', KEYS[1], unpack(drop)) end
local costs = redis.call('HMGET', KEYS[1], 'costs', 'spent')
local more = (costs[1] or 0) + (costs[2] or 0) - paid
if more ~= 0 then
  redis.call('HINCRBYFLOAT', ns .. ':c:' .. campaign .. ':control', 'spent', more)
  redis.call('HINCRBY', ns .. ':c:' .. campaign .. ':control', 'jobs_paid', more > 0 and 1 or -1)
end
if due == '' then
  redis.call('ZREM', due_key, member)
else
  redis.call('ZADD', due_key, now + due, member)
end
if failure ~= '' then redis.call('RPUSH', ns .. ':c:' .. campaign .. ':history:' .. id, failure) end
if to ~= from then
  local after = redis.call('HMGET', KEYS[1], 'attempt', 'backend', 'job_id')
  redis.call('XADD', ns .. ':c:' .. campaign .. ':events', 'MAXLEN', '~', 20000, '*', 'tile', id, 'from', from, 'to', to,
    'attempt', after[1] or '0', 'backend', after[2] or '', 'job_id', after[3] or '')
end
return {'ok', string.format('%.3f', now), backend, holder}

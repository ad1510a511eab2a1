-- Room on a back-end: what it allows, what is taken, who may have more. Stands before every script that gives or takes
-- some; `now` is the time for all of them. Keys: see transition.lua.
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000

local SLACK = 2 -- seconds of submissions that may come at once

local function backend_key(ns, name) return ns .. ':b:' .. name end

-- How many jobs a back-end may have started, and how many more may be created ahead; nil while it takes none.
local function limits_of(ns, name)
  local found = redis.call('HMGET', backend_key(ns, name), 'parallel_jobs', 'queued_jobs', 'prepared_jobs',
    'paused_until', 'stopped', 'learned_jobs', 'learned_until')
  if not found[1] or found[5] or tonumber(found[4] or 0) > now then return nil end
  local most = found[1] + (found[2] or 0)
  if found[6] and tonumber(found[7] or 0) > now then most = math.min(most, tonumber(found[6])) end
  return most, tonumber(found[3] or 0)
end

-- Free places for tiles whose job is to be created, negative where only jobs created ahead have some; and whether any is.
local function places_on(ns, name)
  local most, ahead = limits_of(ns, name)
  if not most then return 0, false end
  local free = most - redis.call('SCARD', backend_key(ns, name) .. ':slots')
  return free, free + ahead > 0
end

-- How many more jobs may be started.
local function starts_on(ns, name)
  local most = limits_of(ns, name)
  if not most then return 0 end
  return most - redis.call('SCARD', backend_key(ns, name) .. ':started')
end

-- Whether another job may be created now, by the back-end's submissions per minute.
local function may_submit(ns, name)
  local found = redis.call('HMGET', backend_key(ns, name), 'submissions_per_minute', 'submit_at')
  return not found[1] or tonumber(found[2] or 0) - now <= SLACK
end

-- Count a job that is to be created: in any minute there are no more than the back-end allows.
local function count_submission(ns, name)
  local key = backend_key(ns, name)
  local found = redis.call('HMGET', key, 'submissions_per_minute', 'submit_at')
  if not found[1] then return end
  local at = math.max(tonumber(found[2] or 0), now) + (60 + SLACK) / found[1]
  redis.call('HSET', key, 'submit_at', string.format('%.6f', at))
end

-- How many jobs of a campaign are started, or about to be, and not charged yet.
local function unpaid(ns, campaign)
  local index, count = ns .. ':c:' .. campaign .. ':s:', 0
  for _, status in ipairs({'created', 'queued', 'running', 'finished'}) do
    count = count + redis.call('ZCARD', index .. status)
  end
  for _, name in ipairs(redis.call('SMEMBERS', ns .. ':backends')) do
    for _, member in ipairs(redis.call('ZRANGE', backend_key(ns, name) .. ':ready', 0, -1)) do
      if string.match(member, '^([^/]+)/') == campaign then count = count - 1 end
    end
  end
  return count
end

-- Whether the user, the budget or the pilot holds a tile of this rank back. What a job costs is the mean of those that
-- were charged, else of the estimates.
local function held_back(ns, campaign, rank)
  local found = redis.call('HMGET', ns .. ':c:' .. campaign .. ':control', 'paused', 'pilot_upto', 'budget', 'spent',
    'jobs_paid', 'estimated', 'jobs_estimated')
  if found[1] or (found[2] and tonumber(rank) >= tonumber(found[2])) then return true end
  if not found[3] then return false end
  local budget, spent, cost = tonumber(found[3]), tonumber(found[4] or 0), 0
  if tonumber(found[5] or 0) > 0 then cost = spent / found[5]
  elseif tonumber(found[7] or 0) > 0 then cost = found[6] / found[7] end
  return spent >= budget or spent + cost * (unpaid(ns, campaign) + 1) > budget
end

-- Have a tile wait for room on each of `names`.
local function wait_on(ns, names, campaign, id, rank)
  for _, name in ipairs(names) do
    redis.call('ZADD', backend_key(ns, name) .. ':waiting:' .. campaign, rank, id)
    redis.call('SADD', backend_key(ns, name) .. ':waiting', campaign)
  end
end

-- Have a tile wait nowhere any more.
local function wait_nowhere(ns, campaign, id)
  for _, name in ipairs(redis.call('SMEMBERS', ns .. ':backends')) do
    redis.call('ZREM', backend_key(ns, name) .. ':waiting:' .. campaign, id)
  end
end


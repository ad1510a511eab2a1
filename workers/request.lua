-- Reserves the time of the next request to a back-end, so that all workers together send no more than it allows; after
-- a pause they begin slowly and double their pace until nothing holds them back.
--
-- ARGV[1]  namespace     ARGV[2]  back-end     ARGV[3]  seconds that a request may have to wait at most
--
-- Returns the seconds to wait, as text; negative if that is too long: then nothing is reserved.
local key = ARGV[1] .. ':b:' .. ARGV[2]
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local AT_ONCE = 0.25 -- seconds of requests that may come at once
local RAMP, DOUBLES_EVERY, UNLIMITED = 30, 4, 16 -- seconds, seconds, requests per second where nothing limits them

local found = redis.call('HMGET', key, 'requests_per_second', 'ramp_from', 'request_at')
local rate, ramp_from = tonumber(found[1] or 0), tonumber(found[2] or 0)
if now < ramp_from + RAMP then
  local slow = (rate > 0 and rate or UNLIMITED) / 8 * 2 ^ (math.max(0, now - ramp_from) / DOUBLES_EVERY)
  rate = rate > 0 and math.min(rate, slow) or slow
end
if rate <= 0 then return '0' end
local at = math.max(tonumber(found[3] or 0), now)
local wait = at - now - AT_ONCE
if wait > tonumber(ARGV[3]) then return string.format('%.6f', -wait) end
redis.call('HSET', key, 'request_at', string.format('%.6f', at + 1 / rate))
return string.format('%.6f', math.max(0, wait))

-- Makes tiles due now that nobody holds and that are put off. Keys: see transition.lua.
--
-- ARGV[1]  namespace     ARGV[2...]  "campaign/tile"
local ns = ARGV[1]
local now = redis.call('TIME')[1]
for i = 2, #ARGV do
  local campaign, id = string.match(ARGV[i], '^([^/]+)/(.+)$')
  if redis.call('HEXISTS', ns .. ':c:' .. campaign .. ':t:' .. id, 'holder') == 0 then
    redis.call('ZADD', ns .. ':due', 'XX', now, ARGV[i])
  end
end

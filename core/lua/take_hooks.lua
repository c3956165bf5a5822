-- Take deliveries of one lane that are due, each for one caller only. ARGV: lane, now_ms, how many, how long they are taken
-- (ms). Answer: their ids.
-- A lane goes behind the others that are due once it had its turn. `hook_due` and `request_hook_due` say when a delivery is
-- due: a scheduler of the release before knows those alone.
local lane, now, most, held_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local name, lanes = PREFIX .. 'hook_lane:' .. lane, PREFIX .. 'hook_lanes'
local LOOK_AGAIN_MS = 1000  -- at what a scheduler of the release before holds

local taken = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', name, '-inf', now, 'LIMIT', 0, most)) do
  local due = redis.call('ZSCORE', PREFIX .. 'hook_due', id) or redis.call('ZSCORE', PREFIX .. 'request_hook_due', id)
  if due and tonumber(due) > now then
    redis.call('ZADD', name, due, id)
  elseif redis.call('SET', PREFIX .. 'hook_lock:' .. id, '1', 'NX', 'PX', held_ms) then
    redis.call('ZADD', name, now + held_ms, id)
    taken[#taken + 1] = id
  else
    redis.call('ZADD', name, now + LOOK_AGAIN_MS, id)
  end
end

local head = redis.call('ZRANGE', name, 0, 0, 'WITHSCORES')
if head[1] then
  redis.call('ZADD', lanes, math.max(tonumber(head[2]), now), lane)
else
  redis.call('ZREM', lanes, lane)
end
return taken

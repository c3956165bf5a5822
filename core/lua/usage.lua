-- What a tenant has used of its limits. ARGV: tenant, key with limits of its own ('' = none).
-- Answer: {now, ms of burst debt, used, reserved, ms until the day ends, jobs that wait in its queues, room in them that
-- is kept for its lists which are coming in}, and of the key: ms of burst debt, used, reserved.
local now = server_ms()

local function used_of(purse)
  local use = redis.call('HMGET', PREFIX .. 'use:' .. purse .. ':' .. day_of(now), 'used', 'reserved')
  local debt_ends = burst_ends(purse, now)
  return {math.ceil(math.max(0, debt_ends - now)), tonumber(use[1] or '0'), tonumber(use[2] or '0')}
end

local waiting = 0
for _, entity in ipairs(entities_of(ARGV[1])) do waiting = waiting + redis.call('ZCARD', PREFIX .. 'tq:' .. entity) end
local held = 0
for _, list in ipairs(redis.call('ZRANGE', PREFIX .. 'holds', 0, -1)) do
  local kept = redis.call('HMGET', PREFIX .. 'hold:' .. list, 'tenant', 'jobs')
  if kept[1] == ARGV[1] then held = held + (tonumber(kept[2]) or 0) end
end
local purses = purses_of(ARGV[1], ARGV[2])
local own, of_key = used_of(purses[1]), purses[2] and used_of(purses[2]) or {}
return {now, own[1], own[2], own[3], 86400000 - now % 86400000, waiting, held, unpack(of_key)}

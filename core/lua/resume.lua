-- End a pause: back into the race with what was parked, and into the interactive lane with what was to rise into it. In
-- portions, so that no call holds the server for long. ARGV: kind (lane, tenant, worker), name, cursor ('0' at first).
-- Answer: the cursor of the next call, '0' when all is done. The whole again, from the first call on, changes nothing.
-- A tenant that is at its cap as well is parked again by the next release. That release would also put right what the
-- conditions below keep out, entities that were parked for another reason and empty ones; they spare it the work.
local UNPARKED_AT_ONCE = 100
local LIFTED_AT_ONCE = 50
local kind, name, cursor = ARGV[1], ARGV[2], ARGV[3] or '0'
if cursor == '0' then redis.call('SREM', PREFIX .. 'paused', kind .. ':' .. name) end

local function unpark_lane()
  local page = redis.call('SSCAN', PREFIX .. 'parked', cursor, 'COUNT', UNPARKED_AT_ONCE)
  for _, entity in ipairs(page[2]) do
    local _, lane = parts_of(entity)
    if lane == name then
      redis.call('SREM', PREFIX .. 'parked', entity)
      if redis.call('EXISTS', PREFIX .. 'tq:' .. entity) == 1 then activate(entity) end
    end
  end
  return page[1]
end

local function lift_some()
  for _, id in ipairs(redis.call('SPOP', PREFIX .. 'rising', LIFTED_AT_ONCE)) do
    local job = read_job(id)
    if job and job.state == 'QUEUED' and job.lane ~= 'interactive' then
      dequeue(job)
      rise(job)
      enqueue(job)
    end
  end
end

local next_cursor = '0'
if cursor == 'rising' then
  lift_some()
elseif kind == 'tenant' then
  unpark(name)
elseif kind == 'lane' then
  next_cursor = unpark_lane()
end
local may_rise = redis.call('SISMEMBER', PREFIX .. 'paused', 'lane:interactive') == 0
if next_cursor == '0' and may_rise and redis.call('EXISTS', PREFIX .. 'rising') == 1 then next_cursor = 'rising' end
wake()
return next_cursor

-- Whether a queue holds waiting jobs alone and its work is what was counted, and put that right if not. ARGV: entity,
-- repair (1/0). Answer: {work counted too much, entry that is no waiting job…}. In one step, so a running service shows
-- no difference that is none.
local TOLD_MOST = 1000
local entity, repair = ARGV[1], ARGV[2] == '1'
local queue = PREFIX .. 'tq:' .. entity
local strays, truth = {}, 0
for _, id in ipairs(redis.call('ZRANGE', queue, 0, -1)) do
  local job = redis.call('HMGET', job_key(id), 'state', 'work')
  if job[1] == 'QUEUED' then truth = truth + (tonumber(job[2]) or 0) else strays[#strays + 1] = id end
end
local counted = tonumber(redis.call('HGET', PREFIX .. 'queued_work', entity) or '0')
local is_off = math.abs(counted - truth) > 0.001  -- fractions that were added and taken away leave less
if repair then
  for _, id in ipairs(strays) do redis.call('ZREM', queue, id) end
  if redis.call('EXISTS', queue) == 0 then
    redis.call('HDEL', PREFIX .. 'queued_work', entity)
  elseif is_off then
    redis.call('HSET', PREFIX .. 'queued_work', entity, exact(truth))
  end
end
return {is_off and exact(counted - truth) or '0', unpack(strays, 1, math.min(#strays, TOLD_MOST))}

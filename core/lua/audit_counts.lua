-- Whether the number of waiting jobs of each lane is what its queues hold, and put it right if not. ARGV: repair (1/0).
-- Answer: {lane, counted too many, …} of lanes that are off. After audit_queue: its strays are no waiting jobs.
local lengths, seen = {interactive = 0, batch = 0}, {}

local function add(entities)
  for _, entity in ipairs(entities) do
    local _, lane = parts_of(entity)
    if lane and lengths[lane] and not seen[entity] then
      seen[entity] = true
      lengths[lane] = lengths[lane] + redis.call('ZCARD', PREFIX .. 'tq:' .. entity)
    end
  end
end

for _, model in ipairs(all_models()) do add(redis.call('ZRANGE', PREFIX .. of_model('act', model), 0, -1)) end
add(redis.call('SMEMBERS', PREFIX .. 'parked'))
add(redis.call('HKEYS', PREFIX .. 'queued_work'))
local answer = {}
for _, lane in ipairs(LANES) do
  local counted = tonumber(redis.call('HGET', PREFIX .. 'nq', lane) or '0')
  if counted ~= lengths[lane] then
    answer[#answer + 1] = lane
    answer[#answer + 1] = counted - lengths[lane]
    if ARGV[1] == '1' then redis.call('HSET', PREFIX .. 'nq', lane, lengths[lane]) end
  end
end
return answer

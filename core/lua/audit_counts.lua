-- Whether the number of waiting jobs of each lane and further model (@model) is what the queues hold, and put it right if
-- not. ARGV: repair (1/0). Answer: {lane or @model, counted too many, …} of those that are off. After audit_queue: its strays are no waiting jobs.
local lengths, names, seen = {}, {}, {}
for _, lane in ipairs(LANES) do names[#names + 1] = lane end
for _, model in ipairs(redis.call('SMEMBERS', PREFIX .. 'models')) do names[#names + 1] = of_model('', model) end
for _, name in ipairs(names) do lengths[name] = 0 end

local function add(entities)
  for _, entity in ipairs(entities) do
    local _, lane, model = parts_of(entity)
    if lane and lengths[lane] and not seen[entity] then
      seen[entity] = true
      local waiting = redis.call('ZCARD', PREFIX .. 'tq:' .. entity)
      lengths[lane] = lengths[lane] + waiting
      local own = of_model('', model)
      if lengths[own] then lengths[own] = lengths[own] + waiting end
    end
  end
end

for _, model in ipairs(all_models()) do add(redis.call('ZRANGE', PREFIX .. of_model('act', model), 0, -1)) end
add(redis.call('SMEMBERS', PREFIX .. 'parked'))
add(redis.call('HKEYS', PREFIX .. 'queued_work'))
local answer = {}
for _, name in ipairs(names) do
  local counted = tonumber(redis.call('HGET', PREFIX .. 'nq', name) or '0')
  if counted ~= lengths[name] then
    answer[#answer + 1] = name
    answer[#answer + 1] = counted - lengths[name]
    if ARGV[1] == '1' then redis.call('HSET', PREFIX .. 'nq', name, lengths[name]) end
  end
end
return answer

-- How many jobs of each model wait in its queue, and how many of those a pause of their tenant or lane holds back.
-- Answer: {model, waiting, held back, …}; '' is the default model.
local models, lanes, tenants, held_back = all_models(), {}, {}, {}
for _, one in ipairs(redis.call('SMEMBERS', PREFIX .. 'paused')) do
  local kind, name = string.match(one, '^(%w+):(.*)$')
  if kind == 'lane' then lanes[name] = true end
  if kind == 'tenant' then tenants[#tenants + 1] = name end
end

local function hold_back(model, count) held_back[model] = (held_back[model] or 0) + count end

local function hold_entity(entity, model) hold_back(model, redis.call('ZCARD', PREFIX .. 'tq:' .. entity)) end

for _, tenant in ipairs(tenants) do
  for _, model in ipairs(models) do
    for _, lane in ipairs(LANES) do
      if not lanes[lane] then hold_entity(entity_of(tenant, lane, model), model) end
    end
  end
end

local seen = {}

local function hold_lanes_of(entities)
  for _, entity in ipairs(entities) do
    local _, lane, model = parts_of(entity)
    if not seen[entity] and lanes[lane] then hold_entity(entity, model) end
    seen[entity] = true
  end
end

if next(lanes) and models[2] then  -- what waits is in a race or parked; who came back just now is in both
  for _, model in ipairs(models) do hold_lanes_of(redis.call('ZRANGE', PREFIX .. of_model('act', model), 0, -1)) end
  hold_lanes_of(redis.call('SMEMBERS', PREFIX .. 'parked'))
else  -- of one model a lane is counted already, however many tenants wait in it
  for lane in pairs(lanes) do hold_back('', tonumber(redis.call('HGET', PREFIX .. 'nq', lane) or '0')) end
end

local answer = {}
for _, model in ipairs(models) do
  answer[#answer + 1] = model
  answer[#answer + 1] = waiting_of(model)
  answer[#answer + 1] = held_back[model] or 0
end
return answer

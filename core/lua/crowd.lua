-- Who is in a model's race, for the places of jobs behind many of them (core/crowd.py). ARGV: model ('' = the default's),
-- portion (0, 1, ...). Answer: for each one looked at {entity, virtual time, jobs, their work, its weight, how many it
-- stands for}, flat; nothing once all portions were told. The first ones each for themselves, since most places depend on
-- them; of those behind, an even sample. So all portions together are as short among 10,000 tenants as among 300, and
-- nobody's submit waits behind more than one of them. Who moves between two portions is seen twice or not: it is an estimate.
local AT_ONCE = 25
local FRONT = 3 * AT_ONCE
local BEHIND = 5 * AT_ONCE
local race = PREFIX .. of_model('act', ARGV[1])
local found = {}

local function add(heads, stands_for)
  for index = 1, #heads, 2 do
    local entity = heads[index]
    local tenant, lane = parts_of(entity)
    local weight = tonumber(redis.call('HGET', PREFIX .. 'lim:' .. tenant, 'weight') or '1') * WORK_WEIGHT[lane]
    local length = redis.call('ZCARD', PREFIX .. 'tq:' .. entity)
    local work = redis.call('HGET', PREFIX .. 'queued_work', entity) or length
    for _, value in ipairs({entity, heads[index + 1], length, work, exact(weight), exact(stands_for)}) do
      found[#found + 1] = value
    end
  end
end

local first = tonumber(ARGV[2]) * AT_ONCE
if first < FRONT then
  add(redis.call('ZRANGE', race, first, first + AT_ONCE - 1, 'WITHSCORES'), 1)
else
  local behind = redis.call('ZCARD', race) - FRONT
  local sampled = math.min(behind, BEHIND)
  for number = first - FRONT, math.min(first - FRONT + AT_ONCE, sampled) - 1 do
    local rank = FRONT + math.floor((number + 0.5) * behind / sampled)
    add(redis.call('ZRANGE', race, rank, rank, 'WITHSCORES'), behind / sampled)
  end
end
return found

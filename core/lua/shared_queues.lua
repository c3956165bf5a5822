-- Events, and queues: for each model start-time fair queueing over entities (tenant, lane).

local function emit(id, kind, data)
  redis.call('XADD', PREFIX .. 'ev:' .. id, 'MAXLEN', EVENTS_KEPT, '*', 'type', kind, 'data', data)
  redis.call('PUBLISH', PREFIX .. 'events', id)
end

local function emit_status(id, status) emit(id, 'status', '{"status":"' .. status .. '"}') end

-- One element is enough: whoever pops it looks at everything.
local function wake()
  if redis.call('LLEN', PREFIX .. 'wake') == 0 then redis.call('LPUSH', PREFIX .. 'wake', '1') end
end

local function entity_of(tenant, lane, model) return of_model(tenant .. '|' .. lane, model) end

-- Its tenant, lane and model.
local function parts_of(entity) return string.match(entity, '^(.*)|([^|@]*)@?([^|]*)$') end

local function entities_of(tenant)
  local found = {}
  for _, model in ipairs(all_models()) do
    for _, lane in ipairs(LANES) do found[#found + 1] = entity_of(tenant, lane, model) end
  end
  return found
end

local function present_of(model) return tonumber(redis.call('GET', PREFIX .. of_model('V', model)) or '0') end

-- An entity that comes back starts at the present virtual time: idling earns no credit.
local function activate(entity)
  local _, _, model = parts_of(entity)
  local race = PREFIX .. of_model('act', model)
  if redis.call('ZSCORE', race, entity) then return end
  local own = tonumber(redis.call('HGET', PREFIX .. 'vt', entity) or '0')
  redis.call('ZADD', race, exact(math.max(present_of(model), own)), entity)
  redis.call('HDEL', PREFIX .. 'vt', entity)
end

-- The work that waits in an entity's queue; nothing is kept of an empty one.
local function count_queued_work(entity, change)
  if redis.call('EXISTS', PREFIX .. 'tq:' .. entity) == 0 then
    redis.call('HDEL', PREFIX .. 'queued_work', entity)
  else
    redis.call('HINCRBYFLOAT', PREFIX .. 'queued_work', entity, exact(change))
  end
end

-- In nq: waiting jobs by lane, of all models; under @model those of a further model, of both lanes.
local function count_waiting(lane, model, change)
  redis.call('HINCRBY', PREFIX .. 'nq', lane, change)
  if model and model ~= '' then redis.call('HINCRBY', PREFIX .. 'nq', of_model('', model), change) end
end

-- Waiting jobs of a model; of the default one, what is not of another.
local function waiting_of(model)
  if model ~= '' then return tonumber(redis.call('HGET', PREFIX .. 'nq', of_model('', model)) or '0') end
  local counts, all = redis.call('HGETALL', PREFIX .. 'nq'), 0
  for index = 1, #counts, 2 do
    local is_model = string.sub(counts[index], 1, 1) == '@'
    all = all + (is_model and -1 or 1) * tonumber(counts[index + 1])
  end
  return all
end

local function count_queued(job, entity, change)
  count_waiting(job.lane, job.model, change)
  count_queued_work(entity, change * tonumber(job.work))
end

local function enqueue(job)
  local entity = entity_of(job.tenant, job.lane, job.model)
  local score = exact(tonumber(job.arrival) - tonumber(job.head_start))
  if redis.call('ZADD', PREFIX .. 'tq:' .. entity, score, job.id) == 1 then count_queued(job, entity, 1) end
  redis.call('ZADD', PREFIX .. 'deadline', job.deadline, job.id)
  activate(entity)
  wake()
end

local function dequeue(job)
  local entity = entity_of(job.tenant, job.lane, job.model)
  if redis.call('ZREM', PREFIX .. 'tq:' .. entity, job.id) == 1 then count_queued(job, entity, -1) end
end

-- A tenant that may have been parked at its cap has room below it again; the next release parks it anew if not.
local function unpark(tenant)
  for _, entity in ipairs(entities_of(tenant)) do
    if redis.call('SREM', PREFIX .. 'parked', entity) == 1 and redis.call('EXISTS', PREFIX .. 'tq:' .. entity) == 1 then
      activate(entity)
    end
  end
  wake()
end

local function free_slot(job)
  redis.call('ZREM', PREFIX .. 'run:' .. job.tenant, job.id)
  if job.worker then
    company_sum(job.worker)
    redis.call('SREM', PREFIX .. 'held:' .. job.worker, job.id)
  end
  if job.shelved and job.worker then redis.call('SREM', PREFIX .. 'shelf:' .. job.worker, job.id) end
  unpark(job.tenant)
end

-- Take a job out of whatever its state keeps it in.
local function leave(job)
  if job.state == 'QUEUED' then
    dequeue(job)
  elseif job.state == 'RELEASED' then
    redis.call('ZREM', PREFIX .. of_model('rel', job.model), job.id)
    free_slot(job)
  elseif job.state == 'RUNNING' then
    redis.call('ZREM', PREFIX .. 'lease', job.id)
    free_slot(job)
  elseif job.state == 'RETRY' then
    redis.call('ZREM', PREFIX .. 'retry', job.id)
  elseif job.state == 'FOLLOWING' then
    redis.call('ZREM', PREFIX .. 'fol:' .. job.flight, job.id)
  end
end

-- Not into a lane that an operator has paused: its own goes on, and resume.lua lifts what still waits then.
local function rise(job)
  if redis.call('SISMEMBER', PREFIX .. 'paused', 'lane:interactive') == 1 then
    redis.call('SADD', PREFIX .. 'rising', job.id)
    return
  end
  job.lane = 'interactive'
  redis.call('HSET', job_key(job.id), 'lane', job.lane)
end

-- Where an entity stands in its race, or would come back to, and whether it is in it.
local function stands_at(entity, model)
  local virtual = redis.call('ZSCORE', PREFIX .. of_model('act', model), entity)
  return tonumber(virtual or redis.call('HGET', PREFIX .. 'vt', entity) or nil), virtual and true
end

local function put_at(entity, model, virtual, is_racing)
  if is_racing then
    redis.call('ZADD', PREFIX .. of_model('act', model), exact(virtual), entity)
  else
    redis.call('HSET', PREFIX .. 'vt', entity, exact(virtual))
  end
end

-- A release that never ran costs its tenant no turn: what release.lua added to the virtual time is taken off again. What of it
-- lies ahead of the present is as long as a turn is by today's weight (see reweigh). Of what is past no more comes back than
-- was paid then, nor than this job's place now.
local function return_turn(job, lane)
  local weight = tonumber(redis.call('HGET', PREFIX .. 'lim:' .. job.tenant, 'weight') or '1')
  local turn = tonumber(job.work) / (weight * WORK_WEIGHT[lane])
  local epoch, paid = string.match(job.turn or '', '^(%d+):(.*)$')
  paid = epoch == job.epoch and tonumber(paid) or turn  -- else an older release's script released it
  local entity = entity_of(job.tenant, lane, job.model)
  local virtual, is_racing = stands_at(entity, job.model)
  if not virtual then return end
  local ahead = math.max(0, math.min(turn, virtual - present_of(job.model)))
  local past = turn > 0 and (1 - ahead / turn) * math.min(turn, paid) or 0
  put_at(entity, job.model, virtual - ahead - past, is_racing)
end

-- A tenant's turns are of another length from now on. So that its weight holds at once, what it has had of the work ahead of
-- the present, and what it is owed, stay the same work; only what is owed never grows. Before the new weight is stored.
local function reweigh(tenant, weight)
  local before = tonumber(redis.call('HGET', PREFIX .. 'lim:' .. tenant, 'weight') or '1')
  local factor = before / tonumber(weight)
  if factor == 1 then return end
  for _, entity in ipairs(entities_of(tenant)) do
    local _, _, model = parts_of(entity)
    local virtual, is_racing = stands_at(entity, model)
    if virtual then
      local present = present_of(model)
      local ahead = virtual - present
      put_at(entity, model, present + ahead * (ahead > 0 and factor or math.min(1, factor)), is_racing)
    end
  end
end

local function back_to_queue(job)
  local turn_of = job.state == 'RELEASED' and job.lane
  leave(job)
  redis.call('HSET', job_key(job.id), 'state', 'QUEUED')
  redis.call('HDEL', job_key(job.id), 'progress')
  if job.state == 'RUNNING' then emit_status(job.id, 'queued') end
  job.state = 'QUEUED'
  if job.rises then rise(job) end
  enqueue(job)
  if turn_of then return_turn(job, turn_of) end  -- last: who comes back into the race starts at the present time
end

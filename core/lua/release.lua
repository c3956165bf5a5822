-- Choose the next jobs by virtual time and mark them RELEASED. The window keeps the broker's queue short, so that
-- cancellation, priority and fairness stay here. Each model has a window and a race of its own.
-- ARGV: limit, claim_ms, worker_live_ms. Answer: {id, epoch, …}; of a further model's job epoch@model.
-- Replay-safe: a lost answer is an unclaimed release, which the reaper queues again.
local now = server_ms()

local paused = {}
for _, one in ipairs(redis.call('SMEMBERS', PREFIX .. 'paused')) do paused[one] = true end

local function is_paused(kind, name) return paused[kind .. ':' .. name] end

local seats = {}  -- model -> its live workers' slots, and the jobs that they hold

local function seats_of(model)
  seats[model] = seats[model] or {slots = 0, held = 0}
  return seats[model]
end

for _, name in ipairs(redis.call('ZRANGEBYSCORE', PREFIX .. 'workers', now - tonumber(ARGV[3]), '+inf')) do
  if not is_paused('worker', name) then
    local worker = redis.call('HMGET', PREFIX .. 'worker:' .. name, 'slots', 'queue')
    local own = seats_of(worker[2] or '')
    own.slots = own.slots + tonumber(worker[1] or '0')
    own.held = own.held + redis.call('SCARD', PREFIX .. 'held:' .. name)
  end
end

local PARKED_AT_ONCE = 100  -- of each model: a pause may stop thousands, and no step holds the server for long
local answer = {}

-- Out of the race until free_slot or resume brings it back; it keeps its virtual time.
local function park(race, entity, virtual)
  redis.call('ZREM', race, entity)
  redis.call('HSET', PREFIX .. 'vt', entity, exact(virtual))
  redis.call('SADD', PREFIX .. 'parked', entity)
end

-- What does not change within a call is read once, and what can be written together is: the server does nothing else
-- meanwhile.
local tenants = {}

local function tenant_named(name)
  if not tenants[name] then
    local limits = redis.call('HMGET', PREFIX .. 'lim:' .. name, 'weight', 'running')
    tenants[name] = {
      weight = tonumber(limits[1] or '1'),
      most = tonumber(limits[2] or '1000000'),
      running = redis.call('ZCARD', PREFIX .. 'run:' .. name),
    }
  end
  return tenants[name]
end

local released, popped_of = {}, nil
local claim_deadline

-- `turn` is what the release costs, in virtual time; return_turn takes it off again.
local function mark_released(id, tenant, epoch, worker, model, turn)
  redis.call('HSET', job_key(id), 'state', 'RELEASED', 'epoch', epoch, 'turn', epoch .. ':' .. exact(turn))
  if worker then redis.call('HDEL', job_key(id), 'worker') end
  redis.call('ZADD', PREFIX .. 'run:' .. tenant, now, id)
  released[#released + 1] = claim_deadline + #released / 2  -- a millisecond apart, so that they stand in their order
  released[#released + 1] = id
  answer[#answer + 1] = id
  answer[#answer + 1] = of_model(epoch, model)
end

local function release_of(model)
  local slots, held = seats_of(model).slots, seats_of(model).held
  if slots == 0 then return end
  local race, clock, rel = PREFIX .. of_model('act', model), PREFIX .. of_model('V', model), PREFIX .. of_model('rel', model)
  local window = math.floor(1.5 * slots) + 2
  local left = math.min(tonumber(ARGV[1]) - #answer / 2, window - redis.call('ZCARD', rel) - held)
  claim_deadline = claim_until(now, ARGV[2], model)
  local present = tonumber(redis.call('GET', clock) or '0')
  released, popped_of = {}, {interactive = 0, batch = 0}
  local parked = 0
  while left > 0 and parked < PARKED_AT_ONCE do
    local head = redis.call('ZRANGE', race, 0, 0, 'WITHSCORES')
    if not head[1] then break end
    local entity, virtual = head[1], tonumber(head[2])
    local name, lane = parts_of(entity)
    local tenant = tenant_named(name)
    if tenant.running >= tenant.most or is_paused('tenant', name) or is_paused('lane', lane) then
      park(race, entity, virtual)
      parked = parked + 1
    else
      local id = redis.call('ZPOPMIN', PREFIX .. 'tq:' .. entity)[1]
      local job = id and redis.call('HMGET', job_key(id), 'work', 'epoch', 'worker')
      if not id then
        redis.call('ZREM', race, entity)
        redis.call('HSET', PREFIX .. 'vt', entity, exact(virtual))
      elseif tonumber(job[1]) and tonumber(job[2]) then
        local work = tonumber(job[1])
        local turn = work / (tenant.weight * WORK_WEIGHT[lane])
        count_queued_work(entity, -work)
        popped_of[lane] = (popped_of[lane] or 0) + 1
        mark_released(id, name, tonumber(job[2]) + 1, job[3], model, turn)
        tenant.running = tenant.running + 1
        present = math.max(present, virtual)
        redis.call('ZADD', race, exact(virtual + turn), entity)
        left = left - 1
      else  -- its record is gone or broken, and with it how much work it was: the audit counts that anew
        count_queued_work(entity, 0)
        popped_of[lane] = (popped_of[lane] or 0) + 1
      end
    end
  end
  if parked == PARKED_AT_ONCE then wake() end  -- the next step goes on at once
  if #released > 0 then
    redis.call('ZADD', rel, unpack(released))
    redis.call('SET', clock, exact(present))
  end
  for lane, count in pairs(popped_of) do
    if count > 0 then count_waiting(lane, model, 0 - count) end
  end
end

for _, model in ipairs(all_models()) do release_of(model) end
return answer

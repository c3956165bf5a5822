-- Choose the next jobs by virtual time and mark them RELEASED. The window keeps the broker's queue short, so that
-- cancellation, priority and fairness stay here. ARGV: limit, claim_ms, worker_live_ms. Answer: {id, epoch, …}.
-- Replay-safe: a lost answer is an unclaimed release, which the reaper queues again.
local now = server_ms()

local paused = {}
for _, one in ipairs(redis.call('SMEMBERS', PREFIX .. 'paused')) do paused[one] = true end

local function is_paused(kind, name) return paused[kind .. ':' .. name] end

local slots, held = 0, 0
for _, name in ipairs(redis.call('ZRANGEBYSCORE', PREFIX .. 'workers', now - tonumber(ARGV[3]), '+inf')) do
  if not is_paused('worker', name) then
    slots = slots + tonumber(redis.call('HGET', PREFIX .. 'worker:' .. name, 'slots') or '0')
    held = held + redis.call('SCARD', PREFIX .. 'held:' .. name)
  end
end
if slots == 0 then return {} end
local window = math.floor(1.5 * slots) + 2
local left = math.min(tonumber(ARGV[1]), window - redis.call('ZCARD', PREFIX .. 'rel') - held)

local measured = tonumber(redis.call('HGET', PREFIX .. 'pace', 'run_ms') or '0')
local claim_deadline = now + math.ceil(math.max(tonumber(ARGV[2]), 3 * measured))
local present = tonumber(redis.call('GET', PREFIX .. 'V') or '0')
local answer = {}

-- Out of the race until free_slot or resume brings it back; it keeps its virtual time.
local function park(entity, virtual)
  redis.call('ZREM', PREFIX .. 'act', entity)
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

local released, popped_of = {}, {interactive = 0, batch = 0}

local function mark_released(id, tenant, epoch, worker)
  redis.call('HSET', job_key(id), 'state', 'RELEASED', 'epoch', epoch)
  if worker then redis.call('HDEL', job_key(id), 'worker') end
  redis.call('ZADD', PREFIX .. 'run:' .. tenant, now, id)
  released[#released + 1] = claim_deadline
  released[#released + 1] = id
  answer[#answer + 1] = id
  answer[#answer + 1] = epoch
end

while left > 0 do
  local head = redis.call('ZRANGE', PREFIX .. 'act', 0, 0, 'WITHSCORES')
  if not head[1] then break end
  local entity, virtual = head[1], tonumber(head[2])
  local name, lane = string.match(entity, '^(.*)|([^|]*)$')
  local tenant = tenant_named(name)
  if tenant.running >= tenant.most or is_paused('tenant', name) or is_paused('lane', lane) then
    park(entity, virtual)
  else
    local id = redis.call('ZPOPMIN', PREFIX .. 'tq:' .. entity)[1]
    local job = id and redis.call('HMGET', job_key(id), 'work', 'epoch', 'worker')
    if not id then
      redis.call('ZREM', PREFIX .. 'act', entity)
      redis.call('HSET', PREFIX .. 'vt', entity, exact(virtual))
    elseif job[1] then
      local work = tonumber(job[1])
      count_queued_work(entity, -work)
      popped_of[lane] = popped_of[lane] + 1
      mark_released(id, name, tonumber(job[2]) + 1, job[3])
      tenant.running = tenant.running + 1
      present = math.max(present, virtual)
      redis.call('ZADD', PREFIX .. 'act', exact(virtual + work / (tenant.weight * WORK_WEIGHT[lane])), entity)
      left = left - 1
    end
  end
end
if #answer > 0 then
  redis.call('ZADD', PREFIX .. 'rel', unpack(released))
  redis.call('SET', PREFIX .. 'V', exact(present))
  for lane, count in pairs(popped_of) do
    if count > 0 then redis.call('HINCRBY', PREFIX .. 'nq', lane, 0 - count) end
  end
end
return answer

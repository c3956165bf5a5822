-- Choose the next jobs by virtual time and mark them RELEASED. The window keeps the broker's queue short, so that
-- cancellation, priority and fairness stay here. ARGV: limit, claim_ms, worker_live_ms. Answer: {id, epoch, …}.
-- Replay-safe: a lost answer is an unclaimed release, which the reaper queues again.
local now = server_ms()

local function is_paused(kind, name) return redis.call('SISMEMBER', PREFIX .. 'paused', kind .. ':' .. name) == 1 end

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

while left > 0 do
  local head = redis.call('ZRANGE', PREFIX .. 'act', 0, 0, 'WITHSCORES')
  if not head[1] then break end
  local entity, virtual = head[1], tonumber(head[2])
  local tenant, lane = string.match(entity, '^(.*)|([^|]*)$')
  local limits = redis.call('HMGET', PREFIX .. 'lim:' .. tenant, 'weight', 'running')
  local running = redis.call('ZCARD', PREFIX .. 'run:' .. tenant)
  if running >= tonumber(limits[2] or '1000000') or is_paused('tenant', tenant) or is_paused('lane', lane) then
    park(entity, virtual)
  else
    local popped = redis.call('ZPOPMIN', PREFIX .. 'tq:' .. entity)
    local job = popped[1] and read_job(popped[1])
    if not popped[1] then
      redis.call('ZREM', PREFIX .. 'act', entity)
      redis.call('HSET', PREFIX .. 'vt', entity, exact(virtual))
    elseif job then
      count_queued(job, entity, -1)
      local epoch = redis.call('HINCRBY', job_key(job.id), 'epoch', 1)
      redis.call('HSET', job_key(job.id), 'state', 'RELEASED')
      redis.call('HDEL', job_key(job.id), 'worker')
      redis.call('ZADD', PREFIX .. 'rel', claim_deadline, job.id)
      redis.call('ZADD', PREFIX .. 'run:' .. tenant, now, job.id)
      present = math.max(present, virtual)
      local weight = tonumber(limits[1] or '1') * WORK_WEIGHT[lane]
      redis.call('ZADD', PREFIX .. 'act', exact(virtual + tonumber(job.work) / weight), entity)
      answer[#answer + 1] = job.id
      answer[#answer + 1] = epoch
      left = left - 1
    end
  end
end
if #answer > 0 then redis.call('SET', PREFIX .. 'V', exact(present)) end
return answer

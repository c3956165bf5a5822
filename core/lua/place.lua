-- Where a waiting job stands. ARGV: id, worker_live_ms. Answer: nil if it does not wait, else
-- {jobs released before it, work of those, jobs released or running, their share of work, gap_ms, run_ms, live slots}.
-- Position follows the virtual start times that release.lua will use, not the time of submission.
local job = read_job(ARGV[1])
if not job or (job.state ~= 'QUEUED' and job.state ~= 'RELEASED' and job.state ~= 'RETRY') then return false end
local SAMPLE = 200
local now = server_ms()
local ahead, work_ahead = 0, 0
local entity = entity_of(job.tenant, job.lane, job.model)
local race = PREFIX .. of_model('act', job.model)

local function virtual_of(name)
  return tonumber(redis.call('ZSCORE', race, name) or redis.call('HGET', PREFIX .. 'vt', name)
    or redis.call('GET', PREFIX .. of_model('V', job.model)) or '0')
end

local function weight_of(name)
  local tenant, lane = parts_of(name)
  return tonumber(redis.call('HGET', PREFIX .. 'lim:' .. tenant, 'weight') or '1') * WORK_WEIGHT[lane]
end

-- Of an entity's queue: how many start before the virtual time `tag`, and their mean work.
local function before(name, virtual, tag, queued_work)
  local length = redis.call('ZCARD', PREFIX .. 'tq:' .. name)
  if length == 0 then return 0, 1 end
  local mean = tonumber(queued_work or length) / length
  local step = math.max(1e-9, mean) / weight_of(name)
  return math.max(0, math.min(length, math.ceil((tag - virtual) / step - 1e-6))), mean
end

-- The others that are served before `tag`. Of very many, an even sample stands for all: the call stays short.
local function count_others(tag)
  local heads = redis.call('ZRANGEBYSCORE', race, '-inf', '(' .. exact(tag), 'WITHSCORES')
  local stride = math.max(1, math.ceil(#heads / 2 / SAMPLE))
  local names, virtuals = {}, {}
  for index = 1, #heads, 2 * stride do
    names[#names + 1] = heads[index]
    virtuals[#virtuals + 1] = tonumber(heads[index + 1])
  end
  if #names == 0 then return end
  local works = redis.call('HMGET', PREFIX .. 'queued_work', unpack(names))
  local scale = #heads / 2 / #names
  local jobs, work = 0, 0
  for index, name in ipairs(names) do
    if name ~= entity then
      local count, mean = before(name, virtuals[index], tag, works[index])
      jobs, work = jobs + count * scale, work + count * mean * scale
    end
  end
  ahead, work_ahead = ahead + math.floor(jobs + 0.5), work_ahead + work
end

if job.state == 'QUEUED' then
  local rank = redis.call('ZRANK', PREFIX .. 'tq:' .. entity, job.id) or 0
  local virtual = virtual_of(entity)
  local _, mean = before(entity, virtual, 0, redis.call('HGET', PREFIX .. 'queued_work', entity))
  ahead, work_ahead = rank, rank * mean
  count_others(virtual + rank * mean / weight_of(entity))
end
local slots, held = 0, 0
for _, name in ipairs(redis.call('ZRANGEBYSCORE', PREFIX .. 'workers', now - tonumber(ARGV[2]), '+inf')) do
  local worker = redis.call('HMGET', PREFIX .. 'worker:' .. name, 'slots', 'queue')
  if (worker[2] or '') == (job.model or '') then
    slots = slots + tonumber(worker[1] or '0')
    held = held + redis.call('SCARD', PREFIX .. 'held:' .. name)
  end
end
local pace = redis.call('HMGET', PREFIX .. of_model('pace', job.model), 'gap_ms', 'run_ms', 'mean_work')
local busy = redis.call('ZCARD', PREFIX .. of_model('rel', job.model)) + held
return {ahead, exact(work_ahead), busy, job.work, pace[1] or '', pace[2] or '', slots}

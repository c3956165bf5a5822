-- Where a waiting job stands; one that follows stands where whoever draws for it now does, whose run may have begun.
-- ARGV: id, worker_live_ms. Answer: nil if it does not wait, else
-- {jobs released before it (-1: it is released itself), work of those, work released or running, its work, gap_ms,
--  run_ms of its size in the company that it will have, live slots, how long it waits at least (ms, 0 = not at all): for
--  its tenant's cap of running jobs, or for its next try,
--  1 if an operator stopped what it waits for, its virtual start time if many start before it (then the first two count
--  its own queue alone, see crowd.lua), else '', entity, model, and as they are told to who asks when to come again: gap_ms
--  and how long it waits at least, where a guess would make them shorter than was ever seen}.
-- Position follows the virtual start times that release.lua will use, not the time of submission.
local job = read_job(ARGV[1])
local follows = job and job.state == 'FOLLOWING' and job.fingerprint
if follows then
  local leader = redis.call('GET', PREFIX .. 'fp:' .. job.tenant .. ':' .. job.fingerprint)
  job = leader and read_job(leader)
end
local WAITS = {QUEUED = true, RELEASED = true, RETRY = true, RUNNING = follows}
if not job or not WAITS[job.state] then return false end
local FEW = 32
local OLDEST_RUNS = 16
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

-- The others that are served before `tag`. Of many the caller knows, who looks at them once for many places.
local function count_others(tag)
  if redis.call('ZCOUNT', race, '-inf', '(' .. exact(tag)) > FEW then return exact(tag) end
  local heads = redis.call('ZRANGEBYSCORE', race, '-inf', '(' .. exact(tag), 'WITHSCORES')
  for index = 1, #heads, 2 do
    local name = heads[index]
    if name ~= entity then
      local count, mean = before(name, tonumber(heads[index + 1]), tag, redis.call('HGET', PREFIX .. 'queued_work', name))
      ahead, work_ahead = ahead + count, work_ahead + count * mean
    end
  end
  return ''
end

local own_ahead = 0  -- of its tenant, whose cap they share
local behind_many = ''

-- How many of its own queue are before it. Who waits for the next try comes back to where it stood.
local function rank_of()
  local queue = PREFIX .. 'tq:' .. entity
  if job.state == 'QUEUED' then return redis.call('ZRANK', queue, job.id) or 0 end
  return redis.call('ZCOUNT', queue, '-inf', '(' .. exact(tonumber(job.arrival) - tonumber(job.head_start)))
end

local runs = job.state == 'RUNNING'
local waits = job.state ~= 'RELEASED' and not runs  -- what is on its way goes on

if waits then
  local rank = rank_of()
  local virtual = virtual_of(entity)
  local _, mean = before(entity, virtual, 0, redis.call('HGET', PREFIX .. 'queued_work', entity))
  ahead, work_ahead = rank, rank * mean
  local tag = virtual + rank * mean / weight_of(entity)
  behind_many = count_others(tag)
  local other = entity_of(job.tenant, job.lane == 'batch' and 'interactive' or 'batch', job.model)
  own_ahead = rank + before(other, virtual_of(other), tag, redis.call('HGET', PREFIX .. 'queued_work', other))
end

local function is_paused(name) return redis.call('SISMEMBER', PREFIX .. 'paused', name) == 1 end

local stopped = waits and (is_paused('lane:' .. job.lane) or is_paused('tenant:' .. job.tenant))
local slots, workers, held, resting = 0, 0, 0, 0
for _, name in ipairs(redis.call('ZRANGEBYSCORE', PREFIX .. 'workers', now - tonumber(ARGV[2]), '+inf')) do
  local worker = redis.call('HMGET', PREFIX .. 'worker:' .. name, 'slots', 'queue')
  if (worker[2] or '') == (job.model or '') then
    if is_paused('worker:' .. name) then
      resting = resting + 1
    else
      local seats = tonumber(worker[1] or '0')  -- none while it takes nothing
      slots, workers = slots + seats, workers + (seats > 0 and 1 or 0)
    end
    held = held + redis.call('SCARD', PREFIX .. 'held:' .. name)
  end
end
local riding = redis.call('ZCARD', PREFIX .. of_model('rel', job.model)) + held
local busy = riding
if runs then
  busy = 0  -- nothing is before it any more
elseif not waits then  -- neither itself nor what was released after it is before it
  local rel = PREFIX .. of_model('rel', job.model)
  busy = busy - redis.call('ZCARD', rel) + (redis.call('ZRANK', rel, job.id) or redis.call('ZCARD', rel))
end
if slots == 0 and resting > 0 then stopped = true end

-- How many will ride: what is on its way, and what waits and may start, as far as there are seats. (What is paused or at
-- its tenant's cap is not in the race.)
local function riders()
  local found = riding
  for _, name in ipairs(redis.call('ZRANGE', race, 0, FEW - 1)) do
    if slots > 0 and found >= slots then break end
    found = found + redis.call('ZCARD', PREFIX .. 'tq:' .. name)
  end
  return found
end

-- Of all ends that were measured: {their mean run in ms, work}, and the same by company: {{company, ms of a unit of work}}.
local function measured()
  local fields, values, by_company = redis.call('HGETALL', PREFIX .. of_model('pace', job.model)), {}, {}
  for index = 1, #fields, 2 do values[fields[index]] = tonumber(fields[index + 1]) end
  for name, ms in pairs(values) do
    local company = tonumber(string.match(name, '^ms:(%d+)$'))
    if company then by_company[#by_company + 1] = {company, ms / values['work:' .. company]} end
  end
  table.sort(by_company, function(one, other) return one[1] < other[1] end)
  for index = #by_company - 1, 1, -1 do  -- less company never takes longer
    by_company[index][2] = math.min(by_company[index][2], by_company[index + 1][2])
  end
  return values, by_company
end

-- The run of a unit of work in so much company: on the line between the two measured ones around it. Whoever has not
-- been seen riding alone, or in so many, is taken to share the card evenly.
local function run_in(company, by_company)
  local below = {0, 0}
  for _, above in ipairs(by_company) do
    if above[1] >= company then
      return below[2] + (above[2] - below[2]) * (company - below[1]) / (above[1] - below[1])
    end
    below = above
  end
  return below[2] * company / below[1]
end

local pace, by_company = measured()
local mean_work = pace.mean_work or tonumber(job.work)
local run_ms = pace.run_ms and pace.run_ms * tonumber(job.work) / mean_work
local gap_ms = pace.gap_ms
local longest_ms, longest_gap_ms = run_ms, gap_ms
if by_company[1] then
  local company, largest = riders(), by_company[#by_company]
  company = slots > 0 and math.min(company, slots) / workers or math.min(company, largest[1])
  run_ms = run_in(math.max(1, company), by_company) * tonumber(job.work)
  -- The gap says little of a full service where pictures came one by one, or more workers live now (Little's law).
  gap_ms = math.min(gap_ms, largest[2] / largest[1] / math.max(1, workers))
  -- Less company, or fewer seats, than was ever measured may take as long as the least that was: no card is known to share.
  local least = by_company[1]
  longest_ms, longest_gap_ms = company < least[1] and least[2] * tonumber(job.work) or run_ms, gap_ms
  if slots > 0 and slots / workers < least[1] then longest_gap_ms = math.max(gap_ms, least[2] / slots) end
end

if runs then  -- what is left of the run is all that there is to wait for
  local passed = now - (tonumber(job.started) or now)
  run_ms, longest_ms = run_ms and math.max(0, run_ms - passed), longest_ms and math.max(0, longest_ms - passed)
end

-- A tenant at its cap: one of its jobs starts as one of its own ends, the next one when the longest run is over.
local most = tonumber(redis.call('HGET', PREFIX .. 'lim:' .. job.tenant, 'running') or '1000000')
local ends = own_ahead + redis.call('ZCARD', PREFIX .. 'run:' .. job.tenant) - most + 1

local function longest_passed()
  local passed = 0  -- of the run that has taken longest; releases are in the order of their time
  for _, id in ipairs(redis.call('ZRANGE', PREFIX .. 'run:' .. job.tenant, 0, OLDEST_RUNS - 1)) do
    local run = redis.call('HMGET', job_key(id), 'state', 'started')
    if run[1] == 'RUNNING' then passed = math.max(passed, now - tonumber(run[2])) end
  end
  return passed
end

-- For a run of run_ms, and for one of longest_ms.
local function waits_for_cap()
  if not waits or ends <= 0 or most < 1 then return 0, 0 end
  local passed = longest_passed()
  local function wait(run_ms) return math.max(0, run_ms - passed) + (ends - 1) * run_ms / most end
  return wait(run_ms or 0), wait(longest_ms or 0)
end

local function wait_for_next_try()
  if job.state ~= 'RETRY' then return 0 end
  return tonumber(redis.call('ZSCORE', PREFIX .. 'retry', job.id) or now) - now
end

local for_cap, longest_for_cap = waits_for_cap()
local for_next_try = wait_for_next_try()
return {waits and ahead or -1, exact(work_ahead), exact(busy * mean_work), runs and '0' or job.work, gap_ms and exact(gap_ms) or '',
  run_ms and exact(run_ms) or '', slots, exact(math.max(for_cap, for_next_try)), stopped and 1 or 0,
  behind_many, entity, job.model or '', longest_gap_ms and exact(longest_gap_ms) or '',
  exact(math.max(longest_for_cap, for_next_try))}

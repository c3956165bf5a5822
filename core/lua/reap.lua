-- Take back what ran out. ARGV: most of each kind, max_crashes, stall_ms, lease_ms.
-- Answer: {stalled, leases, poisoned, unclaimed, retries, expired deadlines, mirrored followers}.
-- Safe from any number of schedulers: each step is atomic, each due thing is due once.
local POISON = '{"code":"poison","message":"The job ended its worker each time it ran alone.","retryable":false}'
local LATE = '{"code":"deadline_exceeded","message":"The job did not finish within its deadline.","retryable":false}'
local TICK_KEPT_MS = 500
local HOPELESS = 5  -- times max_crashes: leases lost for whatever reason
local now = server_ms()
local most = tonumber(ARGV[1])
local stalled, leases, poisoned, unclaimed, retries, late, mirrored = 0, 0, 0, 0, 0, 0, 0

local function due(name) return redis.call('ZRANGEBYSCORE', PREFIX .. name, '-inf', now, 'LIMIT', 0, most) end

-- We, or Redis, stood still: workers could not renew or claim, so everybody gets one more period.
local last = tonumber(redis.call('GET', PREFIX .. 'tick') or now)
-- A younger tick says the same; with an append-only file every write waits for the disk.
if now - last >= TICK_KEPT_MS or last == now then redis.call('SET', PREFIX .. 'tick', now) end
if now - last > tonumber(ARGV[3]) then
  redis.call('SET', PREFIX .. 'grace', now + tonumber(ARGV[4]))
  stalled = 1
end

-- Whether a job that was claimed as `alone` rode when its worker died, or still waited for jobs claimed before it. The
-- leases of one death run out within a third of a lease of each other, and the same worker can not die twice sooner
-- than in a whole one.
local function rode_alone(job)
  if not job.ran_alone then return false end
  local key = PREFIX .. 'crashed:' .. job.worker
  local first = tonumber(redis.call('GET', key) or job.started)
  for _, id in ipairs(redis.call('SMEMBERS', PREFIX .. 'held:' .. job.worker)) do
    first = math.min(first, tonumber(redis.call('HGET', job_key(id), 'started') or first))
  end
  return tonumber(job.started) <= first
end

local function remember_crash(job)
  local key = PREFIX .. 'crashed:' .. job.worker
  local first = math.min(tonumber(redis.call('GET', key) or job.started), tonumber(job.started))
  redis.call('SET', key, first, 'PX', math.ceil(tonumber(ARGV[4]) / 2))
end

-- Whoever rode may have ended the worker. Its companions may be innocent: it rides by itself next time, and only then
-- does a crash count. Answer: its crashes and lost leases.
local function suspect(job)
  local crashes = tonumber(job.crashes or '0')
  if rode_alone(job) then crashes = redis.call('HINCRBY', job_key(job.id), 'crashes', 1) end
  local lost = redis.call('HINCRBY', job_key(job.id), 'lost_leases', 1)
  remember_crash(job)
  redis.call('HSET', job_key(job.id), 'alone', 1)
  return crashes, lost
end

local function lease_ran_out(job)
  local crashes, lost = 0, 0
  -- One whose picture was drawn already rode no more: its next run finds the picture on the worker's disk.
  if not is_shelved(job) then crashes, lost = suspect(job) end
  if job.cancel then
    cancel_as_leader(job)
  elseif crashes >= tonumber(ARGV[2]) or lost >= HOPELESS * tonumber(ARGV[2]) then
    die_as_leader(job, POISON, true)
    poisoned = poisoned + 1
  else
    back_to_queue(job)
  end
end

-- The state is asked everywhere below, since an entry may outlive its job's state where a failover lost the last writes.
if now >= tonumber(redis.call('GET', PREFIX .. 'grace') or '0') then
  for _, id in ipairs(due('lease')) do
    local job = read_job(id)
    redis.call('ZREM', PREFIX .. 'lease', id)
    if job and job.state == 'RUNNING' then
      lease_ran_out(job)
      leases = leases + 1
    end
  end
  for _, model in ipairs(all_models()) do
    local rel = of_model('rel', model)
    for _, id in ipairs(due(rel)) do
      local job = read_job(id)
      redis.call('ZREM', PREFIX .. rel, id)
      if job and job.state == 'RELEASED' then
        back_to_queue(job)
        unclaimed = unclaimed + 1
      end
    end
  end
end

for _, id in ipairs(due('retry')) do
  local job = read_job(id)
  redis.call('ZREM', PREFIX .. 'retry', id)
  if job and job.state == 'RETRY' then
    back_to_queue(job)
    retries = retries + 1
  end
end

for _, id in ipairs(due('deadline')) do
  local job = read_job(id)
  if not job or TERMINAL[job.state] or job.state == 'RUNNING' then
    redis.call('ZREM', PREFIX .. 'deadline', id)  -- a running job may finish; queued again, it is entered again
  elseif job.state == 'FOLLOWING' and redis.call('EXISTS', PREFIX .. 'mirror:' .. job.flight) == 1 then
    redis.call('ZADD', PREFIX .. 'deadline', now + 1000, id)  -- its end is on the way
  else
    local leads = job.state ~= 'FOLLOWING'
    if leads then die_as_leader(job, LATE, true) else die(job, LATE) end
    late = late + 1
  end
end

for _, flight in ipairs(redis.call('SRANDMEMBER', PREFIX .. 'mirrors', most)) do
  if mirrored < most then mirrored = mirrored + mirror(flight) end
end
return {stalled, leases, poisoned, unclaimed, retries, late, mirrored}

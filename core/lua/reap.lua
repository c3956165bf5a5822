-- Take back what ran out. ARGV: most jobs, max_crashes, stall_ms, lease_ms, claim_ms, the longest delay of a retry, how long
-- a list's hold lives unused. One budget bounds a call, whatever is due:
-- each entry costs one, and one more for each follower that ends with it.
-- Answer: {stalled, leases, poisoned, unclaimed, retries, expired deadlines, mirrored followers, 1 if there may be more,
--  ids of broken records that were put aside*}.
-- Safe from any number of schedulers: each step is atomic, each due thing is due once.
local POISON = '{"code":"poison","message":"The job ended its worker each time it ran alone.","retryable":false}'
local LATE = '{"code":"deadline_exceeded","message":"The job did not finish within its deadline.","retryable":false}'
local TICK_KEPT_MS = 500
local PULLED_IN_AT_ONCE = 1000
local CLAIMS_APART_MS = 1000  -- of all that one call of release.lua sends
local HOPELESS = 5  -- times max_crashes: leases lost for whatever reason
local now = server_ms()
ends_left = tonumber(ARGV[1])
local stalled, leases, poisoned, unclaimed, retries, late, mirrored = 0, 0, 0, 0, 0, 0, 0

-- Do `take` for what is due, as far as the budget goes. A record that it can not work with is due no more: it would be the
-- first again each time, and nothing behind it would ever be taken.
local function for_due(name, take)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', PREFIX .. name, '-inf', now, 'LIMIT', 0, math.max(0, ends_left))) do
    if ends_left <= 0 then return end
    local before = ends_left
    if not pcall(take, id, read_job(id)) then
      redis.call('ZREM', PREFIX .. name, id)  -- where the server refuses writes this says so
      broken[#broken + 1] = id
    end
    if ends_left == before then ends_left = before - 1 end  -- nobody ended, but it was work
  end
end

-- Where the clock went back, as after a failover to a host with another one, nothing waits until the old time comes again:
-- no entry may lie further ahead than it could have been put now.
local function pull_in(name, until_ms)
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', PREFIX .. name, '(' .. exact(until_ms), '+inf',
    'LIMIT', 0, PULLED_IN_AT_ONCE)) do
    redis.call('ZADD', PREFIX .. name, exact(until_ms), member)
  end
end

pull_in('lease', now + tonumber(ARGV[4]))
pull_in('workers', now)
for name, most in pairs({retry = ARGV[6], holds = ARGV[7]}) do pull_in(name, now + tonumber(most)) end
for _, model in ipairs(all_models()) do
  pull_in(of_model('rel', model), claim_until(now, ARGV[5], model) + CLAIMS_APART_MS)
end

-- We, or Redis, stood still: workers could not renew or claim, so everybody gets one more period. So too where the clock
-- went back.
local last = tonumber(redis.call('GET', PREFIX .. 'tick') or now)
local gap = math.abs(now - last)
-- A younger tick says the same; with an append-only file every write waits for the disk.
if gap >= TICK_KEPT_MS or last == now then redis.call('SET', PREFIX .. 'tick', now) end
if gap > tonumber(ARGV[3]) then
  local until_ms = now + tonumber(ARGV[4])
  redis.call('SET', PREFIX .. 'grace', until_ms)
  stalled = 1
end

-- Who rode alone has ended its worker, and nobody who waited meanwhile is suspected (take_seat.lua). In company anybody
-- may have done it: everybody rides alone next time, and only then does a crash count. Answer: its crashes and lost leases.
local function suspect(job)
  local rider = redis.call('GET', PREFIX .. 'solo:' .. job.worker)
  if rider and rider ~= job.token then return 0, 0 end
  redis.call('HSET', job_key(job.id), 'alone', 1)
  local crashes = rider and redis.call('HINCRBY', job_key(job.id), 'crashes', 1) or 0
  return crashes, redis.call('HINCRBY', job_key(job.id), 'lost_leases', 1)
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
  for_due('lease', function(id, job)
    redis.call('ZREM', PREFIX .. 'lease', id)
    if job and job.state == 'RUNNING' then
      lease_ran_out(job)
      leases = leases + 1
    end
  end)
  for _, model in ipairs(all_models()) do
    local rel = of_model('rel', model)
    for_due(rel, function(id, job)
      redis.call('ZREM', PREFIX .. rel, id)
      if job and job.state == 'RELEASED' then
        back_to_queue(job)
        unclaimed = unclaimed + 1
      end
    end)
  end
end

for_due('retry', function(id, job)
  redis.call('ZREM', PREFIX .. 'retry', id)
  if job and job.state == 'RETRY' then
    back_to_queue(job)
    retries = retries + 1
  end
end)

for_due('deadline', function(id, job)
  if not job or TERMINAL[job.state] or job.state == 'RUNNING' then
    redis.call('ZREM', PREFIX .. 'deadline', id)  -- a running job may finish; queued again, it is entered again
  elseif job.state == 'FOLLOWING' and redis.call('EXISTS', PREFIX .. 'mirror:' .. job.flight) == 1 then
    redis.call('ZADD', PREFIX .. 'deadline', now + 1000, id)  -- its end is on the way
  else
    local leads = job.state ~= 'FOLLOWING'
    if leads then die_as_leader(job, LATE, true, true) else die(job, LATE) end
    late = late + 1
  end
end)

if ends_left > 0 then
  for _, flight in ipairs(redis.call('SRANDMEMBER', PREFIX .. 'mirrors', ends_left)) do
    mirrored = mirrored + mirror(flight)
  end
end
return {stalled, leases, poisoned, unclaimed, retries, late, mirrored, ends_left <= 0 and 1 or 0, unpack(broken)}

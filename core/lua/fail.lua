-- A run ended badly -> RETRY or DEAD (or CANCELED where the owner had asked). ARGV: id, token, failure JSON,
-- retryable (1/0), then the delay in ms after the 1st, 2nd, … failure. Answer: the new state, or nil if fenced off.
local job = read_job(ARGV[1])
if not job or job.token ~= ARGV[2] then return false end
if job.state ~= 'RUNNING' then
  if job.state == 'RETRY' or TERMINAL[job.state] then return job.state end
  return false
end
if job.cancel then
  cancel_as_leader(job)
  return 'CANCELED'
end

local now = server_ms()
local left = tonumber(job.deadline) - now
local failures = redis.call('HINCRBY', job_key(job.id), 'failures', 1)
if ARGV[4] == '1' and failures < tonumber(job.max_attempts) and left > 0 then
  leave(job)
  local delay = tonumber(ARGV[4 + math.min(failures, #ARGV - 4)])
  redis.call('HSET', job_key(job.id), 'state', 'RETRY', 'failure', ARGV[3])
  redis.call('HDEL', job_key(job.id), 'progress')
  -- The next try must still fit before the deadline.
  redis.call('ZADD', PREFIX .. 'retry', now + math.min(delay, math.floor(left / 2)), job.id)
  emit_status(job.id, 'queued')
  return 'RETRY'
end
die_as_leader(job, ARGV[3], ARGV[4] == '1', left <= 0)
return 'DEAD'

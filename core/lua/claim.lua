-- RELEASED -> RUNNING under a lease. ARGV: id, epoch ('' = a message of a release that did not send it), token, worker,
-- lease_ms, the worker's model ('' = the default).
-- Answer: {attempt, alone, tenant, lane, created, deadline, request}, or nil for a duplicate, stale or canceled message.
local id, token, worker = ARGV[1], ARGV[3], ARGV[4]
local job = read_job(id)
if not job then return false end

local function lease_of(attempt, alone)
  local request = redis.call('HGET', job_key(id), 'request')
  return {tostring(attempt), alone and '1' or '0', job.tenant, job.lane, job.created, job.deadline, request}
end

if job.state == 'RUNNING' and job.token == token then return lease_of(job.attempt, job.alone) end
if job.state ~= 'RELEASED' then return false end
if ARGV[2] ~= '' and job.epoch ~= ARGV[2] then return false end
if not can_end(job) then  -- drawn for nothing: it could not be charged
  leave(job)
  return false
end
if redis.call('SISMEMBER', PREFIX .. 'paused', 'worker:' .. worker) == 1 then
  back_to_queue(job)
  return false
end

if (ARGV[6] or '') ~= (job.model or '') then  -- whoever serves that model takes it from its own queue
  back_to_queue(job)
  return false
end

local now = server_ms()
local attempt = redis.call('HINCRBY', job_key(id), 'attempt', 1)
redis.call('HSET', job_key(id), 'state', 'RUNNING', 'token', token, 'worker', worker, 'started', now,
  'ride', exact(company_sum(worker)))
if not job.started then observe('queue', now - tonumber(job.created)) end
redis.call('ZREM', PREFIX .. of_model('rel', job.model), id)
redis.call('ZADD', PREFIX .. 'lease', now + tonumber(ARGV[5]), id)
redis.call('SADD', PREFIX .. 'held:' .. worker, id)
emit_status(id, 'running')
return lease_of(attempt, job.alone)

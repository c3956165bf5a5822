-- Whether a job stands where its state says, and put it there if not. ARGV: id, repair (1/0). Answer: '' or what is wrong.
-- One job in one step: the auditor may walk over a running service.
local job = read_job(ARGV[1])
local repair = ARGV[2] == '1'
if not job then return '' end
local now = server_ms()

local wrong = ''

local function missing(key) return not redis.call('ZSCORE', PREFIX .. key, job.id) end

if TERMINAL[job.state] then
  if redis.call('HEXISTS', job_key(job.id), 'settled') == 1 then return '' end
  if repair then settle(job, job.state == 'SUCCEEDED' and 'charge' or 'refund') end
  return 'ended but not settled'
end
if job.state ~= 'RUNNING' and missing('deadline') then
  if repair then redis.call('ZADD', PREFIX .. 'deadline', job.deadline, job.id) end
  wrong = 'waits without a deadline'
end
if job.state == 'QUEUED' then
  local entity = entity_of(job.tenant, job.lane, job.model)
  local waits = not missing('tq:' .. entity)
  local is_seen = redis.call('ZSCORE', PREFIX .. of_model('act', job.model), entity)
    or redis.call('SISMEMBER', PREFIX .. 'parked', entity) == 1
  if waits and is_seen then return wrong end
  if repair then enqueue(job) end
  return waits and 'queued but its queue is not active' or 'queued but in no queue'
end
local place = ({RELEASED = of_model('rel', job.model), RUNNING = 'lease', RETRY = 'retry'})[job.state]
if place then
  if not missing(place) then return wrong end
  if repair then redis.call('ZADD', PREFIX .. place, now, job.id) end  -- due at once: the reaper takes it from there
  return string.lower(job.state) .. ' but not in ' .. place
end
if not missing('fol:' .. job.flight) then
  local leader = redis.call('GET', PREFIX .. 'fp:' .. job.tenant .. ':' .. job.fingerprint)
  local led = leader and read_job(leader)
  local is_led = led and led.id ~= job.id and (led.flight == job.flight) and not TERMINAL[led.state]
  if is_led or redis.call('EXISTS', PREFIX .. 'mirror:' .. job.flight) == 1 then return wrong end
end
if repair then
  redis.call('HDEL', job_key(job.id), 'leader')
  back_to_queue(job)
  redis.call('SET', PREFIX .. 'fp:' .. job.tenant .. ':' .. job.fingerprint, job.id)
end
return 'follows nobody'

-- Whether a job stands where its state says, and put it there if not. ARGV: id, repair (1/0). Answer: '' or what is wrong,
-- 'can not be read' alone of a record that nothing is done with.
-- One job in one step: the auditor may walk over a running service.
local job = read_job(ARGV[1])
local repair = ARGV[2] == '1'
if not job then return '' end
local now = server_ms()

local function missing(key) return not redis.call('ZSCORE', PREFIX .. key, job.id) end

-- Put into a sorted set that it is missing from.
local function listed(key, score, wrong)
  if not missing(key) then return '' end
  if repair then redis.call('ZADD', PREFIX .. key, score, job.id) end
  return wrong
end

local function settlement()
  if redis.call('HEXISTS', job_key(job.id), 'settled') == 1 then return '' end
  local is_hit = job.state == 'SUCCEEDED' and not job.pays and redis.call('HEXISTS', job_key(job.id), 'leader') == 1
  if repair then settle(job, job.state == 'SUCCEEDED' and 'charge' or 'refund', is_hit) end
  return 'ended but not settled'
end

local function is_readable()
  if not can_end(job) or not tonumber(job.epoch) then return false end
  if job.state == 'FOLLOWING' and not (job.flight and job.fingerprint) then return false end
  if not TERMINAL[job.state] then return has_numbers(job, TO_WAIT) end
  if not tonumber(redis.call('HGET', job_key(job.id), 'finished') or now) then return false end
  return not job.picture or job.picture_removed or (is_whole(job.picture) and tonumber(job.expires or now))
end

-- Without these two an ended job, or its picture, would be kept for ever.
local function record_end()
  local finished = redis.call('HGET', job_key(job.id), 'finished') or now
  return listed('records', finished + job.record_retention, 'ended but its record never expires')
end

local function picture_end()
  if not job.picture or job.picture_removed or job.state ~= 'SUCCEEDED' then return '' end
  return listed('pictures', job.expires or now, 'its picture never expires')
end

-- A run whose picture is drawn counts no more (shelve.lua).
local function running_cap()
  local counts = job.state == 'RELEASED' or (job.state == 'RUNNING' and not is_shelved(job))
  return counts and listed('run:' .. job.tenant, now, 'runs but does not count to its tenant\'s cap') or ''
end

local function standing()
  local wrong = ''
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
  if job.state ~= 'FOLLOWING' then return wrong end  -- of a newer release
  if not missing('fol:' .. job.flight) then
    local leader = redis.call('GET', PREFIX .. 'fp:' .. job.tenant .. ':' .. job.fingerprint)
    local led = leader and read_job(leader)
    local is_led = led and led.id ~= job.id and (led.flight == job.flight) and not TERMINAL[led.state]
    if is_led or redis.call('EXISTS', PREFIX .. 'mirror:' .. job.flight) == 1 then return wrong end
  end
  return 'follows nobody'
end

if not is_readable() then return 'can not be read' end
local found = {}
local function tell(wrong) if wrong ~= '' then found[#found + 1] = wrong end end

tell(listed('jobs:' .. job.tenant, tonumber(job.arrival) and job.arrival or job.created, 'not in its tenant\'s list'))
if TERMINAL[job.state] then
  tell(settlement())
  tell(record_end())
  tell(picture_end())
else
  tell(running_cap())
  tell(standing())
end
local answer = table.concat(found, ', ')
if found[#found] ~= 'follows nobody' then return answer end
if repair then
  redis.call('HDEL', job_key(job.id), 'leader')
  back_to_queue(job)
  redis.call('SET', PREFIX .. 'fp:' .. job.tenant .. ':' .. job.fingerprint, job.id)
end
return answer

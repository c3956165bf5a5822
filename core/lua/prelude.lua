-- What a script needs of this is put before it at load (core/scripts.py). Rules for all: read and check first, write last
-- (Lua has no rollback); the server's clock only; the same call again changes nothing.
-- The server collects what scripts leave behind in the middle of later ones: sooner than it would, so in smaller portions.
if collectgarbage then collectgarbage('setpause', 125) end
local PREFIX = '{zimg}:'
local EVENTS_KEPT = 64                 -- per job, enough to resume a stream
local EVENTS_AFTER_END_MS = 3600000
local ENDED_AT_ONCE = 100              -- jobs that one script call ends by itself, so that none blocks the server for long
local PACE_SHARE = 0.05
local RIDE_KEPT_MS = 86400000            -- of a worker that nobody hears of any more
local LONGEST_RUN = 10                 -- usual ones: a clock that jumps makes runs of hours
local HEIRS_LOOKED_AT = 8
local ORPHAN_AFTER_MS = 600000         -- long after the last lease of a job that ended without a picture
-- A lane of a newer release counts as a list's: nothing here stops for it.
local WORK_WEIGHT = setmetatable({interactive = 4, batch = 1}, {__index = function() return 1 end})
local LANES = {'interactive', 'batch'}
local TERMINAL = {SUCCEEDED = true, DEAD = true, CANCELED = true}
local unpack = unpack or table.unpack
local FIELDS = {
  'state', 'tenant', 'lane', 'token', 'epoch', 'created', 'arrival', 'deadline', 'cost', 'work', 'head_start', 'day', 'batch',
  'fingerprint', 'flight', 'worker', 'attempt', 'failures', 'max_attempts', 'crashes', 'alone', 'cancel',
  'promoted', 'retention', 'record_retention', 'started', 'picture', 'picture_removed', 'expires',
  'shelved', 'model', 'rises', 'ride', 'key', 'turn', 'pays',
}

-- Models. Each further model of a service has a race, a clock, releases and a pace of its own, under the keys of the
-- default model's with @model behind; their names are in the set `models`. No `model` in a job's hash: the default's.
local function of_model(name, model)
  if model and model ~= '' then return name .. '@' .. model end
  return name
end

local function all_models()
  local names = redis.call('SMEMBERS', PREFIX .. 'models')
  table.sort(names)
  table.insert(names, 1, '')
  return names
end

local function server_ms()
  local now = redis.call('TIME')
  return now[1] * 1000 + math.floor(now[2] / 1000)
end

local function exact(number) return string.format('%.17g', number) end

local function job_key(id) return PREFIX .. 'job:' .. id end

local function read_job(id)
  local values = redis.call('HMGET', job_key(id), unpack(FIELDS))
  if not values[1] then return nil end
  local job = {id = id}
  for index, name in ipairs(FIELDS) do job[name] = values[index] or nil end
  return job
end

-- Drawn under its present claim, and only waiting for the storage.
local function is_shelved(job) return job.shelved ~= nil and job.shelved == job.token end

-- How many jobs a worker holds, summed over the time since it was first asked: the rise during a run, divided by its
-- time, is the run's mean company. Asked before each change of what the worker holds.
local function company_sum(worker)
  local key, now = PREFIX .. 'ride:' .. worker, server_ms()
  local kept = redis.call('HMGET', key, 'at', 'sum')
  local passed = math.max(0, now - tonumber(kept[1] or now))  -- the clock may have been set back
  local sum = tonumber(kept[2] or '0') + passed * redis.call('SCARD', PREFIX .. 'held:' .. worker)
  redis.call('HSET', key, 'at', now, 'sum', exact(sum))
  redis.call('PEXPIRE', key, RIDE_KEPT_MS)
  return sum
end

-- The mean time and work of a run in so much company, itself counted: riders share a card. core/lua/place.lua reads.
local function measure_company(pace, job, work, run_ms, lasted_ms)
  if not job.ride then return end  -- claimed by a process of an older release
  local company = math.max(1, math.floor((company_sum(job.worker) - tonumber(job.ride)) / lasted_ms + 0.5))
  local kept = redis.call('HMGET', pace, 'ms:' .. company, 'work:' .. company, 'ends:' .. company)
  local ends = tonumber(kept[3] or '0')
  local share = math.max(PACE_SHARE, 1 / (ends + 1))
  redis.call('HSET', pace, 'ms:' .. company, exact(tonumber(kept[1] or '0') * (1 - share) + run_ms * share),
    'work:' .. company, exact(tonumber(kept[2] or '0') * (1 - share) + work * share), 'ends:' .. company, ends + 1)
end

-- How fast the service is: the mean time and work of a run, the mean time between two ends while busy, and gap_ms, that
-- time for a unit of work. Of means, since the mean of the quotients is too long where sizes differ.
local function measure(job)
  local now = server_ms()
  local pace = PREFIX .. of_model('pace', job.model)
  local kept = redis.call('HMGET', pace, 'run_ms', 'gap_ms', 'ends', 'last', 'mean_work', 'end_gap_ms')
  local ends = tonumber(kept[3] or '0')
  local share = math.max(PACE_SHARE, 1 / (ends + 1))
  local work = math.max(0.001, tonumber(job.work))
  local lasted = now - tonumber(job.started)
  if lasted < 0 then return end  -- the clock was set back meanwhile
  local known_work = tonumber(kept[5] or work)
  local known_gap = tonumber(kept[6] or tonumber(kept[2] or '0') * known_work)
  local usual = tonumber(kept[1] or '0') * work / known_work
  local run = usual > 0 and math.min(lasted, LONGEST_RUN * usual) or lasted
  local last = tonumber(kept[4] or '0')
  local gap = math.min(run, now - math.max(last <= now and last or 0, tonumber(job.started)))
  local run_ms = tonumber(kept[1] or '0') * (1 - share) + run * share
  local mean_work = known_work * (1 - share) + work * share
  local end_gap_ms = known_gap * (1 - share) + gap * share
  redis.call('HSET', pace, 'run_ms', exact(run_ms), 'gap_ms', exact(end_gap_ms / mean_work), 'end_gap_ms', exact(end_gap_ms),
    'mean_work', exact(mean_work), 'ends', ends + 1, 'last', now)
  measure_company(pace, job, work, run, lasted)
end

-- When a release that nobody claimed is queued again: a full window takes as long as a few runs.
local function claim_until(now, claim_ms, model)
  local measured = tonumber(redis.call('HGET', PREFIX .. of_model('pace', model), 'run_ms') or '0')
  return now + math.ceil(math.max(tonumber(claim_ms), 3 * measured))
end

-- yyyymmdd of a server time, UTC (Howard Hinnant's civil_from_days).
local function day_of(ms)
  local z = math.floor(ms / 86400000) + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return string.format('%04d%02d%02d', year, month, doy - math.floor((153 * mp + 2) / 5) + 1)
end

-- Counts one duration of a stage of jobs, for the whole service: {stage|bucket or sum: number}. core/job_reader.py reads.
local STAGE_BOUNDS_MS = {50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 1800000, 7200000}

local function observe(stage, ms)
  ms = math.max(0, ms)
  local bucket = 'inf'
  for _, bound in ipairs(STAGE_BOUNDS_MS) do
    if ms <= bound then
      bucket = bound
      break
    end
  end
  redis.call('HINCRBY', PREFIX .. 'stage_times', stage .. '|' .. bucket, 1)
  redis.call('HINCRBYFLOAT', PREFIX .. 'stage_times', stage .. '|sum', exact(ms))
end

-- Events ---------------------------------------------------------------------------------------------------------

local function emit(id, kind, data)
  redis.call('XADD', PREFIX .. 'ev:' .. id, 'MAXLEN', EVENTS_KEPT, '*', 'type', kind, 'data', data)
  redis.call('PUBLISH', PREFIX .. 'events', id)
end

local function emit_status(id, status) emit(id, 'status', '{"status":"' .. status .. '"}') end

-- One element is enough: whoever pops it looks at everything.
local function wake()
  if redis.call('LLEN', PREFIX .. 'wake') == 0 then redis.call('LPUSH', PREFIX .. 'wake', '1') end
end

-- Queues: for each model start-time fair queueing over entities (tenant, lane) ----------------------------------------------------

local function entity_of(tenant, lane, model) return of_model(tenant .. '|' .. lane, model) end

-- Its tenant, lane and model.
local function parts_of(entity) return string.match(entity, '^(.*)|([^|@]*)@?([^|]*)$') end

local function entities_of(tenant)
  local found = {}
  for _, model in ipairs(all_models()) do
    for _, lane in ipairs(LANES) do found[#found + 1] = entity_of(tenant, lane, model) end
  end
  return found
end

local function present_of(model) return tonumber(redis.call('GET', PREFIX .. of_model('V', model)) or '0') end

-- An entity that comes back starts at the present virtual time: idling earns no credit.
local function activate(entity)
  local _, _, model = parts_of(entity)
  local race = PREFIX .. of_model('act', model)
  if redis.call('ZSCORE', race, entity) then return end
  local own = tonumber(redis.call('HGET', PREFIX .. 'vt', entity) or '0')
  redis.call('ZADD', race, exact(math.max(present_of(model), own)), entity)
  redis.call('HDEL', PREFIX .. 'vt', entity)
end

-- The work that waits in an entity's queue; nothing is kept of an empty one.
local function count_queued_work(entity, change)
  if redis.call('EXISTS', PREFIX .. 'tq:' .. entity) == 0 then
    redis.call('HDEL', PREFIX .. 'queued_work', entity)
  else
    redis.call('HINCRBYFLOAT', PREFIX .. 'queued_work', entity, exact(change))
  end
end

-- In nq: waiting jobs by lane, of all models; under @model those of a further model, of both lanes.
local function count_waiting(lane, model, change)
  redis.call('HINCRBY', PREFIX .. 'nq', lane, change)
  if model and model ~= '' then redis.call('HINCRBY', PREFIX .. 'nq', of_model('', model), change) end
end

-- Waiting jobs of a model; of the default one, what is not of another.
local function waiting_of(model)
  if model ~= '' then return tonumber(redis.call('HGET', PREFIX .. 'nq', of_model('', model)) or '0') end
  local counts, all = redis.call('HGETALL', PREFIX .. 'nq'), 0
  for index = 1, #counts, 2 do
    local is_model = string.sub(counts[index], 1, 1) == '@'
    all = all + (is_model and -1 or 1) * tonumber(counts[index + 1])
  end
  return all
end

local function count_queued(job, entity, change)
  count_waiting(job.lane, job.model, change)
  count_queued_work(entity, change * tonumber(job.work))
end

local function enqueue(job)
  local entity = entity_of(job.tenant, job.lane, job.model)
  local score = exact(tonumber(job.arrival) - tonumber(job.head_start))
  if redis.call('ZADD', PREFIX .. 'tq:' .. entity, score, job.id) == 1 then count_queued(job, entity, 1) end
  redis.call('ZADD', PREFIX .. 'deadline', job.deadline, job.id)
  activate(entity)
  wake()
end

local function dequeue(job)
  local entity = entity_of(job.tenant, job.lane, job.model)
  if redis.call('ZREM', PREFIX .. 'tq:' .. entity, job.id) == 1 then count_queued(job, entity, -1) end
end

-- A tenant that may have been parked at its cap has room below it again; the next release parks it anew if not.
local function unpark(tenant)
  for _, entity in ipairs(entities_of(tenant)) do
    if redis.call('SREM', PREFIX .. 'parked', entity) == 1 and redis.call('EXISTS', PREFIX .. 'tq:' .. entity) == 1 then
      activate(entity)
    end
  end
  wake()
end

local function free_slot(job)
  redis.call('ZREM', PREFIX .. 'run:' .. job.tenant, job.id)
  if job.worker then
    company_sum(job.worker)
    redis.call('SREM', PREFIX .. 'held:' .. job.worker, job.id)
  end
  if job.shelved and job.worker then redis.call('SREM', PREFIX .. 'shelf:' .. job.worker, job.id) end
  unpark(job.tenant)
end

-- Take a job out of whatever its state keeps it in.
local function leave(job)
  if job.state == 'QUEUED' then
    dequeue(job)
  elseif job.state == 'RELEASED' then
    redis.call('ZREM', PREFIX .. of_model('rel', job.model), job.id)
    free_slot(job)
  elseif job.state == 'RUNNING' then
    redis.call('ZREM', PREFIX .. 'lease', job.id)
    free_slot(job)
  elseif job.state == 'RETRY' then
    redis.call('ZREM', PREFIX .. 'retry', job.id)
  elseif job.state == 'FOLLOWING' then
    redis.call('ZREM', PREFIX .. 'fol:' .. job.flight, job.id)
  end
end

-- Not into a lane that an operator has paused: its own goes on, and resume.lua lifts what still waits then.
local function rise(job)
  if redis.call('SISMEMBER', PREFIX .. 'paused', 'lane:interactive') == 1 then
    redis.call('SADD', PREFIX .. 'rising', job.id)
    return
  end
  job.lane = 'interactive'
  redis.call('HSET', job_key(job.id), 'lane', job.lane)
end

-- Where an entity stands in its race, or would come back to, and whether it is in it.
local function stands_at(entity, model)
  local virtual = redis.call('ZSCORE', PREFIX .. of_model('act', model), entity)
  return tonumber(virtual or redis.call('HGET', PREFIX .. 'vt', entity) or nil), virtual and true
end

local function put_at(entity, model, virtual, is_racing)
  if is_racing then
    redis.call('ZADD', PREFIX .. of_model('act', model), exact(virtual), entity)
  else
    redis.call('HSET', PREFIX .. 'vt', entity, exact(virtual))
  end
end

-- A release that never ran costs its tenant no turn: what release.lua added to the virtual time is taken off again. What of it
-- lies ahead of the present is as long as a turn is by today's weight (see reweigh). Of what is past no more comes back than
-- was paid then, nor than this job's place now.
local function return_turn(job, lane)
  local weight = tonumber(redis.call('HGET', PREFIX .. 'lim:' .. job.tenant, 'weight') or '1')
  local turn = tonumber(job.work) / (weight * WORK_WEIGHT[lane])
  local epoch, paid = string.match(job.turn or '', '^(%d+):(.*)$')
  paid = epoch == job.epoch and tonumber(paid) or turn  -- else an older release's script released it
  local entity = entity_of(job.tenant, lane, job.model)
  local virtual, is_racing = stands_at(entity, job.model)
  if not virtual then return end
  local ahead = math.max(0, math.min(turn, virtual - present_of(job.model)))
  local past = turn > 0 and (1 - ahead / turn) * math.min(turn, paid) or 0
  put_at(entity, job.model, virtual - ahead - past, is_racing)
end

-- A tenant's turns are of another length from now on. So that its weight holds at once, what it has had of the work ahead of
-- the present, and what it is owed, stay the same work; only what is owed never grows. Before the new weight is stored.
local function reweigh(tenant, weight)
  local before = tonumber(redis.call('HGET', PREFIX .. 'lim:' .. tenant, 'weight') or '1')
  local factor = before / tonumber(weight)
  if factor == 1 then return end
  for _, entity in ipairs(entities_of(tenant)) do
    local _, _, model = parts_of(entity)
    local virtual, is_racing = stands_at(entity, model)
    if virtual then
      local present = present_of(model)
      local ahead = virtual - present
      put_at(entity, model, present + ahead * (ahead > 0 and factor or math.min(1, factor)), is_racing)
    end
  end
end

local function back_to_queue(job)
  local turn_of = job.state == 'RELEASED' and job.lane
  leave(job)
  redis.call('HSET', job_key(job.id), 'state', 'QUEUED')
  redis.call('HDEL', job_key(job.id), 'progress')
  if job.state == 'RUNNING' then emit_status(job.id, 'queued') end
  job.state = 'QUEUED'
  if job.rises then rise(job) end
  enqueue(job)
  if turn_of then return_turn(job, turn_of) end  -- last: who comes back into the race starts at the present time
end

-- Ends -----------------------------------------------------------------------------------------------------------

local ends_left = ENDED_AT_ONCE  -- of this call; a job that the caller names is ended even if none is left
local broken = {}  -- ids of records that this call could not work with; reap.lua tells them

local TO_WAIT = {'work', 'arrival', 'head_start', 'deadline'}
local TO_END = {'work', 'cost', 'created', 'deadline', 'retention', 'record_retention'}

local function has_numbers(job, names)
  for _, name in ipairs(names) do
    if not tonumber(job[name]) then return false end
  end
  return true
end

-- Whether an end of it can be settled. Asked before the first write, since there is no way back: what can not stays as it is.
local function can_end(job) return job.tenant and job.day and has_numbers(job, TO_END) end

local function check_end(job) assert(can_end(job), 'the record can not be read') end

-- When all of a tenant's or key's burst will be free again, and whether that is not yet stored: where the clock was set back since
-- the burst was used, it is told in the present time.
local function burst_ends(tenant, now)
  local ends = tonumber(redis.call('GET', PREFIX .. 'gcra:' .. tenant) or '0')
  local used_at = tonumber(redis.call('HGET', PREFIX .. 'lim:' .. tenant, 'at') or '0')
  return ends - math.max(0, used_at - now), used_at > now
end

-- Whose counters of units and burst a job counts in: its tenant's, and its key's if that one has limits of its own.
local function purses_of(tenant, key)
  if key and key ~= '' then return {tenant, tenant .. '/' .. key} end
  return {tenant}
end

-- Exactly one of charge and refund per job, to the day that its reservation was taken from. A hit is charged nothing: its
-- entry tells what was reserved, and its record costs nothing from here on.
local function settle(job, kind, is_hit)
  if redis.call('HSETNX', job_key(job.id), 'settled', kind) == 0 then return end
  local reserved = tonumber(job.cost)
  local cost, more = reserved, job.key and {'key', job.key} or {}
  if is_hit then
    cost, more[#more + 1], more[#more + 2] = 0, 'reserved', reserved
    redis.call('HSET', job_key(job.id), 'cost', cost)
  end
  for _, purse in ipairs(purses_of(job.tenant, job.key)) do
    local use = PREFIX .. 'use:' .. purse .. ':' .. job.day
    redis.call('HINCRBY', use, 'reserved', 0 - reserved)
    if kind == 'charge' then redis.call('HINCRBY', use, 'used', cost) end
    if is_hit then redis.call('HINCRBY', use, 'hits', 1) end
  end
  local entry = redis.call('XADD', PREFIX .. 'ledger', '*', 'job', job.id, 'tenant', job.tenant, 'kind', kind, 'cost', cost,
    'day', job.day, unpack(more))
  redis.call('HSET', job_key(job.id), 'entry', entry)  -- so that the audit finds it without reading all
end

-- What a list kept for rows that were not stored is free again; submit.lua opens holds.
local function close_hold(list)
  local kept = redis.call('HMGET', PREFIX .. 'hold:' .. list, 'tenant', 'day', 'units', 'key')
  for _, purse in ipairs(kept[1] and purses_of(kept[1], kept[4]) or {}) do
    redis.call('HINCRBY', PREFIX .. 'use:' .. purse .. ':' .. kept[2], 'reserved', 0 - kept[3])
  end
  redis.call('DEL', PREFIX .. 'hold:' .. list)
  redis.call('ZREM', PREFIX .. 'holds', list)
end

-- What a job's runs may have stored is deleted then, unless a record shows it (core/trash.py).
local function trash_runs_of(job, due)
  redis.call('ZADD', PREFIX .. 'trash', due, 'job:' .. job.id .. ':' .. job.created .. ':' .. job.tenant)
end

local function finish(job, state, kind, is_hit)
  local now = server_ms()
  leave(job)
  if job.state == 'RELEASED' then return_turn(job, job.lane) end
  redis.call('HSET', job_key(job.id), 'state', state, 'finished', now)
  redis.call('HDEL', job_key(job.id), 'progress')
  settle(job, kind, is_hit)
  redis.call('ZREM', PREFIX .. 'deadline', job.id)
  redis.call('HINCRBY', PREFIX .. 'outcomes', state, 1)
  if job.batch then redis.call('HINCRBY', PREFIX .. 'batch:' .. job.batch, state, 1) end
  redis.call('ZADD', PREFIX .. 'records', now + tonumber(job.record_retention), job.id)
  -- Who was released may have stored a picture that nobody will ever see, also where a failover lost the claim.
  if state ~= 'SUCCEEDED' and job.epoch ~= '0' then trash_runs_of(job, now + ORPHAN_AFTER_MS) end
  job.state = state
  ends_left = ends_left - 1
end

local function close_events(job, status)
  emit_status(job.id, status)
  redis.call('PEXPIRE', PREFIX .. 'ev:' .. job.id, EVENTS_AFTER_END_MS)
end

-- Answer: whether the fingerprint named this job.
local function forget_fingerprint(job)
  if not job.fingerprint then return false end
  local key = PREFIX .. 'fp:' .. job.tenant .. ':' .. job.fingerprint
  if redis.call('GET', key) == job.id then return redis.call('DEL', key) == 1 end
  return false
end

-- The key of a picture's object; nil where the picture can not be read.
local function object_of(picture)
  local is_read, object = pcall(function() return cjson.decode(picture).key end)
  return is_read and type(object) == 'string' and object or nil
end

local PICTURE = {key = 'string', sha256 = 'string', width = 'number', height = 'number', size_bytes = 'number'}

-- Whether a picture can be shown by another record.
local function is_whole(picture)
  local is_read, shown = pcall(cjson.decode, picture)
  if not is_read or type(shown) ~= 'table' then return false end
  for name, kind in pairs(PICTURE) do
    if type(shown[name]) ~= kind then return false end
  end
  return true
end

local function trash_unshown(object)
  if redis.call('EXISTS', PREFIX .. 'ref:' .. object) == 0 then
    redis.call('ZADD', PREFIX .. 'trash', server_ms(), object)
  end
end

-- This record shows its picture no more; another one that does names it from now on, of many the longest of a few.
local function hand_on_fingerprint(job)
  if not forget_fingerprint(job) or not job.picture then return end
  local heir, expires = nil, 0
  local refs = PREFIX .. 'ref:' .. (object_of(job.picture) or '')
  for _, id in ipairs(redis.call('SRANDMEMBER', refs, HEIRS_LOOKED_AT)) do
    local until_ms = tonumber(redis.call('HGET', job_key(id), 'expires') or '0') or 0
    if until_ms > expires then heir, expires = id, until_ms end
  end
  if heir then redis.call('SET', PREFIX .. 'fp:' .. job.tenant .. ':' .. job.fingerprint, heir, 'PXAT', expires) end
end

-- Reuse while the object exists: of the records that show a picture, the one that keeps it longest names it.
local function share(job, expires)
  if not job.fingerprint then return end
  local name = PREFIX .. 'fp:' .. job.tenant .. ':' .. job.fingerprint
  local named = redis.call('GET', name)
  if named and named ~= job.id then
    local kept = redis.call('HMGET', job_key(named), 'state', 'expires')
    if kept[1] and not TERMINAL[kept[1]] then return end  -- it draws anew, and others follow it by that name
    if kept[2] and tonumber(kept[2]) > expires then return end
  end
  redis.call('SET', name, job.id, 'PXAT', expires)
end

-- `is_hit`: the picture was drawn for another job, which pays for it; so does this one where the operator bills each picture.
local function succeed(job, picture, is_hit)
  check_end(job)
  local expires = server_ms() + tonumber(job.retention)
  redis.call('HSET', job_key(job.id), 'picture', picture, 'expires', expires)
  redis.call('HDEL', job_key(job.id), 'failure')
  redis.call('ZADD', PREFIX .. 'pictures', expires, job.id)
  finish(job, 'SUCCEEDED', 'charge', is_hit and not job.pays)
  emit(job.id, 'output', '{"images":[' .. picture .. ']}')
  close_events(job, 'succeeded')
  share(job, expires)
end

local function die(job, failure)
  check_end(job)
  redis.call('HSET', job_key(job.id), 'failure', failure)
  finish(job, 'DEAD', 'refund')
  redis.call('ZADD', PREFIX .. 'dlq', server_ms(), job.id)
  forget_fingerprint(job)
  emit(job.id, 'error', failure)
  close_events(job, 'failed')
end

local function cancel_now(job)
  check_end(job)
  finish(job, 'CANCELED', 'refund')
  forget_fingerprint(job)
  close_events(job, 'canceled')
end

-- Followers ------------------------------------------------------------------------------------------------------

-- A picture with several records is deleted with the last of them. Who drew it may have been canceled or removed meanwhile.
local function share_picture(picture, owner, id)
  local object = object_of(picture)
  if not object then return end
  local refs = PREFIX .. 'ref:' .. object
  redis.call('SADD', refs, id)
  local kept = redis.call('HMGET', job_key(owner), 'state', 'picture_removed')
  if kept[1] == 'SUCCEEDED' and not kept[2] then redis.call('SADD', refs, owner) end
end

-- The oldest follower takes the place of a leader that ended for no fault of the request. (A failover that lost the last
-- writes may have left entries of jobs that are gone or follow no more.)
local function promote(job, promotions)
  local heir
  repeat
    local id = redis.call('ZPOPMIN', PREFIX .. 'fol:' .. job.flight)[1]
    if not id then return end
    heir = read_job(id)
    if heir and not has_numbers(heir, TO_WAIT) then
      broken[#broken + 1] = id
      heir = nil
    end
  until heir and heir.state == 'FOLLOWING'
  redis.call('HSET', job_key(heir.id), 'promoted', promotions)
  redis.call('HDEL', job_key(heir.id), 'leader')
  if job.lane == 'interactive' or job.rises then  -- somebody may be waiting for it
    heir.rises = '1'
    redis.call('HSET', job_key(heir.id), 'rises', heir.rises)
  end
  redis.call('SET', PREFIX .. 'fp:' .. heir.tenant .. ':' .. heir.fingerprint, heir.id)
  back_to_queue(heir)
end

-- All of its followers have ended: the picture is no longer kept for them.
local function close_mirror(flight, picture)
  local name = 'mirror:' .. flight
  redis.call('DEL', PREFIX .. name)
  redis.call('SREM', PREFIX .. 'mirrors', flight)
  local object = object_of(picture)
  if object and redis.call('SREM', PREFIX .. 'ref:' .. object, name) == 1 then trash_unshown(object) end
end

local function end_as_leader(id, flight, how)
  local job = read_job(id)
  if not job or job.state ~= 'FOLLOWING' then
    redis.call('ZREM', PREFIX .. 'fol:' .. flight, id)
  elseif how[1] then
    succeed(job, how[1], not how[4])
    share_picture(how[1], how[3], id)
    if how[4] then redis.call('HDEL', PREFIX .. 'mirror:' .. flight, 'owed') end
    how[4] = false
  else
    die(job, how[2])
  end
end

-- End followers of a flight as its leader ended, as many as this call may; what is left waits for the reaper. A picture that
-- can not be read is nobody's: a follower draws it anew for all.
local function mirror(flight)
  if ends_left <= 0 then return 0 end
  local how = redis.call('HMGET', PREFIX .. 'mirror:' .. flight, 'picture', 'failure', 'owner', 'owed')
  if how[1] and not is_whole(how[1]) then
    broken[#broken + 1] = how[3] or flight
    close_mirror(flight, how[1])
    promote({flight = flight}, 0)
    return 0
  end
  local ids = redis.call('ZRANGE', PREFIX .. 'fol:' .. flight, 0, ends_left - 1)
  for _, id in ipairs(ids) do
    if not pcall(end_as_leader, id, flight, how) then
      redis.call('ZREM', PREFIX .. 'fol:' .. flight, id)  -- where the server refuses writes this says so
      broken[#broken + 1] = id
    end
  end
  if redis.call('EXISTS', PREFIX .. 'fol:' .. flight) == 0 then close_mirror(flight, how[1]) end
  return #ids
end

local function has_followers(job)
  return job.flight and redis.call('EXISTS', PREFIX .. 'fol:' .. job.flight) == 1
end

-- `is_owed`: who drew it does not pay for it, so the first who is shown it does.
local function mirror_success(job, picture, owner, is_owed)
  if not has_followers(job) then return end
  if is_owed then redis.call('HSET', PREFIX .. 'mirror:' .. job.flight, 'owed', 1) end
  redis.call('HSET', PREFIX .. 'mirror:' .. job.flight, 'picture', picture, 'owner', owner)
  share_picture(picture, owner, 'mirror:' .. job.flight)  -- it is kept for those who wait, whoever is removed meanwhile
  redis.call('SADD', PREFIX .. 'mirrors', job.flight)
  mirror(job.flight)
end

local function mirror_failure(job, failure)
  redis.call('HSET', PREFIX .. 'mirror:' .. job.flight, 'failure', failure)
  redis.call('SADD', PREFIX .. 'mirrors', job.flight)
  mirror(job.flight)
end

-- DEAD, with the flight: a reason of ours promotes a follower once, a permanent one is everybody's. A deadline is
-- everybody's own, so one that is over promotes as often as it happens.
local function die_as_leader(job, failure, ours, is_late)
  die(job, failure)
  if not has_followers(job) then return end
  local promotions = tonumber(job.promoted or '0')
  if ours and is_late then
    promote(job, promotions)
  elseif ours and promotions < 1 then
    promote(job, promotions + 1)
  else
    mirror_failure(job, failure)
  end
end

local function cancel_as_leader(job)
  local was_leader = job.state ~= 'FOLLOWING'
  cancel_now(job)
  if was_leader and has_followers(job) then promote(job, job.promoted or '0') end
end

-- Objects of pictures that no record shows any more; the scheduler deletes them when due. Answer: whether the picture could
-- be read; where it could not, what the job itself stored goes.
local function drop_picture(job)
  if not job.picture then return true end
  local object = object_of(job.picture)
  if not object then
    trash_runs_of(job, server_ms())
    return false
  end
  redis.call('SREM', PREFIX .. 'ref:' .. object, job.id)
  -- An older release's reaper ends the last followers and leaves behind that the picture was kept for them.
  if job.flight and redis.call('EXISTS', PREFIX .. 'mirror:' .. job.flight) == 0 then
    redis.call('SREM', PREFIX .. 'ref:' .. object, 'mirror:' .. job.flight)
  end
  trash_unshown(object)
  return true
end

-- Store one job or several of one tenant, all or none: idempotency, limits, reservation, job, queue in one step.
-- ARGV: tenant, weight, running_jobs, daily_units, emission_ms, burst, queued_jobs, service_queued_jobs,
--       idempotency_ms, record_retention_ms, burst_cost, then per job 16 values (FIELD_COUNT below); the lane of a job for a
--       further model is lane@model. Last, where there is what few have: JSON, number of the job -> {field: value}
--       of its record (priority, webhook, base, again), `list` of a call that is one of several, and `key` of a call by a key
--       that has limits of its own: {id, daily, burst, emission}; both its tenant's counters and its own must have room.
-- Answer: {'ok', (id, state, replayed, leader)*}, without jobs that an earlier call with the key made and that were removed since
-- (key_of_removed if no other is left); or {refusal, detail, places that must come free for this call}, or of
-- a call that no waiting helps {'exceeds_limits', the limit, what the call asks for, the most that it may}.
-- A long list comes in several calls, so that none holds the server for long: `open` decides for all of it and keeps what
-- the rest needs, units of the day and room in the queue, in a hold; `draw` and `close` take their rows from there and
-- ask for no limit again. `list`: its name, step, how long a hold lives unused (keep_ms) and for `open` the rest's jobs of
-- each lane, its units, and the total of jobs, all as text.
local FIELD_COUNT = 16
local HEADER = 11
local REUSE_MARGIN_MS = 300000
local REPEAT_KEPT_MS = 900000  -- longer than any double click; a release before this one looks back so long
local USE_KEPT_SECONDS = 3456000
local tenant = ARGV[1]
local now = server_ms()
local day = day_of(now)

local count = math.floor((#ARGV - HEADER) / FIELD_COUNT)
local EXTRAS = #ARGV > HEADER + count * FIELD_COUNT and cjson.decode(ARGV[#ARGV]) or {}

local function job_at(index)
  local at = HEADER + (index - 1) * FIELD_COUNT
  local lane, model = string.match(ARGV[at + 2], '^([^@]*)@?(.*)$')
  return {
    id = ARGV[at + 1], lane = lane, fingerprint = ARGV[at + 3], idempotency_key = ARGV[at + 4],
    body_hash = ARGV[at + 5], repeat_key = ARGV[at + 6], repeat_ms = tonumber(ARGV[at + 7]),
    cost = tonumber(ARGV[at + 8]), work = ARGV[at + 9], deadline_ms = tonumber(ARGV[at + 10]),
    max_attempts = ARGV[at + 11], head_start = ARGV[at + 12], batch = ARGV[at + 13], request = ARGV[at + 14],
    metadata = ARGV[at + 15], retention = ARGV[at + 16], model = model, extras = EXTRAS[tostring(index)] or {},
  }
end

local function idempotency_name(new) return PREFIX .. 'idem:' .. tenant .. ':' .. new.idempotency_key end

local function repeat_name(new) return PREFIX .. 'repeat:' .. tenant .. ':' .. new.repeat_key end

-- The job of the same call a moment ago: a double click.
local function repeated(new)
  local kept = new.repeat_key ~= '' and redis.call('GET', repeat_name(new))
  if not kept then return nil end
  local at, id = string.match(kept, '^([^|]*)|(.*)$')
  if math.abs(now - tonumber(at)) > new.repeat_ms then return nil end  -- or as long to come: the clock was set back
  local job = redis.call('HMGET', job_key(id), 'state', 'cancel')
  local state, is_stopping = job[1], job[2]
  -- Who asks again after his job was canceled or failed wants another one.
  if state and state ~= 'CANCELED' and state ~= 'DEAD' and not is_stopping then return id, state end
  return nil
end

-- The job that this very call, or an earlier one with the same key, made: id and state; or 'mismatch', or 'removed'.
local function earlier(new)
  local state = redis.call('HGET', job_key(new.id), 'state')
  if state then return new.id, state end
  -- Its picture was deleted: a list sent again does not draw and charge it a second time.
  if redis.call('EXISTS', PREFIX .. 'tombstone:' .. new.id) == 1 then return new.id, 'CANCELED' end
  if new.idempotency_key == '' then return repeated(new) end
  local kept = redis.call('GET', idempotency_name(new))
  if not kept then return nil end
  local body_hash, id = string.match(kept, '^([^|]*)|(.*)$')
  if body_hash ~= new.body_hash then return id, 'mismatch' end
  state = redis.call('HGET', job_key(id), 'state')
  if state then return id, state end
  if redis.call('EXISTS', PREFIX .. 'tombstone:' .. id) == 1 then return id, 'removed' end
  return nil
end

local news, replays, left, removed = {}, {}, 0, {}
local cost, queued = 0, {interactive = 0, batch = 0}
for index = 1, count do
  local new = job_at(index)
  local id, state = earlier(new)
  if state == 'mismatch' then return {'idempotency_mismatch', id} end
  if state == 'removed' then
    removed[index], removed.id = true, id
  elseif id then
    replays[index] = {id, state}
    left = left + 1
  else
    news[#news + 1] = new
    cost = cost + new.cost
    queued[new.lane] = queued[new.lane] + 1
  end
end

-- Drawn and charged once; the answer is what is left of the call.
if removed.id and left == 0 then return {'key_of_removed', removed.id} end

-- Limits of the key that the call came by, if it has some: its id, units a day, pictures at once.
local KEY = EXTRAS.key
local key = KEY and KEY.id or ''

local LIST = EXTRAS.list or {name = '', step = ''}
local list, step = LIST.name, LIST.step
local hold = PREFIX .. 'hold:' .. list
local held_day = list ~= '' and redis.call('HGET', hold, 'day')
local is_drawn = step == 'draw' or step == 'close'
-- Asked again, or sent again while the hold is open: what it keeps is what the rest needs.
local rest = {interactive = 0, batch = 0, units = 0}
if step == 'open' and not held_day then
  rest = {interactive = tonumber(LIST.interactive), batch = tonumber(LIST.batch), units = tonumber(LIST.units)}
end
local asked = #news + rest.interactive + rest.batch
-- In the queue. What is there, or is being drawn for somebody, takes none; nor does the same picture a second time in the call.
local places = rest.interactive + rest.batch
local weight, running = ARGV[2], ARGV[3]
if asked > 0 then  -- a ban may have come since the key was looked at, or between two portions of a list
  local set = redis.call('HMGET', PREFIX .. 'tenant:' .. tenant, 'ban_reason', 'weight', 'running_jobs')
  local ban = set[1]
  if ban and ban ~= '' then return {'banned', ban} end
  weight, running = set[2] or weight, set[3] or running  -- and the operator may have throttled the tenant since
end
if is_drawn and not held_day and #news > 0 then
  local is_stopped = redis.call('EXISTS', PREFIX .. 'stopped:' .. list) == 1
  return {is_stopped and 'list_stopped' or 'hold_gone', ''}
end
if is_drawn and held_day then day = held_day end
if is_drawn and held_day then key = redis.call('HGET', hold, 'key') or '' end  -- whose units are kept

-- Room in the queue that open holds keep: the tenant's, and everybody's for each model.
local function held_jobs()
  local own, of_model = 0, {}
  for _, name in ipairs(redis.call('ZRANGE', PREFIX .. 'holds', 0, -1)) do
    local kept = redis.call('HMGET', PREFIX .. 'hold:' .. name, 'tenant', 'jobs', 'model')
    local jobs, model = tonumber(kept[2]) or 0, kept[3] or ''
    of_model[model] = (of_model[model] or 0) + jobs
    if kept[1] == tenant then own = own + jobs end
  end
  return own, of_model
end

-- The narrowest limit that the call would be over if nothing were used and nothing waited. The burst is none of them.
local function never_fits()
  local narrowest
  for _, one in ipairs({{'daily', cost + rest.units, ARGV[4]}, {'queue', places, ARGV[7]}, {'service', places, ARGV[8]},
    {'key', cost + rest.units, KEY and KEY.daily or math.huge}}) do
    local most = tonumber(one[3])
    if one[2] > most and (not narrowest or most < tonumber(narrowest[4])) then
      narrowest = {'exceeds_limits', one[1], tostring(one[2]), tostring(most)}
    end
  end
  return narrowest
end

local burst_cost = math.min(asked, tonumber(ARGV[11]))
local purses = {}  -- the tenant's, and its key's: each with its limits
for at, name in ipairs(purses_of(tenant, key)) do
  local own = at == 2 and KEY or {}
  local gcra, lim = PREFIX .. 'gcra:' .. name, PREFIX .. 'lim:' .. name
  local emission = tonumber(own.emission or ARGV[5])
  local burst_from, was_set_back = burst_ends(name, now)
  if was_set_back then  -- at once, also for a call that is refused: from here on the debt is worked off
    redis.call('SET', gcra, exact(burst_from), 'PX', math.ceil(math.max(1, burst_from - now + emission)))
    redis.call('HSET', lim, 'at', now)
  end
  purses[at] = {
    gcra = gcra, lim = lim, use = PREFIX .. 'use:' .. name .. ':' .. day,
    daily = own.daily or tonumber(ARGV[4]), burst = own.burst or tonumber(ARGV[6]), emission = emission,
    burst_until = math.max(burst_from, now) + emission * burst_cost,
  }
end

-- A record that can not be read leads nobody.
local function leader_of(new)
  if new.fingerprint == '' then return nil end
  local leader = redis.call('GET', PREFIX .. 'fp:' .. tenant .. ':' .. new.fingerprint)
  local job = leader and read_job(leader)
  if not job or job.state == 'DEAD' or job.state == 'CANCELED' then return nil end
  if job.state ~= 'SUCCEEDED' then return has_numbers(job, TO_WAIT) and job or nil end
  if job.picture_removed or (tonumber(job.expires) or 0) < now + REUSE_MARGIN_MS or not is_whole(job.picture) then return nil end
  return job
end

-- A hit costs nothing, but each is a record: as many are free a day as the day has units. What is there already needs no unit
-- for a moment either, so that it is shown on a day that is used up.
local free_hits = math.huge
for _, purse in ipairs(purses) do
  free_hits = math.min(free_hits, purse.daily - (tonumber(redis.call('HGET', purse.use, 'hits')) or 0))
end
local is_known = {}
for _, new in ipairs(news) do
  local leader = leader_of(new)
  if leader and leader.state == 'SUCCEEDED' and free_hits > 0 and not new.extras.pays then
    new.shown, free_hits, cost, new.cost = leader, free_hits - 1, cost - new.cost, 0
  end
  new.waits = not leader and (new.fingerprint == '' or not is_known[new.fingerprint])
  is_known[new.fingerprint] = true
  if new.waits then places = places + 1 end
end

if asked > 0 and not is_drawn then
  local never = never_fits()  -- first: who is told to wait is not refused after it
  if never then return never end
  -- The operator lets a lane or a tenant run empty; what came before is still answered.
  for _, lane in ipairs(LANES) do
    if queued[lane] + rest[lane] > 0 and redis.call('SISMEMBER', PREFIX .. 'draining', 'lane:' .. lane) == 1 then
      return {'draining', 'lane:' .. lane}
    end
  end
  if redis.call('SISMEMBER', PREFIX .. 'draining', 'tenant:' .. tenant) == 1 then return {'draining', 'tenant:' .. tenant} end
  -- More than a whole burst at once passes when nothing else was used: it then waits out its own debt.
  local wait = 0
  for _, purse in ipairs(purses) do
    local over = purse.burst_until - now - purse.emission * math.max(purse.burst, burst_cost)
    if purse.emission > 0 then wait = math.max(wait, over) end
  end
  if wait > 0 then return {'rate_limited', tostring(math.ceil(wait))} end
  for at, purse in ipairs(purses) do
    local use = redis.call('HMGET', purse.use, 'used', 'reserved')
    if (tonumber(use[1]) or 0) + (tonumber(use[2]) or 0) + cost + rest.units > purse.daily then
      return {'quota_exceeded', tostring(86400000 - now % 86400000), at == 2 and tostring(purse.daily) or ''}
    end
  end
  local waiting, held = held_jobs()
  for _, entity in ipairs(entities_of(tenant)) do waiting = waiting + redis.call('ZCARD', PREFIX .. 'tq:' .. entity) end
  local over = waiting + places - tonumber(ARGV[7])  -- so many places must come free for this call
  if places > 0 and over > 0 then return {'queue_full', tostring(waiting), tostring(over)} end
  local looked_at = {}  -- each model has room of its own, so one without workers fills up alone
  local of_each = asked > #news and {job_at(1), unpack(news)} or news  -- the rest of a list is for its first row's model
  for at, new in ipairs(of_each) do
    local is_rest = at == 1 and asked > #news
    if (new.waits or is_rest) and not looked_at[new.model] then
      local over = waiting_of(new.model) + (held[new.model] or 0) + places - tonumber(ARGV[8])
      if over > 0 then return {'overloaded', '0', tostring(over)} end
      looked_at[new.model] = true
    end
  end
end

-- All checks passed: writes only from here on.
local function take_from_hold()
  local kept = redis.call('HMGET', hold, 'units', 'jobs')
  redis.call('HSET', hold, 'units', math.max(0, kept[1] - cost), 'jobs', math.max(0, kept[2] - #news))
  -- More than was kept (a job of the list was removed since): never refused here.
  for _, purse in ipairs(purses) do redis.call('HINCRBY', purse.use, 'reserved', math.max(0, cost - kept[1])) end
end

if asked > 0 and is_drawn then
  take_from_hold()
elseif asked > 0 then
  for _, purse in ipairs(purses) do
    if purse.emission > 0 then
      redis.call('SET', purse.gcra, exact(purse.burst_until), 'PX', math.ceil(purse.burst_until - now + purse.emission))
    end
    redis.call('HINCRBY', purse.use, 'reserved', cost + rest.units)
    redis.call('EXPIRE', purse.use, USE_KEPT_SECONDS)
  end
  if purses[2] then
    redis.call('HSET', purses[2].lim, 'at', now)
    redis.call('EXPIRE', purses[2].lim, USE_KEPT_SECONDS)
  end
  reweigh(tenant, weight)
  local cap_before = tonumber(redis.call('HGET', PREFIX .. 'lim:' .. tenant, 'running') or running)
  redis.call('HSET', PREFIX .. 'lim:' .. tenant, 'weight', weight, 'running', running, 'at', now)
  if tonumber(running) > cap_before then unpark(tenant) end  -- the default was raised
end

if asked > #news then
  redis.call('HSET', hold, 'tenant', tenant, 'day', day, 'units', rest.units, 'jobs', asked - #news,
    'model', job_at(1).model, 'key', key)
  held_day = day
  local batch = job_at(1).batch
  if batch ~= '' then redis.call('HSET', PREFIX .. 'batch:' .. batch, 'tenant', tenant, 'expected', LIST.total) end
end
if held_day then redis.call('ZADD', PREFIX .. 'holds', now + LIST.keep_ms, list) end

-- Order among jobs of the same millisecond: each arrives 1/1024 ms after the one before, which a double holds exactly.
-- After the clock was set back arrivals go on from where they were, half as fast as it, until it has caught up: if they
-- stood still any head start would outweigh whatever came before.
local arrival_key, arrived_key = PREFIX .. 'arrival', PREFIX .. 'arrived'
local last_arrival = tonumber(redis.call('GET', arrival_key) or '0')
local passed = last_arrival > now and math.max(0, now - tonumber(redis.call('GET', arrived_key) or now)) or 0

local function next_arrival()
  last_arrival = math.max(now, last_arrival + math.max(1 / 1024, passed / 2))
  passed = 0
  return exact(last_arrival)
end

local function store(new)
  local record = job_key(new.id)
  local arrival = next_arrival()
  redis.call('HSET', record, 'state', 'QUEUED', 'tenant', tenant, 'lane', new.lane, 'cost', new.cost, 'work', new.work,
    'head_start', new.head_start, 'created', now, 'arrival', arrival, 'deadline', now + new.deadline_ms, 'day', day, 'epoch', 0,
    'max_attempts', new.max_attempts, 'request', new.request, 'retention', new.retention,
    'record_retention', ARGV[10])
  if new.model ~= '' then
    redis.call('HSET', record, 'model', new.model)
    redis.call('SADD', PREFIX .. 'models', new.model)
  end
  if key ~= '' then redis.call('HSET', record, 'key', key) end
  for name, value in pairs(new.extras) do redis.call('HSET', record, name, value) end
  if new.fingerprint ~= '' then redis.call('HSET', record, 'fingerprint', new.fingerprint) end
  if new.fingerprint ~= '' and not new.shown and free_hits <= 0 then redis.call('HSET', record, 'pays', 1) end
  if new.metadata ~= '{}' then redis.call('HSET', record, 'metadata', new.metadata) end
  if new.idempotency_key ~= '' then
    redis.call('SET', idempotency_name(new), new.body_hash .. '|' .. new.id, 'PX', ARGV[9])
  end
  if new.repeat_key ~= '' then redis.call('SET', repeat_name(new), now .. '|' .. new.id, 'PX', REPEAT_KEPT_MS) end
  redis.call('ZADD', PREFIX .. 'jobs:' .. tenant, arrival, new.id)
  if new.batch ~= '' then
    local counts = PREFIX .. 'batch:' .. new.batch
    redis.call('HSET', record, 'batch', new.batch)
    local number = redis.call('HINCRBY', counts, 'total', 1)  -- of all that ever were, so that those left stay in order
    if new.extras.again then redis.call('HINCRBY', counts, 'again', 1) end
    redis.call('HSET', counts, 'tenant', tenant)
    redis.call('PERSIST', counts)  -- all earlier rows may have been deleted (remove.lua)
    redis.call('ZADD', PREFIX .. 'batch_jobs:' .. new.batch, number, new.id)
  end
end

-- Its leader starts no later than this job would by itself, from now on or from when it is queued again: where a person waits
-- it leaves the batch lane, and it gets what it lacks of a head start.
local function lift(leader, job)
  local rises = job.lane == 'interactive' and leader.lane ~= 'interactive'
  local head_start = leader.arrival - (job.arrival - job.head_start)
  local gains = (rises or job.lane == leader.lane) and head_start > tonumber(leader.head_start)
  if not rises and not gains then return end
  if gains then leader.head_start = exact(head_start) end
  redis.call('HSET', job_key(leader.id), 'head_start', leader.head_start, unpack(rises and {'rises', 1} or {}))
  if leader.state ~= 'QUEUED' then return end
  dequeue(leader)
  if rises then rise(leader) end
  enqueue(leader)
end

local function follow(job, leader)
  local flight = leader.flight or leader.id
  redis.call('HSET', job_key(leader.id), 'flight', flight)
  redis.call('HSET', job_key(job.id), 'state', 'FOLLOWING', 'leader', leader.id, 'flight', flight)
  redis.call('ZADD', PREFIX .. 'fol:' .. flight, job.arrival, job.id)
  redis.call('ZADD', PREFIX .. 'deadline', job.deadline, job.id)
end

local function start(new)
  local leader = new.shown or leader_of(new)
  store(new)
  local job = read_job(new.id)
  if leader and not new.shown then free_hits = free_hits - 1 end
  -- A stream takes 4 kB from its first entry on; nobody watches the single rows of a list before they run.
  if new.lane == 'interactive' then emit_status(new.id, 'queued') end
  if not leader then
    if new.fingerprint ~= '' then redis.call('SET', PREFIX .. 'fp:' .. tenant .. ':' .. new.fingerprint, new.id) end
    enqueue(job)
    return {new.id, 'QUEUED', '0', ''}
  end
  if leader.state ~= 'SUCCEEDED' then
    lift(leader, job)
    follow(job, leader)
    return {new.id, 'FOLLOWING', '0', leader.id}
  end
  if ends_left <= 0 then  -- one call ends no more than so many: the reaper goes on
    follow(job, leader)
    mirror_success({flight = leader.flight or leader.id}, leader.picture, leader.id)
    return {new.id, 'FOLLOWING', '0', leader.id}
  end
  redis.call('HSET', job_key(new.id), 'leader', leader.id)
  share_picture(leader.picture, leader.id, new.id)
  succeed(job, leader.picture, true)
  return {new.id, 'SUCCEEDED', '0', leader.id}
end

local answer = {'ok'}
local at, hits = 0, 0
for index = 1, count do
  local one = {}
  if replays[index] then
    one = {replays[index][1], replays[index][2], '1', redis.call('HGET', job_key(replays[index][1]), 'leader') or ''}
  elseif not removed[index] then
    at = at + 1
    one = start(news[at])
    if one[4] ~= '' then hits = hits + 1 end
  end
  for _, value in ipairs(one) do answer[#answer + 1] = value end
end
if hits > 0 then redis.call('HINCRBY', PREFIX .. 'counts', 'dedup_hits', hits) end
if #news > 0 then redis.call('MSET', arrival_key, exact(last_arrival), arrived_key, now) end
if step == 'close' then close_hold(list) end
return answer

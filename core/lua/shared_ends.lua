-- Ends: each is settled exactly once.

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

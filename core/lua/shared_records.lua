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

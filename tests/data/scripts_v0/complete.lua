-- A finished picture -> SUCCEEDED, charged once. ARGV: id, token, picture JSON. Answer: 1, or 0 if fenced off.
-- The fence is the token of the latest claim: a late result is still taken while nobody claimed the job since.
local PACE_SHARE = 0.05
local job = read_job(ARGV[1])
local picture = ARGV[3]
if not job or job.token ~= ARGV[2] then return 0 end
if job.state == 'SUCCEEDED' then return 1 end
if TERMINAL[job.state] then return 0 end

-- How fast the service is: the mean time of a run, and between two ends while busy (of a unit of work).
local function measure()
  local now = server_ms()
  local kept = redis.call('HMGET', PREFIX .. 'pace', 'run_ms', 'gap_ms', 'ends', 'last')
  local ends = tonumber(kept[3] or '0')
  local share = math.max(PACE_SHARE, 1 / (ends + 1))
  local run = now - tonumber(job.started)
  local gap = (now - math.max(tonumber(kept[4] or '0'), tonumber(job.started))) / math.max(0.001, tonumber(job.work))
  local run_ms = tonumber(kept[1] or '0') * (1 - share) + run * share
  local gap_ms = tonumber(kept[2] or '0') * (1 - share) + gap * share
  redis.call('HSET', PREFIX .. 'pace', 'run_ms', exact(run_ms), 'gap_ms', exact(gap_ms), 'ends', ends + 1, 'last', now)
end

if job.state == 'RUNNING' then measure() end
if job.cancel and has_followers(job) then
  local first = redis.call('ZRANGE', PREFIX .. 'fol:' .. job.flight, 0, 0)[1]
  cancel_now(job)
  mirror_success(job, picture, first)
  return 1
end
succeed(job, picture)
mirror_success(job, picture, job.id)
return 1

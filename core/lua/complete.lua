-- A finished picture -> SUCCEEDED, charged once. ARGV: id, token, picture JSON, and what the worker
-- measured: JSON {stage: milliseconds}. Answer: 1, or 0 if fenced off.
-- The fence is the token of the latest claim: a late result is still taken while nobody claimed the job since.
local job = read_job(ARGV[1])
local picture = ARGV[3]
if not job or job.token ~= ARGV[2] then return 0 end
if job.state == 'SUCCEEDED' then return 1 end
if TERMINAL[job.state] then return 0 end

-- A picture that waited for the storage was measured when it was drawn.
if job.state == 'RUNNING' and not is_shelved(job) then measure(job) end
if job.cancel and has_followers(job) then
  cancel_now(job)
  mirror_success(job, picture, job.id, true)
  return 1
end
succeed(job, picture)
for stage, ms in pairs(cjson.decode(ARGV[4] or '{}')) do observe(stage, ms) end
mirror_success(job, picture, job.id)
return 1

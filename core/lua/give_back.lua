-- A draining worker returns a job it has not finished: RUNNING -> QUEUED, and the attempt does not count.
-- ARGV: id, token. Answer: 1, or 0 if fenced off.
local job = read_job(ARGV[1])
if not job or job.token ~= ARGV[2] then return 0 end
if job.state == 'QUEUED' then return 1 end
if job.state ~= 'RUNNING' then return 0 end
if job.cancel then
  cancel_as_leader(job)
  return 1
end
redis.call('HINCRBY', job_key(job.id), 'attempt', -1)
back_to_queue(job)
return 1

-- Stop a job for its owner. ARGV: id. Answer: the state it is in now (RUNNING: asked to stop), or nil if unknown.
local job = read_job(ARGV[1])
if not job then return false end
if TERMINAL[job.state] then return job.state end
if job.state == 'RUNNING' then
  if redis.call('HSETNX', job_key(job.id), 'cancel', 1) == 1 then emit_status(job.id, 'canceling') end
  return 'RUNNING'
end
cancel_as_leader(job)
return 'CANCELED'
